r"""The usual spellings of an answer: what frames it, and what stands for the same characters.

    unframed      an answer without code fences, emphasis, dollar signs, quotes, `\boxed{}`, {"answer": ...}, GLM's box tokens
                  and "The answer is", in English or Chinese
    DOUBT         words that deny, hedge or ask, which no answer holds that says one thing
    plain         LaTeX within a line of text as plain characters: `12\,\text{cm}` -> 12 cm

Both take time linear in the length of the text and raise for none.
"""

import json
import re

MAX_FRAMED = 20_000  # characters; a longer text is left as it is
_ROUNDS = 8  # frames within frames

_TO_ASCII = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " ", ord("。"): ".", ord("−"): "-"}
_TO_ASCII |= dict.fromkeys(map(ord, "‘’‛′＇"), "'") | dict.fromkeys(map(ord, "“”„″"), '"')

_PAIRS = [("<|begin_of_box|>", "<|end_of_box|>"), ("**", "**"), ("__", "__"), ("*", "*"), ("_", "_"), ("`", "`")]
_PAIRS += [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ('"', '"'), ("'", "'"), ("「", "」"), ("『", "』")]
_FENCE = re.compile(r"```[ \t]*(?:[A-Za-z]+[ \t]*(?=\n))?(?P<inside>[^`]*)```")
_COMMAND = re.compile(r"\\(?:boxed|fbox|text|textbf|textit|mathrm|mathbf|mathit|rm)\s*\{")
_BOLD = re.compile(r"(?<![\w*])\*\*(?=[^\s*])([^*\n]+)\*\*(?![\w*])")
_ANSWER_KEYS = ("answer", "final_answer", "final answer", "result", "choice")

# "So the correct answer is", "Final answer: option", "答案是"
ANSWER_IS = re.compile(
    r"(?:(?:(?:so|therefore|thus|hence|then|overall|finally|in conclusion|in summary)\b\s*[,:]?\s*)?"
    r"(?:(?:the|my|our)\s+)?(?:(?:final|correct|right|best|most likely|most appropriate)\s+)?"
    r"(?:answer|option|choice)(?:\s+(?:is|would be|should be|must be))?\s*[:\s]\s*){1,2}"
    r"|(?:(?:综上所述|综上|所以|因此|故)\s*[,:]?\s*)?(?:(?:正确|最终|最佳)的?)?(?:答案|选项|结果)\s*(?:应该|应当|应)?(?:选项|[是为选])?\s*[:]?\s*",
    re.IGNORECASE,
)
DOUBT = re.compile(
    r"\?|n't\b|\b(?:no|not|never|neither|nor|none|nobody|nothing|cannot|without|hardly|wait|if|whether|unless|except|excluding|"
    r"instead|rather than|other than|(?:any|every)thing but|all but|far from|maybe|perhaps|possibly|probably|might|may be|hard|"
    r"difficult|depends|un(?:sure|certain|clear|likely|able)|doubt\w*|wrong\w*|false\w*|fake|incorrect\w*|inaccura\w+|"
    r"mistake\w*|errors?|fail\w*|bad|worse|worst|less|least|opposite|reject\w*|discard\w*|avoid\w*|excluded|eliminat\w+|"
    r"rul(?:e|ed|ing) out)\b|[不没错或吗否]|非(?!常)|无法|除了|可能|也许",
    re.IGNORECASE,
)
SEEN = (
    r"(?:present|visible|found|detected|seen|shown|depicted|there|here|anywhere)?(?: ?\b(?:in|on|within|at|near) (?:the|this)"
    r"(?: \w+){1,5}| here| anywhere)?"
)
NO_SUCH = re.compile(  # No dogs are visible; There is no such object in the image
    r"(?:(?:there (?:is|are|was|were) |i (?:can )?(?:see|find|found) |the image (?:contains|has|shows) )?(?:no|not any)"
    r"|there (?:is|are|was|were)n't (?:an?|any)) "
    r"(?!is\b|was\b|(?:\w+ )?(?:idea|clue|doubt|way|answer|opinion|comment|information|evidence|matter|problem|one|body|"
    r"question|reason|fewer|less|more|longer|wonder|image|picture|photo|your)\b)"
    r"[\w'-]+(?: (?!but|that|is|are|was|were|on)[\w'-]+){0,4}?"
    rf"(?: (?:is|are|was|were|can be))?(?: match\w*| {SEEN})?\.?",
    re.IGNORECASE,
)
_THEREFORE = re.compile(
    r"(?:so|therefore|thus|hence|finally|overall|in conclusion|in summary"
    r"|(?:based on|according to|looking at|from|in) (?:the|this) [^\W\d_][\w ]{0,60})\s*[,:]\s*(?=\S)",
    re.IGNORECASE,
)


def ascii_signs(text: str) -> str:
    """Full-width letters, digits and punctuation, curly quotes and the minus sign as ASCII has them; one character each."""
    return text.translate(_TO_ASCII)


def unframed(answer: str) -> str:
    r"""What an answer says, without its frame: "**The answer is** $\boxed{B}$." -> B. White space within it stays."""
    text = answer.strip()
    if len(text) > MAX_FRAMED:
        return text
    text = _BOLD.sub(r"\1", ascii_signs(text))
    for _ in range(_ROUNDS):
        before, text = text, _once(text)
        if text == before:
            break
    return text


def _once(text: str) -> str:
    """One frame less, or the same text."""
    text = text.strip()
    if fenced := _FENCE.fullmatch(text):
        return fenced["inside"].strip()
    for opening, closing in _PAIRS:
        inside = text[len(opening) : -len(closing)]
        framed = len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing)
        if framed and opening not in inside and closing not in inside:
            return inside.strip()
    wrapper = _COMMAND.match(text)
    if wrapper and closing_brace(text, wrapper.end() - 1) == len(text) - 1:
        return text[wrapper.end() : -1].strip()
    if text.startswith("{") and text.endswith("}"):
        return _value_of_answer(text)
    if said := ANSWER_IS.match(text) or _THEREFORE.match(text):
        return text[said.end() :]
    return text.removesuffix(".").rstrip() if not text.endswith("..") else text


def _value_of_answer(text: str) -> str:
    """The value of {"answer": value}, where that is what the text is."""
    try:
        members = json.loads(text, parse_int=str, parse_float=str)
        named = [value for key, value in members.items() if key.strip().lower() in _ANSWER_KEYS]
    except (ValueError, RecursionError, AttributeError):
        return text
    return named[0].strip() if len(named) == 1 and isinstance(named[0], str) else text


def closing_brace(text: str, start: int) -> int:
    """Where the braces opened since `start` are all closed for the first time; -1 if they are not."""
    depth = 0
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0 and brace[0] == "}":
            return start + brace.start()
    return -1


# ---- LaTeX in plain text

_PLAIN = [
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox|textrm|mathit|operatorname)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\[dt]?frac\s*\{(-?[0-9.]+)\}\s*\{([0-9.]+)\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac\s*([0-9])([0-9])(?![0-9])"), r"\1/\2"),
    (re.compile(r"\^\s*(?:\{\s*)?\\circ\s*\}?"), "°"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "×"),
    (re.compile(r"\\(?:approx|simeq|sim)(?![A-Za-z])"), "≈"),
    (re.compile(r"\\q?quad(?![A-Za-z])|\\[,;:! ]|~"), " "),
    (re.compile(r"\\([%$&#_])"), r"\1"),
    (re.compile(r"(?<=[0-9])\{,\}(?=[0-9])"), ","),
]


def plain(text: str) -> str:
    """A line of text with LaTeX's ways to write spaces, text, fractions and signs as plain characters."""
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


# ---- Numbers in words

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
_ONES += "eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS = {word: value for value, word in enumerate(_ONES.split())}
NUMBER_WORDS |= {word: 10 * value for value, word in enumerate(_TENS.split(), 2)}
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6}
_WORD = rf"(?:{'|'.join(NUMBER_WORDS)})\b"
_SCALE = rf"(?:{'|'.join(_SCALES)})\b"
_IN_WORDS = re.compile(
    rf"\b(?:(?:a |one )?(?P<half>half)|(?:a (?={_SCALE}))?(?:(?!one of\b){_WORD}|(?<![0-9] ){_SCALE})"
    rf"(?:(?:[- ]| and ){{1,2}}(?:{_WORD}|{_SCALE})){{0,12}})\b",
    re.IGNORECASE,
)
_CHINESE = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_IN_CHINESE = re.compile(
    r"[零〇一二两三四五六七八九十百千]{1,9}(?=$|[.,]|[个只条张人位名辆本件头匹朵棵块支根台座把杯瓶碗双岁元度年厘米公])"
)


def in_digits(text: str) -> str:
    """A text with its numbers in English and Chinese words as digits: "two hundred and five cats" -> 205 cats."""
    return _IN_CHINESE.sub(_chinese_value, _IN_WORDS.sub(_english_value, text))


def _english_value(found: re.Match) -> str:
    if found["half"]:
        return "0.5"
    whole, part = 0, 0
    for word in re.split(r"[- ]+", found[0].lower()):
        if word in ("a", "and"):
            continue
        value = _SCALES.get(word) or NUMBER_WORDS[word]
        if word in _SCALES:
            part = max(part, 1) * value
            if value > 100:
                whole, part = whole + part, 0
        else:
            if part % 100 and not (part % 10 == 0 and part % 100 >= 20 and 0 < value < 10):
                return found[0]  # ten three
            part += value
    return str(whole + part)


def _chinese_value(found: re.Match) -> str:
    whole, digit = 0, None
    for sign in found[0]:
        if sign in _CHINESE:
            digit = _CHINESE[sign] if not digit else None
            if digit is None:
                return found[0]
        else:
            whole += (1 if digit is None else digit) * {"十": 10, "百": 100, "千": 1000}[sign]
            digit = None
    return str(whole + (digit or 0))
