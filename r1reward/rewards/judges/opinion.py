"""What a judge says about one text, and how it can fail to say anything.

A judge that fails is neutral and counted: an `Opinion` with a `failure` has no value, and the shares of the failures are
metrics. A judge that fails too often ends the run (`FailureLimit`) instead of leaving it to train on noise.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

FAILURES = (
    "timeout",  # no answer within the time of one call
    "deadline",  # the time of the whole batch ran out first
    "connection",  # no connection, or it broke before the answer was complete
    "rate_limited",  # status 429 to the last attempt
    "server_error",  # status 5xx to the last attempt
    "rejected",  # another status: wrong key, unknown model, prompt too long
    "bad_reply",  # an answer that is not a chat completion
    "refused",  # the model declined to answer, or answered with nothing
    "nonsense",  # an answer that is none of those asked for
    "budget",  # no calls left
    "exception",  # the judge raised
)


@dataclass(frozen=True)
class Opinion:
    """What a judge says about one text.

    Attributes:
        value: Between 0 and 1; None where the judge could not tell, or failed. A consistency judge says 1.0 for "the reasoning
            supports the choice" and 0.0 for "it does not".
        failure: One of `FAILURES`; None if there was none.
    """

    value: float | None
    failure: str | None = None


class ConsistencyJudge(Protocol):
    """Anything that can be called like this: a rule, a local model, a client of a model server."""

    def __call__(self, reasonings: list[str], choices: list[int]) -> list[Opinion]:
        """One opinion per row.

        Args:
            reasonings: Reasoning texts, without tags.
            choices: The response, 1 or 2, that each text was followed by.
        """
        ...

    def start(self, reasonings: list[str], choices: list[int]) -> None:
        """Called with rows that the judge will be asked about soon: it may begin at once and must not wait."""
        ...

    def statistics(self) -> dict[str, int]:
        """Counts since the beginning of the run, for the metrics; empty where there is nothing to count."""
        ...


class TextModel(Protocol):
    """A language model that answers prompts, here or behind a server."""

    def __call__(self, prompts: list[str], read: Callable[[str], float | None]) -> list[Opinion]:
        """One opinion per prompt. Raises for no prompt and no state of the model.

        Args:
            prompts: The texts of one user turn each.
            read: The value that a reply means; None where it means nothing ("nonsense", asked again).
        """
        ...

    def start(self, prompts: list[str], read: Callable[[str], float | None]) -> None:
        """Begin with prompts that will be asked soon, without waiting."""
        ...

    def statistics(self) -> dict[str, int]:
        """Counts since the beginning of the run, for the metrics; empty where there is nothing to count."""
        ...


class TooManyFailures(RuntimeError):
    """A judge failed too often to go on training with it."""


class FailureLimit:
    """Ends a run whose judge fails too often.

    Args:
        max_rate: Largest share of failures, between 0 and 1, among the latest `window` opinions. 1 never ends a run.
        window: Opinions looked back on.
        at_least: No decision before so many opinions.
        what: What is counted, for the message.
        remedy: What the user can do, for the message.
    """

    def __init__(
        self,
        max_rate: float,
        window: int = 256,
        at_least: int = 32,
        what: str = "opinions of the judge",
        remedy: str = "see that the judge answers, or raise reward.max_failure_rate",
    ):
        self.what, self.remedy = what, remedy
        if not 0 <= max_rate <= 1:
            raise ValueError(f"the largest failure rate must be between 0 and 1, got {max_rate!r}")
        self.max_rate, self.at_least = max_rate, at_least
        self._failures: deque[str | None] = deque(maxlen=window)

    def record(self, opinions: list[Opinion]):
        """Add opinions.

        Raises:
            TooManyFailures: If more than `max_rate` of the latest opinions are failures; it names their kinds.
        """
        self._failures.extend(opinion.failure for opinion in opinions)
        counts = Counter(failure for failure in self._failures if failure is not None)
        asked, failed = len(self._failures), counts.total()
        if asked >= self.at_least and failed > self.max_rate * asked:
            kinds = ", ".join(f"{kind} {count}" for kind, count in counts.most_common())
            raise TooManyFailures(
                f"{failed} of the latest {asked} {self.what} failed ({kinds}), more than the share of {self.max_rate:g} that "
                f"is allowed: {self.remedy}"
            )


def log_share(log_metric: Callable[[str, float], None], name: str, share: float, of: int):
    """Log a share of `of` things once for each of them: the trainer averages over all calls of all processes."""
    for _ in range(of):
        log_metric(name, share)


def failure_rates(opinions: list[Opinion]) -> dict[str, float]:
    """Share of each kind of failure among the opinions, by its name; empty where nobody was asked."""
    counts = Counter(opinion.failure for opinion in opinions)
    return {kind: counts[kind] / len(opinions) for kind in FAILURES} if opinions else {}
