"""What runs a reward model: a model of transformers in this process, vLLM, or a server that speaks OpenAI's protocol.

A backend is given rows and returns texts; it knows nothing of verdicts, orders or scores.
"""

from dataclasses import dataclass
from typing import Protocol

from r1reward.data.rows import Row


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        max_new_tokens: Longest completion in tokens, >= 1.
        temperature: 0: greedy, else > 0; 1 samples from the model's own distribution.
        top_p: Nucleus, above 0; 1: all.
        top_k: Sample among that many tokens; 0: all.
    """

    max_new_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be 0 (greedy) or above, got {self.temperature}")
        if not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ValueError(f"need 0 < top_p <= 1 and top_k >= 0, got {self.top_p} and {self.top_k}")
        if self.temperature == 0 and (self.top_p < 1 or self.top_k > 0):
            raise ValueError("top_p and top_k have no effect at temperature 0 (greedy)")


@dataclass(frozen=True)
class Completion:
    """One text that a reward model wrote.

    Attributes:
        text: What counts as written (`r1reward.rewards.written`), without special tokens.
        tokens: Its length in tokens, the end token included; 0 if the server does not report it.
        failure: Why there is no text of the model's: "refused" or "rejected" (`rewards.judges.opinion.FAILURES`); None where
            there is one.
    """

    text: str
    tokens: int
    failure: str | None = None


class PromptRejected(RuntimeError):
    """A backend does not take one row's prompt; it may take others."""


class Backend(Protocol):
    """Anything that completes the prompts of rows."""

    def complete(self, rows: list[Row], votes: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """`votes` completions for each row, responses in the order that the row gives.

        Args:
            rows: One batch; rows with the same images should stand together.
            votes: Completions per row, >= 1; more than one only with a temperature.
            sampling: How they are drawn.
            seed: The same rows, votes, sampling and seed give the same completions, where the backend can promise that.
        """
        ...

    def check_images(self, row: Row):
        """See that the model sees the images of a row, at the cost of one or two short completions.

        Raises:
            ImagesNotSeen: It does not.
            PromptRejected: It cannot be seen with this row.
        """
        ...
