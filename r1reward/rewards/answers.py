"""Rewards for short answers, VLM-R1's accuracy methods: choices, yes or no, strings, numbers, similarity.

    function           VLM-R1's method      value
    multiple_choice    mcq                  0 or 1
    yes_no             yes_no               0 or 1
    exact              all_match            0 or 1
    number             within `default`     0 or 1
    fuzzy              within `default`     0 to 1
    default            default              0 or 1; 0 to 1 where it comes to `fuzzy`

All have the form `f(text, solution, semantics) -> Score`. strict reads the answer block at the end of the text, in which an
answer may be framed and worded in the usual ways (`r1reward.rewards.spelling`): several answers, or an answer in passing, are
none. released reads what the functions of `grpo_jsonl.py` that each docstring names would read: the first or last answer
block, and without one the whole text.

A solution may stand in an answer block, as in VLM-R1. One that cannot be read raises a ValueError, with both semantics. No text
raises, and all take time linear in its length.
"""

import re
import unicodedata

from rapidfuzz.distance import Indel

from r1reward.rewards import blocks, mathematics
from r1reward.rewards.choices import Choice, multiple_choice, read_option, released_choice, yes_no
from r1reward.rewards.mathematics import released_text, solution_text
from r1reward.rewards.numbers import number, read_quantity, released_number
from r1reward.rewards.score import RELEASED, Score, check_semantics, shown
from r1reward.rewards.spelling import DOUBT, ascii_signs, unframed
from r1reward.rewards.units import unit_name

REJECTIONS = (
    "not_a_choice",  # multiple_choice: no single letter, or one that more follows than an option's text
    "not_yes_or_no",  # yes_no: it does not begin with either
    "ambiguous",  # multiple_choice, yes_no: more than one of them
    "not_a_number",  # number: no number, or more than that and a unit
    "other_unit",  # number: a unit that is not the solution's
) + mathematics.REJECTIONS  # default: where it comes to mathematics

MAX_SOLUTION = 10_000  # characters; comparing texts takes time in proportion to the product of their lengths
MAX_LENGTH_RATIO = 4  # of an answer to the solution: texts of such lengths cannot be equal, nor their similarity above 0.4


# ---- Texts


def exact(text: str, solution: str, semantics: str = "strict") -> Score:
    """1.0 if the answer is the solution letter by letter, else 0.0.

    strict: capital and small letters are the same (Unicode case folding), so are runs of white space, the two ways to write an
    accented letter (NFC), straight and curly quotes, t-shirt and tshirt, ice-cream and ice cream, 2 and two. A frame ("**a
    cat**", "Answer: a cat"), an article at the beginning, a full stop or exclamation mark at the end and a short beginning of
    a sentence ("The animal is a cat.") are left out. Not NFKC, which takes 10⁵ for 105.

    released: as `all_match_reward`. The last answer block or else the whole text, in small letters, without white space around
    and full stops at the end; other white space must be the same, except for line ends.

    Raises:
        ValueError: If there is nothing in the solution to compare with, or more than `MAX_SOLUTION` characters.
    """
    check_semantics(semantics)
    truth = _checked_text(solution)
    if semantics == RELEASED:
        return Score(float(released_text(text) == released_text(solution)))
    read = blocks.read_answer(text)
    if read.rejection:
        return Score(0.0, read.rejection)
    return Score(float(_is_same(read.answer, truth)))


def fuzzy(text: str, solution: str, semantics: str = "strict", *, floor: float = 0.5) -> Score:
    """How similar the answer is to the solution, between 0.0 and 1.0, which only an equal answer gets.

    The similarity is twice the length of the longest common subsequence of characters divided by the sum of both lengths
    (rapidfuzz's normalised Indel similarity, the same as `Levenshtein.ratio` of the released code).

    strict: 1.0 where `exact` pays. A similarity below `floor` earns nothing, as in ANLS (arXiv 1905.13648): two
    unrelated words often share a third of their letters, and any answer would be paid.

    released: as the last branch of `default_accuracy_reward`, without a floor, on texts as `exact` with `released` reads them.

    Args:
        floor: strict: the least similarity that earns something, between 0 and 1.

    Raises:
        ValueError: As `exact`; and if `floor` is out of range.
    """
    check_semantics(semantics)
    if not 0 <= floor <= 1:
        raise ValueError(f"the floor of the similarity must be between 0 and 1, got {floor!r}")
    truth = _checked_text(solution)
    if semantics == RELEASED:
        return Score(Indel.normalized_similarity(released_text(text), released_text(solution)))
    read = blocks.read_answer(text)
    if read.rejection:
        return Score(0.0, read.rejection)
    if _is_same(read.answer, truth):
        return Score(1.0)
    return Score(Indel.normalized_similarity(_normal(read.answer, truth), truth, score_cutoff=floor))


def _checked_text(solution: str) -> str:
    """The solution as `exact` and `fuzzy` compare it."""
    solution = solution_text(solution)
    if len(solution) > MAX_SOLUTION:
        raise ValueError(f"the solution has {len(solution)} characters; expected at most {MAX_SOLUTION}")
    if not solution.strip(". \n\r\t"):
        raise ValueError(f"the solution is {shown(solution)}; expected a text")
    return _normal(solution, solution)


def _normal(text: str, solution: str) -> str:
    """A text as `exact` compares it; empty if it is too long to be like the solution.

    The length is limited first: normalisation takes quadratic time for a text of nothing but accents.
    """
    text = " ".join(text.split())
    if len(text) > MAX_LENGTH_RATIO * len(solution) + 1:
        return ""
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return text.removesuffix(".").strip()


_NOUN = r"[^\W\d_]+(?: [^\W\d_]+)?(?: (?:of|in|on|for|from|at) [^\W\d_]+(?: [^\W\d_]+){0,2}){0,2}"
_SENTENCE = re.compile(rf"(?:it|this|that|(?:the|its|my) {_NOUN})(?:'s| (?:is|are|was|were|says|reads|appears to be)) (?=\S)")


def _is_same(answer: str, truth: str) -> bool:
    """Whether an answer says the same as the truth, which `_normal` has read, in other usual signs or in a sentence."""
    if (said := _normal(answer, truth)) == truth:
        return True
    if len(answer) > MAX_LENGTH_RATIO * len(truth) + 100:
        return False
    said, true = (_normal(unframed(text).rstrip("!"), text) for text in (answer, truth))
    said = ascii_signs(said)
    sentence = _SENTENCE.match(said)
    within = said[sentence.end() :] if sentence and not re.search(rf"{DOUBT.pattern}|\bother\b", sentence[0]) else said
    if _signs(true) and _signs(true) in (_signs(said), _signs(within)):
        return True
    numbers = read_quantity(said), read_quantity(true)
    return numbers[0] is not None and numbers[0] == numbers[1]


def _signs(text: str) -> str:
    """Without an article, and without the choice between signs that mean the same."""
    text = re.sub(r"^(?:an?|the) (?=\S)", "", ascii_signs(text))
    text = re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_]{2})", " ", re.sub(r"(?<![^\W\d_])([^\W\d_])-(?=[^\W\d_]{2})", r"\1", text))
    return re.sub(r"\s*([(),])\s*", r"\1", text) if text.startswith("(") else text


# ---- By the kind of the solution


def default(text: str, solution: str, semantics: str = "strict") -> Score:
    r"""The reward that fits the solution.

    strict: by the first of these that the solution is.

        one capital letter, or a letter in brackets              `multiple_choice`
        an option with its text (A. The man in red)              the letter, the text, or both; initials are taken for one
        yes or no                                                `yes_no`
        a number, alone or with a unit of one word (3 dogs)      `number`
        with a backslash, $...$, ^ or =, or a fraction (1/2)     `mathematics`
        anything else                                            `fuzzy`, but 0.0 where the numbers in both texts differ

    released: as `default_accuracy_reward`. 1.0 if math_verify takes the answer (the last answer block or else the whole text)
    for equal to the solution; otherwise, with digits in the solution, equality of the numbers as `number`, or the similarity
    where they are none; otherwise, if the solution has a letter that `extract_choice` finds ("vitamin C"), equality of such
    letters; otherwise the similarity.

    Raises:
        ValueError: As the reward that is chosen; released: as `exact`.
    """
    check_semantics(semantics)
    bare = solution_text(solution)
    if semantics == RELEASED:
        _checked_text(solution)
        return _released_default(text, bare)
    if re.fullmatch(r"[A-Z]\.?|[(\[][A-Za-z][)\]]", bare):
        return multiple_choice(text, solution)
    if _OPTION.match(bare) and (option := read_option(bare)).text:
        return _option(text, option)
    if bare.lower().removesuffix(".") in ("yes", "no"):
        return yes_no(text, solution)
    is_mathematics = re.search(r"[\\=]|\$.+\$", bare) or re.fullmatch(r"-?[0-9]+ ?/ ?[0-9]+", bare)
    measured = None if is_mathematics else read_quantity(bare)
    if measured and (not measured[1] or unit_name(measured[1]) or " " not in measured[1]):
        return number(text, solution)
    if is_mathematics or "^" in bare:
        return mathematics.mathematics(text, solution)
    return _like(text, solution)


_OPTION = re.compile(r"[A-H][.):、]\s*[^\s.][^.]|[(][A-H][)]")


def _like(text: str, solution: str) -> Score:
    """`fuzzy`, but 0.0 where the numbers differ."""
    score = fuzzy(text, solution)
    same_numbers = score.value in (0, 1) or _numbers(blocks.read_answer(text).answer) == _numbers(solution)
    return score if same_numbers else Score(0.0)


def _option(text: str, option: Choice) -> Score:
    """An option with its text: its letter is right, and so is its text; a letter with another text counts as that text."""
    read = blocks.read_answer(text)
    if read.rejection:
        return Score(0.0, read.rejection)
    if _is_same(read.answer, _checked_text(option.text)):
        return Score(1.0)
    said = read_option(read.answer)
    if said.letter != option.letter:
        return Score(0.0, said.rejection)
    return _like(f"<answer>{said.text}</answer>", option.text) if said.text else Score(1.0)


def _numbers(text: str) -> list[str]:
    return re.findall(r"-?[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|-?[0-9]+(?:\.[0-9]+)?", text)


def _released_default(text: str, solution: str) -> Score:
    answer = blocks.last_answer(text)
    answer = (text if answer is None else answer).strip()
    equal, failure = mathematics.released_equal(answer, solution)
    if equal:
        return Score(1.0)
    similarity = Indel.normalized_similarity(released_text(answer), released_text(solution))
    choice = released_choice(solution)
    if re.search(r"\d", solution):
        paid = released_number(answer, solution)
        value = similarity if paid is None else paid
    else:
        value = float(released_choice(answer) == choice) if choice else similarity
    return Score(value, None if value else failure)
