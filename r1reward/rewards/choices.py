"""Rewards for choices: the letter of an option, yes or no (see `r1reward.rewards.answers`)."""

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from r1reward.rewards import blocks
from r1reward.rewards.mathematics import solution_text
from r1reward.rewards.score import RELEASED, Score, check_semantics, shown
from r1reward.rewards.spelling import DOUBT, NO_SUCH, unframed

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
    letter = _truth(solution, read_choice, "the letter of one choice, such as B or (B)")
    if semantics == RELEASED:
        solution, answer = solution_text(solution), blocks.first_answer(text)
        choice = released_choice((text if answer is None else answer).strip())
        return Score(float(choice is not None and choice == (released_choice(solution) or solution)))
    return _scored(text, read_choice, letter)


def _truth(solution: str, read: Callable, expected: str) -> str:
    solution = solution_text(solution)
    truth, rejection = read(solution)
    if rejection:
        raise ValueError(f"the solution is {shown(solution)}; expected {expected}")
    return truth


def _scored(text: str, read: Callable, truth: str) -> Score:
    block = blocks.read_answer(text)
    said, rejection = read(block.answer) if block.rejection is None else (None, block.rejection)
    return Score(float(said == truth), rejection)


_IS = r"(?:is|seems|looks|appears|must be|should be|has to be)(?: to be)?"
_CHOICE = re.compile(
    r"(?:I(?:'d| would| will)? (?:choose|chose|pick|select|go with|think|believe|say)(?: that)?(?: it is| it's)? "
    r"|(?:it|that|this)(?:'s| is| must be| should be| would be) |(?:definitely|clearly|certainly),? "
    r"|我?(?:应该|应|会)?选择?\s?)?"
    r"(?:(?:the )?(?:answer|option|choice|letter) )?"
    r"(?P<open>[(\[{]{0,3})(?P<letter>[A-Za-z])(?P<close>[)\]}]{0,3})(?P<rest>.*)",
    re.IGNORECASE,
)
_REASON = r"(?:[,.:;]? (?:because|since|as|due to|given)\b|[,.]?因为)"
_CONFIRMED = re.compile(  # B is the best answer, ...; B, because ...
    rf"(?:[,:]? ?{_IS} (?:clearly |definitely |indeed |obviously )?(?:the |my )?(?:(?:final|single|only|most) )?"
    r"(?:correct|right|best|true|answer|choice|accurate|likely|appropriate|suitable)(?: (?:answer|option|choice|one|fit))?"
    r"|,? (?:best |clearly |correctly )?(?:fits|match(?:es)?|describes|corresponds to|answers)(?: [\w' ]{1,60})?(?: best)?"
    rf"|(?:选项|项)?\s?[是为]?最?正?[确对]的?(?:答案|选项)?|选项|项)"
    rf"(?:$|[.!,;](?: |$)|(?={_REASON})|(?<=[一-龥]))|{_REASON}"
)
_SET_OFF = re.compile(  # what may stand between a letter and the option's text; of the weak ones no more than a comma
    r"(?P<strong>[.:](?: |(?=[A-Z][a-z]|[a-z]{2}|a |[0-9一-龥\"]))|、|(?<=[)\]}]) ?)"
    r"|(?P<weak> - | ?[–—] ?| ?\((?=[^()]*\)$)|,? )"
)
_VERB = r"(?:is|was|isn't|wasn't|would|could|can|can't|cannot|might|may|must|should|will|seems?|doesn't|does|did|has|be)\b"
_NO_TEXT = re.compile(  # how no option's text begins
    rf"{_VERB}|(?:and|or|nor|vs|versus|but|to|then|plus|also|as|not|no|if|than|minus|over|more|through)\b|[^\w\"'(]",
    re.IGNORECASE,
)
_ONLY_LETTERS = re.compile(r"(?:(?:[ ,/&+;-]|and|or)*[(\[]?[A-Z][)\].:]?)+")
_LETTER = r"[(\[]?(?P<letter>[A-Z])\b(?![.'’&-]?\w)"
_ANOTHER = re.compile(  # a second choice beside an option's text: B) cat (C) dog; B. C; B. The answer is C
    rf"(?<![^\W_])(?:[(\[](?P<bracketed>[A-Z])[)\]]|(?P<marked>[A-Z])[):])|^[\s,;]*(?P<first>[A-Za-z])[)\]]?(?:[^\w']*$|[.,;:)/])"
    rf"|\b(?i:answer|option|choice|choose|is|be|correct|wait|actually|no|not|or|than|vs\.?|rather)\b[\s,:.]{{0,3}}{_LETTER}"
)
_ANYWHERE = re.compile(
    r"(?<![\w.'’&-])(?:(?P<letter>[B-HJ-Z])(?![.'’&-]?\w)|(?P<a>A)(?=$|[.,;)]| (?:is|was|and|or)\b))"
    r"(?! (?:(?:is|was|does|do|has|can)(?:n't| ?not)|is wrong|is incorrect)\b)"  # B because C is wrong
)


class Choice(NamedTuple):
    """What an answer chooses: a letter, in capitals, with the option's text, empty where there is none; or a rejection."""

    letter: str | None
    text: str
    rejection: str | None


def read_option(answer: str) -> Choice:
    """The option that an answer chooses."""
    found = _CHOICE.fullmatch(_bare(answer)) if len(answer) <= MAX_CHOICE else None
    if not found or (found["open"] and not found["close"]):
        return Choice(None, "", "not_a_choice")
    letter, rest = found["letter"], found["rest"]
    is_name = letter.isupper() and (letter not in "AI" or found["open"])  # not "A cat"
    confirmed = _CONFIRMED.match(rest) if letter.isupper() or not rest.strip(".,:!、") else None
    set_off = _SET_OFF.match(found["close"][-1:] + rest, len(found["close"][-1:]))
    if not rest.strip(" .,:;!、"):
        return Choice(letter.upper(), "", None)
    text, others = "", _ANYWHERE
    if confirmed:
        is_read = not DOUBT.search(re.split(_REASON, rest, maxsplit=1)[0])
    elif set_off and (set_off["strong"] is not None or is_name or not set_off[0].isspace()):
        text = rest[set_off.end() - len(found["close"][-1:]) :].strip()
        is_read = not re.match(_VERB, text)
        if set_off["strong"] is not None:
            others = _ANOTHER
        else:
            is_read = is_read and not _NO_TEXT.match(text) and not DOUBT.search(text)
    else:
        is_read = False
    named = {next(filter(None, other.groups())).upper() for other in others.finditer(text or rest)} - {letter.upper()}
    if (named and (set_off or confirmed)) or _ONLY_LETTERS.fullmatch(rest):
        return Choice(None, "", "ambiguous")
    return (
        Choice(letter.upper(), text.removesuffix(")") if "(" in rest[:2] else text, None)
        if is_read
        else Choice(None, "", "not_a_choice")
    )


def read_choice(answer: str) -> tuple[str | None, str | None]:
    """The letter of an answer, in capitals, and None; or None and a rejection."""
    choice = read_option(answer)
    return choice.letter, choice.rejection


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
    truth = _truth(solution, _read_yes_no, "yes or no")
    if semantics == RELEASED:
        text = text.lower()
        answer = blocks.first_answer(text)
        found = re.search("yes|no", text if answer is None else answer)
        expected = re.search("yes|no", solution_text(solution).lower())
        return Score(float(found is not None and found[0] == expected[0]))
    return _scored(text, _read_yes_no, truth)


_SOMEBODY = r"(?:it|he|she|they|there|this|that|these|those|we|I|you)"
_BE = r"(?:is|are|was|were|do|does|did|can|could|has|have|had|will|would)"
_SET_APART = r"[)}]{0,2}(?:$|(?=[.,;:!](?!\s*[0-9])|\s+-\s|\s?[–—(]))"  # not "No. 1"
_CLAUSE = rf"(?=\s(?:{_SOMEBODY}|the|an?|both|all|some|my|his|her|its|their|two|because|since)\b|\sis (?:correct|right))"
_YES_NO = re.compile(
    r"(?:[(\[]?[A-Z][)\].:]\s+)?(?:it is )?[({]{0,2}(?:"  # A. Yes
    rf"(?P<yes>(?:yes|yeah|yep|yup|true)(?:{_SET_APART}|{_CLAUSE})|(?:是的?|对的?|有的?|正确)(?=$|[.,!;])"
    r"|是的(?![吗么话])(?=[一-龥]))"
    rf"|(?P<no>(?:no|nope|nah|false)(?:{_SET_APART}|{_CLAUSE})|{NO_SUCH.pattern}$"
    r"|(?:不是的?|不对|没有|否|不|错误?|无)(?=$|[.,!;])|没有(?!问题|疑|办法|把握|图|必要)(?=[一-龥]{1,8}$)))(?P<rest>.*)",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"\?|吗|\b(?:maybe|perhaps|possibly|probably|unsure|uncertain|unclear|depends|not really|kidding|actually|wait)\b"
    r"|\b(?:not|n't|cannot|can't|don't|hard|impossible|unable|difficult)(?: be| to| really)? (?:tell|say|know|determined?|"
    r"judge|decide|sure|certain|clear)\b|不(?:确定|清楚|知道|好说)|可能|也许|大概|无法"
)
_BOTH = re.compile(r"\b(?:yes|true)\b.*\b(?:no|false)\b\s*(?:$|[.,;:!?)/])|\b(?:no|false)\b.*\b(?:yes|true)\b", re.IGNORECASE)
_CONTRADICTED = {  # by what follows at once: "Yes, it is not", "No, it is"
    "yes": re.compile(rf"[\W]*(?:but )?(?:{_SOMEBODY} {_BE}(?:n't|(?: ?not))\b|(?:if|or|not)\b|不)", re.IGNORECASE),
    "no": re.compile(rf"[\W]*(?:{_SOMEBODY} {_BE}(?: (?:true|correct|right))?[.!]?$|(?:if|or)\b|[\W]*是)", re.IGNORECASE),
}


def _read_yes_no(answer: str) -> tuple[str | None, str | None]:
    """yes or no and None; or None and a rejection."""
    if len(answer) > MAX_CHOICE:
        return None, "not_yes_or_no"
    bare = _bare(answer)
    if _BOTH.search(bare):
        return None, "ambiguous"
    found = _YES_NO.match(bare)
    if not found or _HEDGED.search(bare.lower()):
        return None, "not_yes_or_no"
    said = "yes" if found["yes"] else "no"
    return (None, "ambiguous") if _CONTRADICTED[said].match(found["rest"]) else (said, None)
