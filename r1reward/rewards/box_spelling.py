"""Boxes as models write them around or beside JSON: in prose, in a fence, with single quotes, in parentheses, line by line.

Only `r1reward.rewards.boxes` reads with this, and only what is no JSON. Time is linear in the length of an answer.
"""

import json
import re

from r1reward.rewards.spelling import ascii_signs, unframed

MAX_LOOSE = 50_000  # characters of an answer that is no JSON
MAX_VALUES = 200  # JSON values that it may hold one after another
NOTHING = ("none", "null", "n/a", "na", "nil", "nothing", "empty", "无", "没有", "不存在", "{}", "")

_SAYS_NOTHING = re.compile(
    r"(?:there (?:is|are|was|were) |i (?:see|find|found) |the image (?:contains|has|shows) )?"
    r"(?:no\b(?! (?:idea|clue|doubt|way|answer|problem|one knows))|none\b|nothing\b|n/a\b)"
    r"|(?:no (?:such )?)?(?:objects?|the objects?|it) (?:is|are|was|were) not (?:present|visible|found|there|in)\b"
    r"|not (?:found|present|visible)\b|(?:图中|图片中|图像中)?(?:没有|无|不存在|未检测到|未找到)",
    re.IGNORECASE,
)
_BUT = re.compile(r"\b(?:but|except|however|only|unless|other than|sure|maybe|perhaps)\b|\?|但", re.IGNORECASE)
_FENCED = re.compile(r"```[ \t]*(?:[A-Za-z]+)?([^`]*)(?:```|$)")
_START = re.compile(r"[\[({](?=\s*[\[({\"'0-9.\-\]}xX])")
_TOKEN = re.compile(
    r"'(?P<single>[^'\"\\\n]{0,300})'(?=\s*[:,\]})])|(?P<double>\"[^\"\\\n]{0,300}\")|(?P<comma>,\s*(?=[\]})]))"
    r"|(?P<open>\()(?=\s*[-(\[0-9.])|(?P<close>(?<=[0-9)\]\s])\))|(?P<none>\bNone\b)|(?P<true>\bTrue\b)|(?P<false>\bFalse\b)"
)
_WORDS_FOR = {"comma": "", "open": "[", "close": "]", "none": "null", "true": "true", "false": "false"}


def says_nothing(answer: str) -> bool:
    """Whether an answer says in words that there is nothing to be found: "None.", "N/A", "There are no such objects"."""
    text = " ".join(unframed(answer).rstrip(".!").split())
    if text.lower() in NOTHING:
        return bool(answer.strip(" \n\t`"))
    return len(text) <= 200 and not re.search(r"[0-9\[{]", text) and bool(_SAYS_NOTHING.match(text)) and not _BUT.search(text)


def json_texts(answer: str) -> list[str] | None:
    """The JSON values that stand in an answer one after another, as JSON; None where there is none, or something is left over:
    a number, a value that is cut off.
    """
    if len(answer) > MAX_LOOSE:
        return None
    text = unframed(answer)
    fenced = _FENCED.findall(text)
    if fenced:
        outside = _FENCED.sub(" ", text)
        if re.search(r"[0-9\[{`]", outside):
            return None
        text = "\n".join(fenced)
    text = _TOKEN.sub(_as_json, ascii_signs(text))
    found, position = [], 0
    while start := _START.search(text, position):
        if re.search(r"[0-9\[\]{}]", _without_names(text[position : start.start()])) or len(found) == MAX_VALUES:
            return None
        try:
            _, position = json.JSONDecoder(parse_int=float).raw_decode(text, start.start())
        except (ValueError, RecursionError):
            return None
        found.append(text[start.start() : position])
    return None if not found or re.search(r"[0-9\[\]{}]", text[position:]) else found


def _as_json(found: re.Match) -> str:
    if found["single"] is not None:
        return json.dumps(found["single"])
    return found["double"] or _WORDS_FOR[found.lastgroup]


def _without_names(text: str) -> str:
    return re.sub(r"bbox_2d|box_2d|<\|[a-z_]{1,20}\|>", "", text)
