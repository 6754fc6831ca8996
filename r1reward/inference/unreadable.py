"""A loud word where nearly nothing of what a model writes can be read, as soon as its first texts are there.

Rewards and accuracies near 0 look like a bad model; mostly it is a prompt that does not ask for the format, a limit of tokens
that cuts every text off, or a chat template that was not expected.
"""

import warnings
from collections import Counter
from collections.abc import Iterable

from r1reward.data.rows import PREFERENCE
from r1reward.inference.readings import read_verdict
from r1reward.rewards.blocks import read_answer

LEAST, LOOKED_AT, NEARLY_ALL = 8, 128, 0.9  # texts, texts, share
SHOWN = 400  # characters of the sample


class Unreadable(UserWarning):
    """Nearly all first texts of a model could not be read; the message has the commonest reason and a sample."""


def rejection_of(task: str, text: str, pattern: str) -> str | None:
    """Why nothing can be read in a text, or None: a preference row has no choice, one of another task neither an answer block
    nor a list, such as a box.

    Args:
        task: Of the row.
        text: What was written.
        pattern: How verdicts are read (`r1reward.inference.readings`).
    """
    if task == PREFERENCE:
        verdict = read_verdict(text, pattern)
        return verdict.rejection if verdict.choice is None else None
    return None if "[" in text else read_answer(text).rejection


class UnreadableWatch:
    """Watches the first texts of one run or evaluation; warns at most once.

    Args:
        whose: Of what, for the message: "the policy's rollouts".
    """

    def __init__(self, whose: str):
        self._whose = whose
        self._seen = 0
        self._faults: Counter[str] = Counter()
        self._sample: dict[str, str] = {}  # by fault, the first text that has it

    @property
    def done(self) -> bool:
        """Whether enough was seen."""
        return self._seen >= LOOKED_AT

    def saw(self, texts: Iterable[tuple[str, str | None]]):
        """One batch: each text, and why it could not be read, or None."""
        if self.done:
            return
        for text, fault in texts:
            self._seen += 1
            if fault is not None:
                self._faults[fault] += 1
                self._sample.setdefault(fault, text)
        bad = self._faults.total()
        if self._seen < LEAST or bad < NEARLY_ALL * self._seen:
            return
        fault, often = self._faults.most_common(1)[0]
        sample = self._sample[fault]
        shown = sample if len(sample) <= SHOWN else f"{sample[: SHOWN // 2]} [...] {sample[-SHOWN // 2 :]}"
        warnings.warn(
            f"{bad} of the first {self._seen} texts of {self._whose} are unreadable, {often} of them by {fault!r}: rewards and "
            "accuracies near 0 say nothing about the model. See whether the prompt asks for the format, whether the longest "
            f"completion is long enough, and what the chat template opens. A sample: {shown!r}",
            Unreadable,
            stacklevel=3,
        )
        self._seen = LOOKED_AT
