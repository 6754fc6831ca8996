"""The reward model at work: it judges rows and returns parsed verdicts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from r1reward.data.rows import PreferenceRow, Row
from r1reward.inference.backend import Backend, Completion, PromptRejected, Sampling
from r1reward.inference.readings import read_verdict
from r1reward.inference.unreadable import UnreadableWatch, rejection_of
from r1reward.rewards.verdict import Verdict

TRIED = 8  # prompts, at most, to see whether images are seen


@dataclass(frozen=True)
class Judgement:
    """One verdict on one row in one order of its responses.

    Attributes:
        text: What the reward model wrote.
        verdict: The parsed text.
        tokens: Its length in tokens, the end token included; 0 if the server does not report it.
        failure: Why there is no text (`Completion`); None where there is one.
    """

    text: str
    verdict: Verdict
    tokens: int
    failure: str | None = None


class RewardModel:
    """A vision-language model that compares two responses.

    Args:
        backend: What runs it.
        pattern: How a verdict is read (`r1reward.inference.readings`).
    """

    def __init__(self, backend: Backend, pattern: str = "strict"):
        self.backend = backend
        self.pattern = pattern
        self._first = UnreadableWatch("the reward model")

    def judge(
        self,
        rows: list[PreferenceRow],
        batch_size: int = 64,
        max_new_tokens: int = 1024,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> list[Judgement]:
        """Judge each row once, greedily, with the responses in the order that the row gives.

        Args:
            rows: The rows.
            batch_size: Rows per generated batch; rows are sorted by length first, so that little is padded.
            max_new_tokens: Longest completion in tokens.
            on_progress: Called with the number of rows just judged.

        Returns:
            One judgement per row, in the order of `rows`.
        """
        judgements: list[Judgement | None] = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].text()))
        sampling = Sampling(max_new_tokens)
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            batch = [rows[i] for i in indices]
            drawn = self.backend.complete(batch, 1, sampling, 0)
            for index, (judgement,) in zip(indices, self._judgements(batch, drawn), strict=True):
                judgements[index] = judgement
            on_progress(len(indices))
        return judgements

    def vote(self, rows: list[Row], votes: int, sampling: Sampling, seed: int) -> list[list[Judgement]]:
        """`votes` verdicts on each row of one batch (see `Backend.complete`)."""
        return self._judgements(rows, self.backend.complete(rows, votes, sampling, seed))

    def check_images(self, rows: Iterable[Row]):
        """See that the images of the first row that has any, and whose prompt is taken, are seen (`Backend.check_images`).

        Raises:
            ImagesNotSeen: They are not.
            PromptRejected: None of the first `TRIED` prompts with images is taken.
        """
        rejected = None
        for row in islice((row for row in rows if row.images), TRIED):
            try:
                return self.backend.check_images(row)
            except PromptRejected as error:
                rejected = error
        if rejected is not None:
            raise rejected

    def _judgements(self, rows: Sequence[Row], drawn: list[list[Completion]]) -> list[list[Judgement]]:
        self._first.saw(
            (one.text, rejection_of(row.task, one.text, self.pattern))
            for row, of_row in zip(rows, drawn, strict=True)
            for one in of_row
            if one.failure is None
        )
        return [
            [Judgement(one.text, read_verdict(one.text, self.pattern), one.tokens, one.failure) for one in of_row]
            for of_row in drawn
        ]
