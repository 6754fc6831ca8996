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
from r1reward.rewards.judges.rule import conclusion, with_numbers
from r1reward.rewards.spelling import DOUBT, unframed

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
_BARE = re.compile(  # a word only alone: "one is better" is not response 1
    r"[#(\[]{0,2}\s?(?:(?P<digit>[12])(?:\.0+)?[)\]]{0,2}(?=\s*[,:;!(\n–—>是]|\.(?!\d)|\s+(?:-|is|was|wins|because|since|as)\s|更|比|\s*$)"
    r"|(?P<word>one|two|first|second|1st|2nd|former|latter|一|二)[)\]]{0,2}[.!]?$)"
)
_DIGITS = [  # that stand for a response, in small letters
    (re.compile(r"(?<![\w.])([12])(?= (?:is|was|has|does|wins)\b)"), r"response \1"),
    (re.compile(r"\b(choose|chose|pick|select|prefer|with|it is|it's) ([12])(?=$|[.,;!]| because)"), r"\1 response \2"),
    (
        re.compile(r"\b(?:better|best|winner|preferred|choice|preference|pick)(?: \w+)?(?: is|:) ([12])(?=$|[.,;!]| because)"),
        r"better is response \1",
    ),
    (re.compile(r"response ([12]) ?> ?(?:response )?(?!\1)([12])$"), r"response \1 is better than response \2"),
]
_NAMED = re.compile(r"response ([12])(?!\.?\d|\w)")
_LEAD = re.compile(
    r"(?:(?:so|therefore|thus|hence|overall|finally|in conclusion|in summary)[ ,:]+)*"
    r"(?:(?:it(?:'s| is| would be| must be)|i(?:'d| would| will)? (?:say|think|believe)|"
    r"(?:the |my |final )?(?:choice|verdict|winner|preference|pick|preferred|better|best)(?: response)?(?: is)?)[ ,:]+)?"
)
_ALONE = re.compile(r"[)\]]?\s*(?:$|[.,:;!(\n–—-]|(?:because|since|as|due to)\b)")
_BECAUSE = r"\b(?:because|since|as it|given that|due to)\b|因为"
_BOTH = re.compile(
    r"\b(?:both|either|or|tie|equal(?:ly)?|same|beaten|outperformed|inferior|weaker|poor|los(?:es|t)|lacks?)\b|都"
)


def choice_in(answer: str) -> int | None:
    """The response that the inside of an answer block names, 1 or 2; None if it names both or neither, denies, doubts or asks.

    One of the two is named alone, by its number or as the first or second, and a reason may follow ("2, because it is right");
    or in a sentence that concludes in its favour (`conclusion`, the embedded judge's reading): "Response 2 is better than
    response 1". Other numbers may stand beside "response 2", but not beside a bare 2.
    """
    text = unframed(answer)
    if len(text) > MAX_CHOICE:
        return None
    text = text.replace("*", "").lower().strip()
    bare = _BARE.match(text)
    if bare:
        text = f"response {bare['digit'] or _WORDS[bare['word']]}{text[bare.end() :]}"
    text = " ".join(with_numbers(text).split())
    for pattern, named in _DIGITS:
        text = pattern.sub(named, text)
    named = _NAMED.search(text)
    if not named:
        return None
    choice, lead, rest = int(named[1]), text[: named.start()], text[named.end() :]
    claim = re.split(rf"{_BECAUSE}|(?:[,;.]|\b(?:and|while|whereas|but))(?: \w+)? response {3 - choice}\b", text, maxsplit=1)[0]
    numbers = set(re.findall(r"[0-9]+", _NAMED.sub("", claim))) - {named[1]}
    if DOUBT.search(claim) or _BOTH.search(claim) or (numbers and bare) or str(3 - choice) in numbers:
        return None
    said = conclusion(text)
    if said is None and {found[1] for found in _NAMED.finditer(text)} == {named[1]}:
        return choice if _LEAD.fullmatch(lead) and _ALONE.match(rest) else None
    return choice if said == choice else None
