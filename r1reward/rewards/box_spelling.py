"""Boxes as models write them around or beside JSON: in prose, in a fence, with single quotes, in parentheses, line by line.

Only `r1reward.rewards.boxes` reads with this, and only what is no JSON. Time is linear in the length of an answer.
"""

import json
import re
from typing import Any

from r1reward.rewards.spelling import DOUBT, NO_SUCH, SEEN, ascii_signs, unframed

MAX_LOOSE = 50_000  # characters of an answer that is no JSON
MAX_VALUES = 200  # JSON values that it may hold one after another
NOTHING = ("none", "null", "n/a", "na", "nil", "nothing", "empty", "无", "没有", "不存在", "{}", "")

_SAYS_NOTHING = re.compile(
    rf"{NO_SUCH.pattern}|(?:none|nothing|not)(?: {SEEN})?|none of (?:the|these|those) \w+(?: (?:are )?(?:match\w*|{SEEN}))?|n/a"
    rf"|[\w' -]{{1,60}} (?:is|are|was|were)(?: not|n't) (?:{SEEN}|(?:in|on) (?:the|this) (?:image|picture|photo|scene))"
    r"|(?:图中|图片中|图像中|图里)?(?:(?:没有|不存在|未检测到|未找到|未发现)(?!问题|办法|疑|把握|必要)(?:(?!在)[一-龥]){0,10}"
    r"|无(?:(?:任何|此|该|符合|匹配|相关|目标|物体|对象)[一-龥]{0,6})?)",
    re.IGNORECASE,
)
_AGAIN = re.compile(r"[.,;]\s+|\s+(?:because|since|as)\s+")
_FENCED = re.compile(r"```[ \t]*(?:[A-Za-z]+)?([^`]*)(?:```|$)")
_START = re.compile(r"[\[({](?=\s*[\[({\"'0-9.\-\]}xX])")
_TOKEN = re.compile(
    r"'(?P<single>[^'\"\\\n]{0,300})'(?=\s*[:,\]})])|(?P<double>\"[^\"\\\n]{0,300}\")|(?P<comma>,\s*(?=[\]})]))"
    r"|(?P<open>\()(?=\s*[-(\[0-9.])|(?P<close>(?<=[0-9)\]\s])\))|(?P<none>\bNone\b)|(?P<true>\bTrue\b)|(?P<false>\bFalse\b)"
)
_NAMES = re.compile(r"bbox_2d|box_2d|<\|[a-z_]{1,20}\|>")
_CORNER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?![:=]|[0-9. ])|-?[0-9]+(?:\.[0-9]+)?$")
_BARE = re.compile(  # 12, 30, 200, 180 and x1: 12, y1: 30, x2: 200, y2: 180
    r"(?:<[a-z_]{1,20}>)?\s*(?P<corners>(?:(?:[xy]_?(?:1|2|min|max)\s*[:=]\s*)?-?[0-9.]{1,20}(?:,\s*(?!$)|(?=\s*(?:$|<)))){4})\s*(?:</[a-z_]{1,20}>)?"
)
_LABEL = re.compile(r"[\s,;.*•-]{0,10}(?!(?:and|or)\b)(?P<label>[^\W\d_][^\W\d]*(?:[ '-][^\W\d]+){0,5})\s{0,3}:?\s{0,3}")
_WORDS_FOR = {"comma": "", "open": "[", "close": "]", "none": "null", "true": "true", "false": "false"}


def says_nothing(answer: str) -> bool:
    """Whether an answer says in words that there is nothing to be found: "None.", "N/A", "There are no such objects".

    What follows a comma or full stop must say so as well: "None, it is not there", but not "None, it is on the left".
    """
    text = " ".join(unframed(answer).rstrip(".!").split())
    if text.lower() in NOTHING:
        return bool(answer.strip(" \n\t`"))
    if len(text) > 200 or re.search(r"[0-9\[{]", text):
        return False
    return all(part.lower() in NOTHING or _SAYS_NOTHING.fullmatch(part) for part in _AGAIN.split(text))


def json_values(answer: str, decoder: json.JSONDecoder) -> list[tuple[str, Any]] | None:
    """The JSON values that stand in an answer one after another, each with the label before it ("cat: [...]"), or an empty one.

    None where there is none, or something is left over: a number, a value that is cut off, or words that deny.
    """
    if len(answer) > MAX_LOOSE:
        return None
    text = unframed(answer)
    fenced = _FENCED.findall(text)
    outside = [_FENCED.sub(" ", text)] if fenced else []
    if fenced:
        text = "\n".join(fenced)
    elif bare := _BARE.fullmatch(text):
        text = f"[{', '.join(_CORNER.findall(bare['corners']))}]"
    text = _TOKEN.sub(_as_json, ascii_signs(text))
    found, position = [], 0
    while start := _START.search(text, position):
        outside.append(text[position : start.start()])
        if len(found) == MAX_VALUES:
            return None
        try:
            value, position = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            return None
        label = _LABEL.fullmatch(outside[-1])
        found.append((label["label"] if label else "", value))
    around = " \n".join([*outside, text[position:]])
    left_over = re.search(r"[0-9\[\]{}`]|\bnull\b", _NAMES.sub("", around)) or DOUBT.search(around)
    return None if not found or left_over else found


def _as_json(found: re.Match) -> str:
    if found["single"] is not None:
        return json.dumps(found["single"])
    return found["double"] or _WORDS_FOR[found.lastgroup]
