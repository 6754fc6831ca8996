"""The numbers of a comparison, arm by arm: estimates with intervals, and differences to a baseline arm paired by seed.

Two sources of uncertainty appear and are kept apart: with two or more seeds an interval is a 95 % t-interval across
seeds, with one seed it is that run's 95 % bootstrap interval over items. Rates and accuracies are shares in [0, 1].
"""

import math
from dataclasses import dataclass

import yaml

from r1reward.benchmarks.statistics import mean_interval, paired_difference
from r1reward.configs import CONFIG_FOLDER
from r1reward.data.rows import PREFERENCE
from r1reward.reporting.config_diff import ConfigDifference, config_differences, flatten, is_bookkeeping
from r1reward.reporting.runs import Run, group_by_arm

USUAL_BASELINES = ("full", "pre_clip", "clip=pre_clip")


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval.

    Attributes:
        mean: Over the seeds that have the number.
        low, high: None where no interval can be given (a difference of one pair of runs).
        n: Seeds that went into the mean.
        over: What the interval is taken across: "seeds" (t-interval), "items" (bootstrap of one run) or "none".
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    over: str

    @property
    def contains_zero(self) -> bool:
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high


@dataclass(frozen=True)
class TaskSummary:
    """One arm on the rows of one task.

    Attributes:
        before, after: Accuracy, before and after training.
        terms: By name of the reward's terms, the first one first: their means before and after training.
    """

    before: Estimate | None
    after: Estimate | None
    terms: dict[str, tuple[Estimate | None, Estimate | None]]


@dataclass(frozen=True)
class ArmSummary:
    """One row of the table. Every estimate is None where no run of the arm measured it.

    Attributes:
        runs: The finished runs, by seed.
        before, after: Accuracy on the comparison's split, before and after training.
        change: after - before, run by run.
        difference: Accuracy after training minus the baseline arm's, paired by seed; None for the baseline itself.
        other_before, other_after: Accuracy on the comparison's other split.
        collapsed: How many of the runs collapsed.
        tokens: Completion length in tokens.
        minutes: Mean time of a run, from start to end.
        by_category: Accuracy after training by category of question.
        by_task: What `measure` tells apart by task; empty for preference pairs alone.
    """

    arm: str
    runs: list[Run]
    before: Estimate | None
    after: Estimate | None
    change: Estimate | None
    difference: Estimate | None
    both_orders_correct: Estimate | None
    flip_rate: Estimate | None
    first_position_rate: Estimate | None
    format_rate: Estimate | None
    tokens: Estimate | None
    other_before: Estimate | None
    other_after: Estimate | None
    collapsed: int
    minutes: float | None
    by_category: dict[str, Estimate]
    by_task: dict[str, TaskSummary]

    @property
    def seeds(self) -> list[int | None]:
        return [run.seed for run in self.runs]


@dataclass(frozen=True)
class Comparison:
    """Arms side by side.

    Attributes:
        arms: The baseline first, then the others in the order in which they were found.
        split, other_split: The split of the main columns, and the one beside it.
        items: Items in `split`, over all runs (several numbers when the runs were not judged on the same number).
        tasks: Of those items, over all runs, by name; `preference` for pairs.
        unfinished: Runs without a summary; they are in no number.
        replaced: Runs left out because a later run has the same arm and seed.
        config: The config keys in which the arms differ.
    """

    arms: list[ArmSummary]
    baseline: str
    split: str
    other_split: str
    items: list[int]
    tasks: list[str]
    unfinished: list[Run]
    replaced: list[Run]
    config: list[ConfigDifference]

    @property
    def has_pairs(self) -> bool:
        """Whether there are preference pairs among the items; nothing but pairs if `tasks` has no other."""
        return PREFERENCE in self.tasks

    @property
    def accuracy_name(self) -> str:
        """What the share of right answers is called."""
        first = {next(iter(task.terms), "") for arm in self.arms for task in arm.by_task.values()}
        return "accuracy at IoU 0.5" if first == {"iou"} and not self.has_pairs else "accuracy"

    @property
    def runs(self) -> list[Run]:
        return [run for arm in self.arms for run in arm.runs]


def summarise(runs: list[Run], baseline: str | None = None, split: str = "held_out") -> Comparison:
    """Groups the finished runs by arm and compares every arm with the baseline arm.

    Raises:
        ValueError: No run has finished, the baseline is not among the arms, or no run measured `split`.
    """
    arms, replaced = group_by_arm(runs)
    unfinished = [run for run in runs if not run.finished]
    if not arms:
        places = ", ".join(str(run.folder) for run in unfinished)
        raise ValueError(f"none of the {len(unfinished)} runs has finished (no summary.json yet): {places}")
    measured = {name for members in arms.values() for run in members for name in run.splits()}
    if measured and split not in measured:
        raise ValueError(f"no run was evaluated on the split {split!r}; choose one of {sorted(measured)}")
    configs = {arm: members[0].config for arm, members in arms.items()}
    baseline = choose_baseline(list(arms), baseline, configs)
    arms = {baseline: arms[baseline]} | arms  # the baseline on top, the others as found
    other = "out_of_distribution" if split != "out_of_distribution" else "held_out"
    evaluations = [run.evaluation(when, split) for members in arms.values() for run in members for when in _WHEN]
    evaluations = [evaluation for evaluation in evaluations if evaluation]
    return Comparison(
        arms=[_summarise_arm(arm, members, arms[baseline], split, other) for arm, members in arms.items()],
        baseline=baseline,
        split=split,
        other_split=other,
        items=sorted({evaluation["n"] for evaluation in evaluations if "n" in evaluation}),
        tasks=sorted({task for evaluation in evaluations for task in evaluation.get("by_task") or (PREFERENCE,)})
        or [PREFERENCE],
        unfinished=unfinished,
        replaced=replaced,
        config=config_differences({arm: [run.config for run in members] for arm, members in arms.items()}),
    )


def choose_baseline(arms: list[str], wanted: str | None = None, configs: dict[str, dict] | None = None) -> str:
    """The wanted arm, else the first with a usual name, else the one nearest to the defaults, else the first.

    An arm `study/full` also answers to `full`. Nearest to the defaults is the arm with the fewest settings that differ from
    conf/train.reference.yaml; of equals the first.
    """
    for name in [wanted] if wanted is not None else USUAL_BASELINES:
        for arm in arms:
            if arm == name or arm.endswith(f"/{name}"):
                return arm
    if wanted is not None:
        raise ValueError(f"baseline {wanted!r} is not among the arms; choose one of {arms}")
    if not configs:
        return arms[0]
    defaults = flatten(yaml.safe_load((CONFIG_FOLDER / "train.reference.yaml").read_text(encoding="utf-8")))

    def changed(arm: str) -> int:
        own = {key: value for key, value in flatten(configs[arm]).items() if key in defaults and not is_bookkeeping(key)}
        return sum(value != defaults[key] for key, value in own.items())

    return min(arms, key=changed)


_WHEN = ("before", "after")


def _summarise_arm(arm: str, runs: list[Run], baseline: list[Run], split: str, other: str) -> ArmSummary:
    def rate(field: str, when: str = "after", where: str = split) -> Estimate | None:
        return estimate([_interval(run.evaluation(when, where), field) for run in runs])

    def accuracies(members: list[Run], when: str) -> dict[int | None, float]:
        found = {run.seed: _interval(run.evaluation(when, split), "accuracy") for run in members}
        return {seed: interval[0] for seed, interval in found.items() if interval}

    before, after = accuracies(runs, "before"), accuracies(runs, "after")
    minutes = [_number(((run.summary or {}).get("seconds") or {}).get("total")) for run in runs]
    minutes = [seconds / 60 for seconds in minutes if seconds is not None]
    categories: dict[str, list] = {}
    for run in runs:
        for category, result in ((run.evaluation("after", split) or {}).get("by_category") or {}).items():
            categories.setdefault(category, []).append(_interval(result, "accuracy"))
    by_category = {category: estimate(intervals) for category, intervals in categories.items()}
    return ArmSummary(
        arm=arm,
        runs=runs,
        before=rate("accuracy", "before"),
        after=rate("accuracy"),
        change=estimate_difference(after, before),
        difference=None if runs is baseline else estimate_difference(after, accuracies(baseline, "after")),
        both_orders_correct=rate("both_orders_correct"),
        flip_rate=rate("flip_rate"),
        first_position_rate=rate("first_position_rate"),
        format_rate=rate("format_rate"),
        tokens=rate("mean_completion_tokens"),
        other_before=rate("accuracy", "before", other),
        other_after=rate("accuracy", "after", other),
        collapsed=sum(bool(run.collapse.get("collapsed")) for run in runs),
        minutes=sum(minutes) / len(minutes) if minutes else None,
        by_category={category: value for category, value in by_category.items() if value is not None},
        by_task=_by_task(runs, split),
    )


def _by_task(runs: list[Run], split: str) -> dict[str, TaskSummary]:
    blocks = {when: [(run.evaluation(when, split) or {}).get("by_task") or {} for run in runs] for when in _WHEN}

    def of(task: str, when: str, term: str | None = None) -> Estimate | None:
        own = [block.get(task) or {} for block in blocks[when]]
        return estimate([_interval(one, "accuracy") if term is None else _interval(one.get("terms"), term) for one in own])

    everything = [block for when in _WHEN for block in blocks[when]]
    terms: dict[str, dict[str, None]] = {}  # by task, as ordered sets
    for block in everything:
        for task, result in block.items():
            terms.setdefault(task, {}).update(dict.fromkeys(result.get("terms") or {}))
    return {
        task: TaskSummary(
            before=of(task, "before"),
            after=of(task, "after"),
            terms={name: (of(task, "before", name), of(task, "after", name)) for name in names},
        )
        for task, names in sorted(terms.items())
    }


def estimate(intervals: list[tuple[float, float | None, float | None] | None]) -> Estimate | None:
    """The mean of one number over runs, each given as (mean, low, high) or None where it was not measured.

    Two or more runs: the t-interval of their means. One run: its own interval.
    """
    present = [interval for interval in intervals if interval is not None]
    if not present:
        return None
    if len(present) == 1:
        mean, low, high = present[0]
        return Estimate(mean, low, high, 1, "none" if low is None or high is None else "items")
    across = mean_interval([interval[0] for interval in present])
    return Estimate(across.mean, across.low, across.high, len(present), "seeds")


def estimate_difference(a: dict[int | None, float], b: dict[int | None, float]) -> Estimate | None:
    """Mean of a - b over the seeds that both have; with one such seed the difference comes without an interval."""
    seeds = [seed for seed in a if seed in b]
    if not seeds:
        return None
    if len(seeds) == 1:
        return Estimate(a[seeds[0]] - b[seeds[0]], None, None, 1, "none")
    paired = paired_difference([a[seed] for seed in seeds], [b[seed] for seed in seeds])
    return Estimate(paired.mean, paired.low, paired.high, len(seeds), "seeds")


def _interval(evaluation: dict | None, field: str) -> tuple[float, float | None, float | None] | None:
    """(mean, low, high) of a field of an evaluation, which is an interval or a plain number; None if absent or NaN."""
    value = (evaluation or {}).get(field)
    if isinstance(value, dict):
        mean, low, high = (_number(value.get(part)) for part in ("mean", "low", "high"))
    else:
        mean, low, high = _number(value), None, None
    return None if mean is None else (mean, low, high)


def _number(value) -> float | None:
    """A finite number, else None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
