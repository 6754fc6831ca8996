"""Consistency judges: do they agree, the reasoning and the verdict that follows it?

A consistency judge is not the reward model. It sees the reasoning text and the choice, not the images, the question
or the right answer, and only says whether the text argues for that choice.
"""

import re
from typing import Protocol


class ConsistencyJudge(Protocol):
    """Anything that can be called like this: a rule, a local model, a client of a model server."""

    def __call__(self, reasonings: list[str], choices: list[int]) -> list[float | None]:
        """One opinion per row: 1.0 the reasoning supports the choice, 0.0 it does not, None it could not be told
        (neutral).

        Args:
            reasonings: Reasoning texts, without tags.
            choices: The response, 1 or 2, that each text was followed by.
        """
        ...


class RuleJudge:
    """The embedded judge, without a model: finds the last conclusion in the reasoning and compares it with the choice.

    It knows the usual ways to conclude in English (see `conclusion`) and nothing of what the text says otherwise: an
    argument without such a sentence is "could not be told".
    """

    def __call__(self, reasonings: list[str], choices: list[int]) -> list[float | None]:
        favoured = [conclusion(reasoning) for reasoning in reasonings]
        return [None if f is None else float(f == choice) for f, choice in zip(favoured, choices, strict=True)]


def conclusion(reasoning: str) -> int | None:
    """The response, 1 or 2, that the last conclusion in the text favours; None if there is none or it takes no side.

    What counts, in any case of letters:

        Response 1 is [clearly, ...] better / fits / is not wrong                 favours 1
        Response 1 is worse / is not correct / does not match / is less accurate  favours 2
        I choose / prefer / pick / go with response 2                             favours 2; after "not", 1
        The better one / my choice / the answer is [not] response 2               favours 2 (1)
        Both are right / neither fits                                             takes no side

    "If", "whether" or "is" in front ("is response 1 better?") makes it no statement. Time is linear in the length of
    the text.
    """
    favoured = None
    for match in _STATEMENT.finditer(" ".join(reasoning.replace("\u2019", "'").split())):
        found = match.groupdict()
        if found["supposed"]:
            continue
        if found["no_side"]:
            favoured = None
            continue
        number = int(found["claimed"] or found["chosen"] or found["named"])
        against = bool(found["bad"]) + bool(found["refused"]) + bool(found["blamed"]) + bool(found["denied"])
        against += sum(word in _NEGATIONS for word in (found["between"] or "").lower().split())
        favoured = number if against % 2 == 0 else 3 - number  # two negations cancel: "is not wrong"
    return favoured


_NEGATIONS = ("not", "never", "less", "least", "hardly", "cannot", "can't", "isn't", "wasn't", "doesn't")
_LINKS = (
    "is|was|are|were|seems|appears|looks|does|do|the|a|an|also|clearly|much|more|most|far|slightly|even|as|so|still|"
    "therefore|thus|overall|indeed|actually|factually|completely|simply"
)
_BETWEEN = rf"(?: (?:{_LINKS}|{'|'.join(_NEGATIONS)})){{0,5}}"
_GOOD = (
    "better|best|right|correct|accurate|preferred|preferable|superior|stronger|faithful|good|true|winner|fits?|match(?:es)?|"
    "agrees?|wins?|beats?|outperforms?"
)
_BAD = (
    "worse|worst|wrong|incorrect|inaccurate|inferior|weaker|mistaken|false|bad|fails?|loses?|contradicts?|hallucinates?|"
    "disagrees?"
)
_CHOOSE = r"(?:choose|chose|pick|select|prefer|favou?r|go with|going with)"
_NOUN = r"(?:response|answer|option|candidate)"

# Each alternative is one way to conclude. The text has single spaces and every repetition is bounded: linear time.
_STATEMENT = re.compile(
    rf"\b(?P<no_side>both|neither)(?: of)?(?: the| these)?(?: {_NOUN}s?| them)?{_BETWEEN} (?:{_GOOD}|{_BAD})\b"
    rf"|(?P<supposed>\b(?:if|whether|is) )?\b{_NOUN} #?(?P<claimed>[12])\b(?P<between>{_BETWEEN}) "
    rf"(?:{_GOOD}|(?P<bad>{_BAD}))\b"
    rf"|(?P<refused>(?:\bnot|n't|\bnever|\bcannot) )?\b{_CHOOSE} (?:the )?{_NOUN} #?(?P<chosen>[12])\b"
    rf"|\b(?:{_GOOD}|choice|pick|verdict|answer|(?P<blamed>{_BAD})) (?:(?:one|choice|{_NOUN}) )?"
    rf"is (?:clearly |therefore )?(?P<denied>not )?{_NOUN} #?(?P<named>[12])\b",
    re.IGNORECASE,
)
