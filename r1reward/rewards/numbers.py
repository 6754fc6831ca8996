r"""The reward for a number, with or without a unit (see `r1reward.rewards.answers`)."""

import re
from decimal import Decimal
from fractions import Fraction

from r1reward.rewards import blocks
from r1reward.rewards.mathematics import released_text, solution_text
from r1reward.rewards.score import RELEASED, Score, check_semantics, shown
from r1reward.rewards.spelling import NUMBER_WORDS, ascii_signs, plain, unframed
from r1reward.rewards.units import unit_name

MAX_NUMBER = 100  # characters of a number with its unit
MAX_SENTENCE = 300  # characters of a sentence that holds a number

Quantity = tuple[Fraction, str]  # the number and its unit, empty if there is none


def number(text: str, solution: str, semantics: str = "strict", *, tolerance: float = 0.0) -> Score:
    """1.0 if the answer is the solution's number, else 0.0.

    strict: the answer is one number: 12, -0.5, .5, 1,234.5, 1.5e-3, 1/2, twelve, $5, 50%, 12 cm, `1.5 \\times 10^{-3}`,
    5 million; or a sentence with one number in it, such as "There are 12 apples." or "about 12", that neither denies nor leaves
    open ("not 12", "12 or more"). Compared exactly: 0.10 is 0.1, and 9007199254740993 is not 9007199254740992; nan and infinity
    are no numbers. A unit may be left out, on either side, but not be another one than the solution's: "12 cm" is 12, 12 cm and
    12 centimeters, not 12 m. 50% is 50%, 0.5 and 50.

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
    truth = read_quantity(solution)
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


# ---- A number with its unit

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?) ?(?P<currency>[$€£¥]?) ?(?P<digits>{_DIGITS})"
    r"(?P<exponent>[eE][+-]?[0-9]{1,3}| ?[×x*] ?10 ?\^ ?\{? ?[+-]?[0-9]{1,3} ?\}?)?(?: ?/ ?(?P<below>[0-9]+))?"
    r"(?: ?(?P<scale>hundred|thousand|million|billion|trillion|dozen|万|亿)\b)?"
    r"(?P<gap> ?)(?P<unit>[^\W\d_][^0-9]*(?:(?<=\S)\^?\{?[23]\}?)?|[%°$€£¥][CF]?)?"
)
_CHANGE = re.compile(  # words that belong to the number: 5 times is not 5
    r"(?:hundred|thousand|million|billion|trillion|dozen|half|third|quarter|squared|cubed|times|or|and|to|out|of|plus|minus)s?\b",
    re.IGNORECASE,
)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_SCALES |= {"万": 10**4, "亿": 10**8}
_SIGNS = {"%": "percent", "°": "degree", "°C": "degree", "°F": "degree", "$": "dollar", "€": "euro", "£": "pound sterling"}
_SIGNS |= {"¥": "yen"}


def read_quantity(text: str) -> Quantity | None:
    """The number and the unit that a text consists of; None if it is something else."""
    if len(text) > MAX_NUMBER:
        return None
    text = plain(unframed(plain(ascii_signs(text))))
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    word, _, unit = text.partition(" ")
    for candidate, rest in ((text.lower(), ""), (word.lower(), unit)):
        if candidate in NUMBER_WORDS and not _CHANGE.match(rest) and not re.search(r"[0-9]", rest):
            return Fraction(NUMBER_WORDS[candidate]), unit_name(rest) or rest
    return _quantity(text)


def _quantity(text: str) -> Quantity | None:
    found = _NUMBER.fullmatch(text.removesuffix("."))
    if not found:
        return None
    unit = (found["unit"] or "").strip()
    known = _SIGNS.get(unit) or unit_name(unit)
    if unit and not known and ((not found["gap"] and unit.isascii()) or _CHANGE.match(unit)):
        return None  # 3D, 5x, 2nd
    power = re.search(r"[+-]?[0-9]+(?= ?\}?$)", found["exponent"] or "")
    value = Fraction(Decimal(found["sign"] + found["digits"].replace(",", "") + (f"e{power[0]}" if power else "")))
    if found["below"]:
        if not int(found["below"]):
            return None
        value /= int(found["below"])
    value *= _SCALES.get(found["scale"], 1)
    return value, " ".join(filter(None, (_SIGNS.get(found["currency"]), known or unit)))


# ---- A sentence with one number in it

_ABOUT = re.compile(
    r"(?:about|approximately|approx\.?|around|roughly|nearly|almost|circa|ca\.|exactly|[≈~=:]|大约|约)+ ?", re.IGNORECASE
)
_OPEN = re.compile(  # denied, or left open
    r"\?|n't\b|\b(?:not|no|never|neither|nor|none|cannot|without|wrong|incorrect|false|or|either|between|least|most|more|less|fewer|"
    r"over|under|above|below|up to|than|if|unless|maybe|perhaps|unsure|uncertain|don|minus|plus|times|half|dozens?|hundreds?|"
    r"thousands?|per cent of|divided|multiplied|except|squared|cubed|factorial|digits?|hexadecimal)\b|不|没|或|超过|至少|至多",
    re.IGNORECASE,
)
_RUN = re.compile(r"[0-9]+(?:[.,/][0-9]+)*|(?<![0-9])\.[0-9]+")
_BEFORE = re.compile(r"(?:^|[\s(=:≈\"'一-龥])([+-]?[$€£¥]?)$")  # no letter, no operator
_AFTER = re.compile(r"(?!\s*[-+*/^×!=<>])(?:$|[\s.,;:)\"'%°€£¥$一-龥])")
_NUMERAL = re.compile(
    rf"\b(?:{'|'.join(sorted((w for w in NUMBER_WORDS if w.isascii()), key=len, reverse=True))})\b", re.IGNORECASE
)


def _said_number(answer: str, true_unit: str) -> Quantity | None:
    """The one number that an answer says."""
    if (found := read_quantity(answer)) is not None:
        return None if _OPEN.search(found[1]) and not _is_measure(found[1]) else found
    if len(answer) > MAX_SENTENCE:
        return None
    text = plain(unframed(plain(ascii_signs(answer)))).replace("**", "").rstrip(",;.")
    if text.lower() in ("none", "无", "没有"):
        return Fraction(0), ""
    about = _ABOUT.match(text)
    if about and (found := read_quantity(text[about.end() :])) is not None:
        return found
    if (found := read_quantity(text)) is not None:
        return found
    if _OPEN.search(text) or re.search(r"\w{31}", text):
        return None
    numbers = list(_RUN.finditer(text)) or list(_NUMERAL.finditer(text))
    if len(numbers) != 1:
        return None
    before, rest = text[: numbers[0].start()], re.sub(r"^(?:st|nd|rd|th)\b", "", text[numbers[0].end() :])
    sign = _BEFORE.search(before[-3:])
    found = read_quantity(sign[1] + numbers[0][0]) if sign and _AFTER.match(rest) else None
    if found is None:
        return None
    unit = found[1] or _unit_after(rest)
    if true_unit and not unit and not _is_measure(true_unit):
        wanted = _singular(true_unit.split()[-1])
        if wanted not in {_singular(word) for word in re.findall(r"[^\W\d_]+", text)}:
            return None  # the number of something else
        unit = true_unit
    return found[0], unit


def _unit_after(rest: str) -> str:
    """The unit with which a text begins, the longest that is known; empty where it begins with none."""
    sign = re.match(r" ?(%|°[CF]?|[€£¥$])", rest)
    if sign:
        return _SIGNS[sign[1]]
    words = re.match(r"(?: ?[^\W\d_][^\s,.;:()]*){0,4}", rest)[0].split()
    known = (unit_name(" ".join(words[:count])) for count in range(len(words), 0, -1))
    unit = next(filter(None, known), "")
    return "" if unit == "in" and words[:1] == ["in"] else unit  # "12 in the picture"


# ---- Comparing


def _is_measure(unit: str) -> bool:
    return bool(unit_name(unit)) or unit in _SIGNS.values()


def _singular(word: str) -> str:
    word = word.casefold()
    return word[:-1] if word.endswith("s") and len(word) > 3 else word


def _same_unit(said: str, true: str) -> bool:
    """One that is left out counts as the same; a noun may come with adjectives."""
    if not said or not true or said == true or "percent" in (said, true) and not (said and true):
        return True
    if _is_measure(said) or _is_measure(true):
        return said == true
    return _singular(true.split()[-1]) in {_singular(word) for word in re.findall(r"[^\W\d_]+", said)}


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
