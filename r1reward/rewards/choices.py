"""Rewards for choices: the letter of an option, yes or no (see `r1reward.rewards.answers`)."""

import re
from collections import Counter

from r1reward.rewards import blocks
from r1reward.rewards.mathematics import solution_text
from r1reward.rewards.score import RELEASED, Score, check_semantics, shown
from r1reward.rewards.spelling import unframed

MAX_CHOICE = 1000  # characters of a choice with the option's text, or of yes or no with its sentence


def multiple_choice(text: str, solution: str, semantics: str = "strict") -> Score:
    r"""1.0 if the answer is the solution's letter, else 0.0.

    strict: the answer is one letter A-Z, capital or small, in or before a bracket or not: B, b, (B), B), B., **B**,
    `\boxed{B}`; before it "Option", "Answer:", "The answer is" or "I choose" may stand, and after it the option's text or
    "is correct", set off by a bracket, full stop, colon, comma or dash, or after a capital letter that is no word ("B cat", not
    "A cat"). What names another letter as well is ambiguous: "A or B", "AB", "A) cat, B) dog", "B. C".

    released: as `mcq_reward` with its `extract_choice`. In the first answer block or else the whole text, in capitals, every
    letter counts that follows no letter and that punctuation or the end follows; of several, one is chosen by points for its
    place and for words like "answer" near it. "(B)" and "B) cat" cannot be read; "I cannot say. So: B" can.

    Raises:
        ValueError: If the solution is not such a letter.
    """
    check_semantics(semantics)
    solution = solution_text(solution)
    letter, _ = read_choice(solution)
    if letter is None:
        raise ValueError(f"the solution is {shown(solution)}; expected the letter of one choice, such as B or (B)")
    if semantics == RELEASED:
        answer = blocks.first_answer(text)
        choice = released_choice((text if answer is None else answer).strip())
        return Score(float(choice is not None and choice == (released_choice(solution) or solution)))
    read = blocks.read_answer(text)
    if read.rejection:
        return Score(0.0, read.rejection)
    choice, rejection = read_choice(read.answer)
    return Score(float(choice == letter), rejection)


_CHOICE = re.compile(
    r"(?:I(?:'d| would| will)? (?:choose|chose|pick|select|go with|think)(?: it is| option)? )?(?:[我应该]{0,3}选择?\s?)?"
    r"(?P<open>[(\[{]{0,3})(?P<letter>[A-Za-z])(?P<close>[)\]}]{0,3})(?P<mark>[.:、,!]?)(?P<rest>.*)",
    re.IGNORECASE,
)
_ONLY_LETTERS = re.compile(r"(?:(?:[ ,/&+;]|and|or)*[(\[]?[A-Z][)\].]?)+")
_OTHER_CHOICE = re.compile(
    r"^(?: -)?[ ,;、]*(?:(?:or|and|nor|but)\b|not [(\[]?[A-Z]\b|[(\[]?[A-Za-z][)\]]?(?:[^\w']*$|[.,;:)/]))"  # B) or C; B. C
    r"|(?<![^\W_])(?:[(\[][A-Z][)\]]|[A-Z][):])"  # B) cat (C) dog
    r"|\bor [(\[]?[A-Z][)\]]?\.?$"  # B) cat or C
)
_DENIED = re.compile(r"[ ,]*(?:(?:is|was)(?: not|n't)\b|(?:is|seems) (?:wrong|incorrect|false)|不|错)")


def read_choice(answer: str) -> tuple[str | None, str | None]:
    """The letter of an answer, in capitals, and None; or None and a rejection."""
    found = _CHOICE.fullmatch(_bare(answer)) if len(answer) <= MAX_CHOICE else None
    if not found:
        return None, "not_a_choice"
    letter, mark, rest = found["letter"], found["mark"], found["rest"]
    is_set_off = found["close"] or mark == "、" or (mark and (not rest or rest.startswith(" ")))
    is_set_off = is_set_off or rest.startswith((" - ", " – ", " — ", " ("))
    is_set_off = is_set_off or (rest.startswith((" ", "是", "项")) and letter.isupper() and letter not in "AI")  # not "A cat"
    is_set_off = is_set_off or rest.startswith((" is correct", " is right", " is the ")) and letter.isupper()
    if (found["open"] and not found["close"]) or (rest and not is_set_off) or _DENIED.match(rest):
        return None, "ambiguous" if _ONLY_LETTERS.fullmatch(rest) else "not_a_choice"
    if (letter.islower() and mark == "!") or (mark == "," and letter in "aAiI" and not found["close"]):
        return None, "ambiguous" if _ONLY_LETTERS.fullmatch(rest) else "not_a_choice"
    if rest and _OTHER_CHOICE.search(rest):
        return None, "ambiguous"
    return letter.upper(), None


def _bare(answer: str) -> str:
    """An answer on one line without its frame and without emphasis."""
    text = unframed(unframed(answer).translate(_NO_EMPHASIS))
    return " ".join(text.split())


_NO_EMPHASIS = str.maketrans("", "", "*`$")
_RELEASED_CHOICE = re.compile(r"(?<![A-Z])([A-Z])(?=[.,?!:;]|$)")
_RELEASED_WORDS = ("答案", "选择", "正确", "是", "对", "认为", "应该", "觉得")
_RELEASED_WORDS += ("ANSWER", "CORRECT", "CHOOSE", "SELECT", "RIGHT", "THINK", "BELIEVE", "SHOULD")


def released_choice(text: str) -> str | None:
    """The letter that the released `extract_choice` finds, in capitals; None if there is none."""
    text = re.sub(r"\s+", " ", text.upper())
    counts = Counter(_RELEASED_CHOICE.findall(text))
    if len(counts) == counts.total() == 1:
        return next(iter(counts))
    points = {}
    for letter, count in counts.items():
        place = text.find(letter)  # the letter's first place of all, even within a word
        near = text[max(0, place - 20) : place + 20]
        bonus = sum(word in near for word in _RELEASED_WORDS)
        bonus += 2 * (place > 0.7 * len(text)) + (text[place + 1 : place + 2] in tuple("。.!！,，"))
        points[letter] = count * bonus
    return max(points, key=points.get, default=None)


# ---- Yes or no


def yes_no(text: str, solution: str, semantics: str = "strict") -> Score:
    """1.0 if the answer says what the solution says, yes or no; else 0.0.

    strict: the answer begins with the word ("Yes", "no.", "**Yes**", "The answer is no"), or with true, false or the Chinese
    words. A sentence may follow ("Yes, it is.", "No dogs are visible"), but not the other word ("no, yes"). "No idea", "none",
    "not" and "know" are no answers.

    released: as `yes_no_reward`. The first "yes" or "no" in the first answer block or else in the whole text, even within a
    word: "I do not know" is no. (Where the solution has neither, an answer with neither is paid; here such a solution
    raises.)

    Raises:
        ValueError: If the solution is not such an answer.
    """
    check_semantics(semantics)
    solution = solution_text(solution)
    truth, _ = _read_yes_no(solution)
    if truth is None:
        raise ValueError(f"the solution is {shown(solution)}; expected yes or no")
    if semantics == RELEASED:
        text = text.lower()
        answer = blocks.first_answer(text)
        found = re.search("yes|no", text if answer is None else answer)
        expected = re.search("yes|no", solution.lower())
        return Score(float(found is not None and found[0] == expected[0]))
    read = blocks.read_answer(text)
    if read.rejection:
        return Score(0.0, read.rejection)
    said, rejection = _read_yes_no(read.answer)
    return Score(float(said == truth), rejection)


_YES_NO = re.compile(
    r"(?:[(\[]?[A-Z][)\].:]\s+)?\{{0,2}"  # A. Yes
    r"(?:(?P<yes>yes|true|是的?|对的?|有)|(?P<no>no|false|不是的?|不对|没有|否|不))\}{0,2}"
    r"(?P<rest>$|[.,;:!。、—–)]|\s+-|\s+(?!(?:idea|way|clue|doubt|answer|opinion|comment|information|one|body|matter|problem)\b)\S|(?<=[一-龥]))",
    re.IGNORECASE,
)


def _read_yes_no(answer: str) -> tuple[str | None, str | None]:
    """yes or no and None; or None and a rejection."""
    if len(answer) > MAX_CHOICE:
        return None, "not_yes_or_no"
    bare = _bare(answer)
    words = set(re.findall(r"[^\W\d_]+", bare.lower()))
    if {"yes", "no"} <= words or {"true", "false"} <= words:
        return None, "ambiguous"
    found = _YES_NO.match(bare)
    if not found or found["rest"] == "?" or bare.endswith("?"):
        return None, "not_yes_or_no"
    return ("yes" if found["yes"] else "no"), None
