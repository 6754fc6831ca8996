r"""The reward for a number, with or without a unit (see `r1reward.rewards.answers`)."""

import re
from decimal import Decimal
from fractions import Fraction

from r1reward.rewards import blocks
from r1reward.rewards.mathematics import released_text, solution_text
from r1reward.rewards.score import RELEASED, Score, check_semantics, shown
from r1reward.rewards.spelling import DOUBT, ascii_signs, in_digits, plain, unframed
from r1reward.rewards.units import unit_name

MAX_NUMBER = 100  # characters of a number
MAX_SENTENCE = 300  # characters of a sentence that holds a number

Quantity = tuple[Fraction, str]  # the number and its unit, empty if there is none


def number(text: str, solution: str, semantics: str = "strict", *, tolerance: float = 0.0) -> Score:
    """1.0 if the answer is the solution's number, else 0.0.

    strict: the answer is one number: 12, -0.5, .5, 1,234.5, 1.5e-3, 1/2, twelve, $5, 50%, 12 cm, `1.5 \\times 10^{-3}`,
    5 million; or a sentence that says one, such as "There are 12 apples." or "about 12". One that denies, leaves open or
    changes it says none ("not 12", "12 or more", "twice 12"). Compared exactly: 0.10 is 0.1, and 9007199254740993 is not
    9007199254740992; nan and infinity are no numbers. A unit may be left out, on either side, but not be another one than the
    solution's: "12 cm" is 12, 12 cm and 12 centimeters, not 12 m. 50% is 50%, 0.5 and 50.

    released: as `numeric_reward`. Python's `float` of the last answer block or else the whole text, and of the solution; not a
    number where that fails ("12 cm", "1,234"). It takes 1_0 for 10, and large numbers that differ in the last digits for equal.

    Args:
        tolerance: strict: the largest difference that is right, as a part of the solution (0.05: ChartQA's relaxed accuracy,
            arXiv 2203.10244); at least 0, below 1.

    Raises:
        ValueError: If the solution is not such a number; and if `tolerance` is out of range.
    """
    check_semantics(semantics)
    if not 0 <= tolerance < 1:
        raise ValueError(f"the tolerance must be at least 0 and below 1, got {tolerance!r}")
    solution = solution_text(solution)
    truth = _said_number(solution)
    if truth is None:
        raise ValueError(f"the solution is {shown(solution)}; expected one decimal number, such as 12, -0.5, 1,234 or 12 cm")
    if semantics == RELEASED:
        paid = released_number(text, solution)
        return Score(paid or 0.0, "not_a_number" if paid is None else None)
    read = blocks.read_answer(text)
    if read.rejection:
        return Score(0.0, read.rejection)
    said = _said_number(read.answer, truth[1])
    if said is None:
        return Score(0.0, "not_a_number")
    if not _same_unit(said[1], truth[1]):
        return Score(0.0, "other_unit")
    allowed = Fraction(str(tolerance)) * abs(truth[0])
    return Score(float(any(abs(value - truth[0]) <= allowed for value in _values(*said, *truth))))


# ---- A number with its unit, perhaps in a sentence

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"(?:(?P<sign>[+-]) ?)?(?:(?P<currency>[$€£¥]) ?)?(?P<digits>{_DIGITS})"
    r"(?P<exponent>[eE][+-]?[0-9]{1,3}| ?[×x*] ?10 ?\^ ?\{? ?[+-]?[0-9]{1,3} ?\}?)?(?: ?/ ?(?P<below>[0-9]+))?"
    r"(?:(?: ?(?P<scale>(?:hundred|thousand|million|billion|trillion|dozen)\b|[百千万亿]))|(?:st|nd|rd|th)\b)?"
)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_SCALES |= {"百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
_SIGNS = {"%": "percent", "$": "dollar", "€": "euro", "£": "pound sterling", "¥": "yen", "'": "ft", '"': "in"}
_SIGN = re.compile(r" ?([%$€£¥]|['\"](?=$|[\s.,])|[°℃℉] ?[CF]?(?![^\W\d_]))")
_TIMES = re.compile(r"^[0-9+\-*/×÷(). ]+=(?=[-0-9 ]+$)")  # 6+6=12
_BEFORE = re.compile(  # what a sentence may say before its number; the last word of it counts: no "twice", no "than"
    r"(?:|.*(?:\b(?:is|are|was|were|equals|equal to|has|have|had|shows?|contains?|includes|depicts|see|"
    r"counte?d?|found|total,?|to be|in|"
    r"year|total of|measures|costs|weighs|reads|says)|'s|[:=≈~]|[有是为共计到]))\s*"
    r"(?:(?:about|approximately|approx\.?|around|roughly|nearly|almost|circa|ca\.|exactly|precisely|only|just|a total of|"
    r"[≈~=:(]|大约|约)\s*)*",
    re.IGNORECASE,
)
_WORD = re.compile(r" ?([^\W\d_][^\s\d,;:!?()]*)")
_BESIDE = (  # words that follow a noun: There are 12 apples in the picture
    "(?:in|on|at|for|from|with|by|near|inside|within|visible|present|shown|seen|old|long|tall|wide|high|deep|away|each|total|"
    "altogether|overall|outside|here|there|that|which|who|because|since)"
)
_NO_NOUN = re.compile(rf"(?:{_BESIDE}|of|to|are|is|was|were|and|or|but|as|out|off|than)$", re.IGNORECASE)
_CHANGED = re.compile(  # words after a number that make another one of it: 5 times is not 5
    r"\b(?:hal(?:f|ves)|thirds?|quarters?|(?:fif|six|seven|eigh|nin|ten)ths?|squared|cubed|factorial|times|doubled|tripled|divided|"
    r"multiplied|point|more|less|fewer|too|plus|minus|over|under|short|extra|hundreds?|thousands?|dozens?)\b|"
    r"^(?:分之|以[上下内]|多|余|几|倍|半|成|折|[十百千万亿])",
    re.IGNORECASE,
)
_AFTER = re.compile(
    rf"\s*(?:$|[.,;:!)](?:\s|$|(?<=[,;:])).*|{_BESIDE}\b.*|左右.*|of .*"
    rf"|(?:is|are|was|were) (?:{_BESIDE}|correct|right|the (?:correct |right )?(?:answer|total|number|result))\b.*)",
    re.IGNORECASE,
)
_LIGHT = set(
    [
        "so",
        "there",
        "s",
        "is",
        "are",
        "was",
        "were",
        "it",
        "i",
        "see",
        "count",
        "counted",
        "can",
        "we",
        "have",
        "a",
        "total",
        "of",
        "in",
        "the",
        "answer",
        "number",
        "about",
        "image",
        "picture",
    ]
)
_LIGHT |= set(["shows", "contains", "has", "exactly", "approximately", "only", "just", "around", "roughly", "nearly", "almost"])


def read_quantity(text: str) -> Quantity | None:
    """The number and the unit that a text consists of; None if it is something else."""
    read = _parts(text) if len(text) <= MAX_NUMBER else None
    return read[1] if read and not read[0] and not read[2] else None


def _said_number(answer: str, true_unit: str = "") -> Quantity | None:
    """The one number that an answer says; its unit is empty where it says none."""
    if len(answer) > MAX_SENTENCE:
        return None
    if unframed(answer).lower() in ("none", "无", "没有"):
        return Fraction(0), ""
    read = _parts(answer)
    if read is None:
        return None
    before, (value, unit), after = read
    claim = re.split(r"\b(?:because|since)\b", f"{before} {unit} {after}")[0]
    if not _BEFORE.fullmatch(before) or not _AFTER.fullmatch(after) or DOUBT.search(claim) or re.search(r"\w{31}", claim):
        return None
    if true_unit and not unit and not _is_measure(true_unit):  # the number of something else?
        words = re.findall(r"[^\W\d_]+", before.lower())
        if set(words) - _LIGHT and _head(true_unit) not in map(_head, words):
            return None
    return value, unit


def _parts(text: str) -> tuple[str, Quantity, str] | None:
    """The text before the only number, the number with its unit, and the text after them."""
    text = re.sub(r"\$([^$]*)\$", r"\1", plain(unframed(plain(ascii_signs(text)))).replace("**", ""))
    text = " ".join(in_digits(re.sub(r"\bper cent\b", "percent", text)).split()).rstrip(",;").removesuffix(".")
    text = re.sub(r"(?:(?<![0-9] )\b(?:minus|negative) |负)(?=[0-9])", "-", _TIMES.sub("", text))
    text = re.sub(r"([0-9]+) \(\1\)", r"\1", text[1:-1] if text.startswith("(") and text.endswith(")") else text).strip()
    found = _NUMBER.search(text)
    if not found or len(found[0]) > MAX_NUMBER or re.search(r"[^\W一-龥]$|[-+*/^×]$", before := text[: found.start()]):
        return None
    rest = text[found.end() :]
    sign = _SIGN.match(rest)
    if sign:
        unit, rest = _SIGNS.get(sign[1]) or unit_name(sign[1].translate(_DEGREES)), rest[sign.end() :]
    else:
        unit, rest = _noun(rest)
        is_glued = unit and rest is not None and text[found.end()] != " " and text[found.end()].isascii()
        if rest is None or (is_glued and not _is_measure(unit)):  # 3D, 5x
            return None
    if (
        re.search(r"[0-9]", rest)
        or re.match(r"[^\s.,;:)一-龥]|[.,][^\s]", rest)
        or _CHANGED.search(unit)
        or _CHANGED.match(rest.strip())
    ):
        return None
    power = re.search(r"[+-]?[0-9]+(?= ?\}?$)", found["exponent"] or "")
    value = Fraction(Decimal((found["sign"] or "") + found["digits"].replace(",", "") + (f"e{power[0]}" if power else "")))
    if found["below"]:
        if not int(found["below"]):
            return None
        value /= int(found["below"])
    value *= _SCALES.get(found["scale"], 1)
    return before.strip(), (value, " ".join(filter(None, (_SIGNS.get(found["currency"]), unit)))), rest.strip()


_DEGREES = {ord("℃"): "°C", ord("℉"): "°F"}


def _noun(rest: str) -> tuple[str, str | None]:
    """The unit or the noun, with its adjectives, with which a text begins, and what follows it."""
    words, ends = [], [0]
    while len(words) < 5 and (found := _WORD.match(rest, ends[-1])):
        word = found[1].rstrip(".")
        if _NO_NOUN.match(word) and not (word == "in" and not rest[found.end() :].strip(" .")):
            break
        words.append(word)
        ends.append(found.end() - len(found[1]) + len(word))
        if len(word) < len(found[1]):
            break
    for count in range(len(words), 0, -1):
        power = re.match(r" ?\^? ?\{?[23]\}?(?![0-9])", rest[ends[count] :])
        for ending in filter(None, (power, re.match("", ""))):
            if unit := unit_name(" ".join(words[:count]) + ending[0].replace(" ", "")):
                return unit, rest[ends[count] + ending.end() :]
    return " ".join(words), rest[ends[-1] :]


# ---- Comparing


def _is_measure(unit: str) -> bool:
    return bool(unit_name(unit)) or unit in _SIGNS.values()


def _head(unit: str) -> str:
    """The noun of a unit with adjectives, in the singular."""
    noun = unit.split()[-1].casefold()
    return re.sub(r"(?<=[^s]{3})s$|(?<=x|h)es$", "", noun) if len(noun) > 3 else noun


def _same_unit(said: str, true: str) -> bool:
    """One that is left out counts as the same, but for those that make another number of it: 12K, 12 pairs."""
    if not true and (said == "K" or said.startswith("pair")):
        return False
    if not said or not true or said == true or "percent" in (said, true) and not (said and true):
        return True
    if "degree" in (said, true) and {said, true} & {"celsius", "fahrenheit"}:
        return True
    if _is_measure(said) or _is_measure(true):
        return said == true
    return _head(said) == _head(true)


def _values(said: Fraction, said_unit: str, true: Fraction, true_unit: str) -> list[Fraction]:
    """What the answer may mean in the solution's terms: a percent sign may be left out, or stand for 1/100."""
    if said_unit == "percent" and not true_unit:
        return [said / 100] if abs(true) < 1 else [said, said / 100]
    if true_unit == "percent" and not said_unit:
        return [said, said * 100]
    return [said]


def released_number(answer: str, solution: str) -> float | None:
    try:
        return float(float(released_text(answer)) == float(released_text(solution)))
    except ValueError:
        return None
