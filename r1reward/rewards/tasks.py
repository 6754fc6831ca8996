"""Rewards of several tasks in one run: each row names its task, each task adds up its own terms.

    RoutedReward      sends each row to the reward of its task; a term is None for the rows of other tasks
      TaskReward      weighted sum of terms, such as IoU + format; also: the preference reward and further terms
        Term          one reward function, ours (`r1reward.rewards.registry`) or a user's (`r1reward.rewards.plugin`)

A reward function has the form that TRL calls, so that a function written for `GRPOTrainer` serves here and the other way
round:

    def brevity(completions, **columns) -> list[float | None]

    completions    one conversation per row; the text is `r1reward.rewards.written.text_of(completions[i])`
    columns        one list per column of the data (id, task, solution, label, images, category, level), of the same length;
                   prompts and completion_ids (token ids), the same way; `correct`, the value of the task's first term (None
                   for that term itself); and log_metric(name, value), trainer_state
                   In evaluation on held-out rows the same is given, but completion_ids have only the right length,
                   trainer_state is that of a training that has not begun, and what is logged goes nowhere.
    returns        one number per row, None where the reward does not apply

A function that raises is called again row by row; rows that fail alone, or that get something else than a finite number or
None, count as None and are counted (`<term>/failed`); where they are too many, the run ends. What a function logs is named
`<term>/<name>`.

Shapes: N rows of the global rollout batch.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from r1reward.rewards.as_function import AsFunction
from r1reward.rewards.judges.opinion import FailureLimit, Opinion, TooManyFailures, log_share

Function = Callable[..., list[float | None]]

logger = logging.getLogger(__name__)


class CompositeReward(Protocol):
    """A reward that is a function of several terms, such as `r1reward.rewards.preference.PreferenceReward` or those below."""

    def reward_functions(self) -> list[Function]:
        """The terms, as TRL reward functions; their `__name__` is the term's name."""

    def total(self, *terms: torch.Tensor) -> torch.Tensor:
        """The reward (N,) from the terms (N,) each, in the order of `reward_functions`; NaN marks a term that was skipped."""

    def right(self, *terms: torch.Tensor) -> torch.Tensor:
        """Which rows (N,) have a right answer, from the same."""

    def start(self, texts: list[str], **columns: list) -> None:
        """Called with what was sampled and the rows' columns, before the terms: what takes long may begin, without waiting."""


@dataclass(frozen=True)
class Term:
    """One term of a task's reward.

    Attributes:
        name: In the metrics.
        function: The reward function (see the module's head).
        weight: Its factor in the sum.
        start: Takes `texts` and the columns, to begin with what takes long.
    """

    name: str
    function: Function
    weight: float = 1.0
    start: Callable[..., None] | None = None

    def __post_init__(self):
        if not math.isfinite(self.weight):
            raise ValueError(f"the weight of the reward term {self.name} must be a finite number, got {self.weight!r}")


class TaskReward(AsFunction):
    """A weighted sum of terms; the first says whether the answer is right (0.5 or more).

    Args:
        terms: At least one, or none but a base.
        base: A reward of several terms of its own (`r1reward.rewards.preference.PreferenceReward`); the sum starts with it.
        max_failure_rate: Largest share of rows on which a term may fail before the run ends.
    """

    __name__ = "task"

    def __init__(self, terms: list[Term], base: CompositeReward | None = None, max_failure_rate: float = 0.2):
        own = base.reward_functions() if base is not None else []
        names = [function.__name__ for function in own] + [term.name for term in terms]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a task needs at least one reward term, and each a name of its own; got {names}")
        self.terms, self.base = terms, base
        self._functions = [(function.__name__, function) for function in own] + [(t.name, t.function) for t in terms]
        self._base_columns = len(own)
        self._limits = {
            term.name: FailureLimit(max_failure_rate, what=f"results of the reward term {term.name}", remedy="mend it")
            for term in terms
        }
        self._scored: tuple[list, dict[str, list]] | None = None  # completions, and the values of each term

    def start(self, texts: list[str], **columns) -> None:
        """Let judges begin with these texts."""
        for one in (self.base, *self.terms):
            if one is not None and one.start is not None:
                one.start(texts, **columns)

    def reward_functions(self) -> list[Function]:
        """One per term, named after it, those of the base first."""
        return [self._column(name) for name, _ in self._functions]

    def total(self, *columns: torch.Tensor) -> torch.Tensor:
        """The reward (N,) from the terms (N,) each; a term of NaN adds nothing."""
        own = columns[: self._base_columns]
        start = self.base.total(*own) if own else torch.zeros_like(columns[0])
        added = zip(self.terms, columns[self._base_columns :], strict=True)
        return start + sum((term.weight * values.nan_to_num(nan=0.0) for term, values in added), torch.zeros_like(start))

    def right(self, *columns: torch.Tensor) -> torch.Tensor:
        """Which rows (N,) are right, by the first term."""
        return columns[0] >= 0.5

    def _column(self, name: str) -> Function:
        def function(completions, **columns):
            # TRL calls the terms one after another with the same list; later terms need the first one's values.
            if self._scored is None or self._scored[0] is not completions:
                self._scored = (completions, self._score(completions, columns))
            values = self._scored[1][name]
            if name == self._functions[-1][0]:
                self._scored = None
            return values

        function.__name__ = name
        return function

    def _score(self, completions: list, columns: dict) -> dict[str, list[float | None]]:
        scored, correct = {}, [None] * len(completions)
        for position, (name, function) in enumerate(self._functions):
            arguments = columns | {"correct": correct}
            if position < self._base_columns:
                scored[name] = function(completions=completions, **arguments)
            else:
                scored[name] = self._guarded(name, function, completions, arguments)
            if position == 0:
                correct = scored[name]
        return scored

    def _guarded(self, name: str, function: Function, completions: list, columns: dict) -> list[float | None]:
        """What the function returns, with None where it fails."""
        log_metric = columns.get("log_metric")
        if log_metric is not None:
            columns = columns | {"log_metric": lambda metric, value: log_metric(f"{name}/{metric}", value)}
        try:
            values = _checked(function(completions=completions, **columns), len(completions))
        except TooManyFailures:
            raise
        except Exception as error:
            logger.warning("reward term %s failed on %d rows, now row by row: %r", name, len(completions), error)
            values = [self._single(name, function, completions, columns, row) for row in range(len(completions))]
        failed = [value is _FAILED for value in values]
        if log_metric is not None and values:
            log_share(log_metric, f"{name}/failed", sum(failed) / len(values), of=len(values))
        self._limits[name].record([Opinion(None, "exception" if bad else None) for bad in failed])
        return [None if bad else value for value, bad in zip(values, failed, strict=True)]

    @staticmethod
    def _single(name, function, completions, columns, row):
        try:
            return _checked(function(completions=[completions[row]], **take(columns, [row], len(completions))), 1)[0]
        except TooManyFailures:
            raise
        except Exception as error:
            logger.warning("reward term %s failed on one row: %r", name, error)
            return _FAILED


_FAILED = object()  # in the place of a value


def _checked(values, rows: int) -> list:
    """The values as floats; `_FAILED` for what is neither None nor a finite number."""
    values = list(values)
    if len(values) != rows:
        raise ValueError(f"{len(values)} rewards for {rows} completions")
    return [value if value is None else _number(value) for value in values]


def _number(value):
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return _FAILED
    return number if math.isfinite(number) else _FAILED


class RoutedReward(AsFunction):
    """Sends each row to the reward of the task that it names.

    Terms are named `<task>/<term>`, and so are the metrics that they log.

    Args:
        rewards: By task; each a composite reward, such as `TaskReward`.
        weights: By task, a factor of its total; 1 where it is not named.
    """

    __name__ = "tasks"

    def __init__(self, rewards: dict[str, CompositeReward], weights: dict[str, float] | None = None):
        if not rewards:
            raise ValueError("no task has a reward")
        self.rewards, self.weights = rewards, weights or {}
        self._columns = {task: len(reward.reward_functions()) for task, reward in rewards.items()}
        self._split: tuple[list, dict[str, tuple]] | None = None

    def start(self, texts: list[str], task: list[str], **columns) -> None:
        """Let the judges begin with these texts, each with those of its task."""
        for name, reward in self.rewards.items():
            rows = [row for row, its_task in enumerate(task) if its_task == name]
            if rows:
                reward.start([texts[row] for row in rows], **take(columns, rows, len(texts)))

    def reward_functions(self) -> list[Function]:
        """The terms of all tasks, in the order of the tasks."""
        functions = [(task, f) for task, reward in self.rewards.items() for f in reward.reward_functions()]
        return [self._routed(task, f, is_last=position == len(functions) - 1) for position, (task, f) in enumerate(functions)]

    def total(self, *columns: torch.Tensor) -> torch.Tensor:
        """The reward (N,) of each row by its task: NaN where no term of any task applies."""
        total = torch.full_like(columns[0], torch.nan)
        for task, own in self._by_task(columns):
            applies = ~torch.stack(own).isnan().all(0)
            total[applies] = self.weights.get(task, 1.0) * self.rewards[task].total(*(c[applies] for c in own))
        return total

    def right(self, *columns: torch.Tensor) -> torch.Tensor:
        """Which rows (N,) are right, by the first term of their task."""
        return torch.stack([self.rewards[task].right(*own) for task, own in self._by_task(columns)]).any(0)

    def _by_task(self, columns):
        start = 0
        for task, count in self._columns.items():
            yield task, columns[start : start + count]
            start += count

    def _routed(self, task: str, function: Function, is_last: bool) -> Function:
        def routed(completions, **columns):
            values: list[float | None] = [None] * len(completions)
            rows, part, arguments = self._part(task, completions, columns)
            if rows:
                for row, value in zip(rows, function(completions=part, **arguments), strict=True):
                    values[row] = value
            if is_last:
                self._split = None
            return values

        routed.__name__ = f"{task}/{function.__name__}"
        return routed

    def _part(self, task: str, completions: list, columns: dict) -> tuple[list[int], list, dict]:
        """The rows of a task, their completions and columns; the same objects for every term of a batch."""
        if self._split is None or self._split[0] is not completions:
            self._split = (completions, {})
        parts = self._split[1]
        if task not in parts:
            rows = [row for row, name in enumerate(columns["task"]) if name == task]
            arguments = take(columns, rows, len(completions))
            log_metric = columns.get("log_metric")
            if log_metric is not None:
                arguments["log_metric"] = lambda name, value: log_metric(f"{task}/{name}", value)
            parts[task] = (rows, [completions[row] for row in rows], arguments)
        return parts[task]


def take(columns: dict, rows: list[int], count: int) -> dict:
    """The columns at some rows; what is no list of `count` entries (such as log_metric) stays."""
    return {
        name: [value[row] for row in rows] if isinstance(value, list) and len(value) == count else value
        for name, value in columns.items()
    }
