"""The verdict: what a rollout's text says about which response is better.

Format and choice are two questions (arXiv 2505.02835 pays them in two terms). Two readings of the same text:

    strict      Format: the text is one think block, then one answer block with 1 or 2 in it, white space allowed around and
                between; all or nothing. Choice: what the last answer block says in any usual spelling ("Response 2",
                `\\boxed{2}`, "The second one is better."); an answer that names both or neither, denies or asks is none. An
                answer block inside the think block is a thought. The default everywhere.
    released    As the released code reads. Format: the whole text matches `<think>.*?</think><answer>.*?</answer>` with one
                opening tag of each kind and nothing between the blocks; what the answer says is not part of it. Choice: the
                last number in the first answer block ("Response 2" is 2), or, without an answer block, in the whole text.
                The released code hands that text to a mathematics grader instead, which takes "-2" and "Response #2" for
                something else than 2, as we do; its exceptions, which paid 1.0, we do not reproduce.

Both take time linear in the length of the text (counts and searches, no backtracking) and raise for no text.
"""

import re
from dataclasses import dataclass

from r1reward.rewards import blocks
from r1reward.rewards.blocks import ANSWER, ANSWER_END, THINK, THINK_END, concluding_answer, read_blocks, tag_fault
from r1reward.rewards.spelling import unframed

PATTERNS = ("strict", "released")

REJECTIONS = blocks.REJECTIONS + (  # released: closing tags may be many, white space between the blocks is text outside
    "answer_not_1_or_2",  # strict: the answer block holds something else, which may still be a choice
    "unreadable_choice",  # released: the format is right, but there is no number 1 or 2 to read
)

_NUMBER = re.compile(r"(?P<sign>[-#])?(?P<whole>[0-9]+)(?:\.(?P<fraction>[0-9]+))?")


@dataclass(frozen=True)
class Verdict:
    """What was read from one text.

    Attributes:
        choice: The response said to be better, 1 or 2; None if that could not be read.
        reasoning: The text that led to the choice, without tags. strict: the think block; released, and where the format is
            wrong: all that stands before the answer block. Empty if there is no choice.
        rejection: One of `REJECTIONS`, the first fault of the format; None if there is none.
    """

    choice: int | None
    reasoning: str
    rejection: str | None

    @property
    def ok(self) -> bool:
        """Nothing to object to: the format is right and there is a choice."""
        return self.rejection is None

    @property
    def formatted(self) -> bool:
        """The format is right, whether or not a choice could be read. With `strict` this is the same as `ok`."""
        return is_format(self.rejection)


def is_format(rejection: str | None) -> bool:
    """Whether a verdict with this rejection, one of `REJECTIONS` or None, keeps to the format."""
    return rejection in (None, "unreadable_choice")


def parse(text: str, pattern: str = "strict") -> Verdict:
    """The verdict in `text`, read by one of `PATTERNS` (see the module's head).

    Raises:
        ValueError: Unknown pattern. No text raises.
    """
    if pattern == "strict":
        return _strict(text)
    if pattern == "released":
        return _released(text)
    raise ValueError(f"unknown verdict pattern {pattern!r}; choose one of {PATTERNS}")


def _strict(text: str) -> Verdict:
    read = read_blocks(text)
    if read.rejection is None and read.answer in ("1", "2"):
        return Verdict(int(read.answer), read.reasoning, None)
    rejection = read.rejection or "answer_not_1_or_2"
    found = concluding_answer(text)
    choice = choice_in(found[1]) if found else None
    return Verdict(choice, _without_tags(found[0]) if choice else "", rejection)


def _released(text: str) -> Verdict:
    text = text.strip()
    rejection = _released_format_fault(text)
    before, _, rest = text.partition(ANSWER)
    answer, closed, _ = rest.partition(ANSWER_END)
    choice = _last_number(answer if closed else text)
    if choice is None:
        return Verdict(None, "", rejection or "unreadable_choice")
    return Verdict(choice, _without_tags(before), rejection)


def _without_tags(text: str) -> str:
    return text.replace(THINK, "").replace(THINK_END, "").strip()


def _released_format_fault(text: str) -> str | None:
    """Why the stripped text does not have the released code's format; None if it has."""
    framed = text.startswith(THINK) and text.endswith(ANSWER_END) and THINK_END + ANSWER in text
    if framed and text.count(THINK) == 1 and text.count(ANSWER) == 1:
        return None
    return tag_fault(text, counted=(THINK, ANSWER)) or "text_outside"


def _last_number(text: str) -> int | None:
    """1 or 2 if that is the value of the last number in the text ("Response 2", "2.0", "01", not "#2" or "-2"); else None."""
    numbers = list(_NUMBER.finditer(text))
    if not numbers or numbers[-1]["sign"]:
        return None
    last = numbers[-1]
    whole, fraction = last["whole"].lstrip("0"), (last["fraction"] or "").strip("0")
    return int(whole) if whole in ("1", "2") and not fraction else None  # as text: it may have a million digits


# ---- The choice in its usual spellings

MAX_CHOICE = 500  # characters of an answer: a choice, perhaps with a sentence about it

_WORDS = {"one": 1, "two": 2, "first": 1, "second": 2, "1st": 1, "2nd": 2, "former": 1, "latter": 2, "一": 1, "二": 2}
_NOUN = "(?:responses?|answers?|options?|candidates?|assistants?|repl(?:y|ies)|choices?|outputs?|models?)"
_NAMED = re.compile(
    rf"\b{_NOUN}\s*(?:number\b|no\.|[#:_])?\s*[(\[]?(?P<number>1|2|one\b|two\b)(?![\w]|\.[0-9])"
    rf"|\bthe\s+(?P<ordinal>first|second|1st|2nd|former|latter)\b|\b(?P<adjective>first|second|1st|2nd)\s+(?:one|{_NOUN})\b"
    r"|(?:回答|回复|回应|答案|响应|答复|选项|选择|选)\s*(?P<chinese>[12一二])|第\s*(?P<counted>[12一二])"
)
_BARE = re.compile(
    r"[#(\[]?\s*(?P<number>1|2|one|two|first|second|1st|2nd|一|二)(?:\.0+)?[)\]]?"
    r"(?=$|\s*[,:;(\n–—]|\.(?!\d)|\s+-\s|\s+(?:is|was|wins|because|since)\b|更|比较|\s*是)"
)
_DIGITS = re.compile(r"(?<![\w.])[0-9]+(?:\.[0-9]+)?")
_BECAUSE = re.compile(r"\b(?:because|since|as it|given that|due to)\b|因为")
_DOUBT = re.compile(
    r"\?|n't\b|\b(?:not|no|never|neither|nor|none|both|either|or|if|unless|unsure|uncertain|tie|equal(?:ly)?|same|wait|cannot|"
    r"wrong|worse|worst|incorrect|inferior|weaker|bad|poor|false|inaccurate|reject\w*|errors?|mistakes?|mistaken|fail\w*|"
    r"hallucinat\w*|loses|lost)\b|不|没|都|差|错|或|非|相同|一样"
)


def choice_in(answer: str) -> int | None:
    """The response that the inside of an answer block names, 1 or 2; None if it names both or neither, denies, doubts or asks.

    One of the two is named by its number or as the first or second, bare or in a sentence; a reason may follow ("2, because
    it is right"). Other numbers may stand beside "response 2", but not beside a bare 2.
    """
    text = unframed(answer)
    if len(text) > MAX_CHOICE:
        return None
    text = text.replace("*", "").lower().replace("、", ",")
    if _DOUBT.search(_BECAUSE.split(text, maxsplit=1)[0]):
        return None
    named = {_value(found) for found in _NAMED.finditer(text)}
    bare = _BARE.match(text)
    named |= {_value(bare)} if bare else set()
    numbers = {found[0] for found in _DIGITS.finditer(text)}
    if len(named) != 1:
        return None
    (choice,) = named
    if str(3 - choice) in numbers or (bare and numbers - {str(choice), f"{choice}.0"}):
        return None
    return choice


def _value(found: re.Match) -> int:
    (said,) = (part for part in found.groupdict().values() if part)
    return _WORDS.get(said) or int(said)
