"""The reward of one judgement: is it right, is it consistent with its reasoning, does it keep to the format?

Formula (arXiv 2505.02835, section on the consistency reward; released code `math_verifier_mllm.py:245`), weights 0.5
and 0.5:

    total = result * (1 + w_consistency * consistency) + w_format * format

The product makes consistency pay only for right answers: a wrong verdict earns its format and nothing else.

    result   consistency              total without format / with format
    0        any                      0   / 0.5
    1        -1 (released only)       0.5 / 1.0
    1        0                        1.0 / 1.5
    1        +1                       1.5 / 2.0

Where paper and released code differ, `semantics` says which is meant:

    paper      A consistent text earns 1, any other 0: consistency is a bonus. The choice is read in its usual
               spellings from the last answer block, the format strictly (`verdict.parse`): right without format
               earns 1.0, and a text that names no response 0.
    released   Consistency is -1, 0 or +1 (inconsistent, could not be told, consistent): an inconsistent text loses.
               Result and format are read separately, as `verdict.parse(pattern="released")` does.

Also different from the released code, in both: the consistency judge is not asked about wrong verdicts (the product
hides its opinion), and no error pays (a failed grader paid 1.0 there).
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from r1reward.rewards.as_function import AsFunction
from r1reward.rewards.judges.opinion import ConsistencyJudge, FailureLimit, Opinion, TooManyFailures, failure_rates, log_share
from r1reward.rewards.verdict import REJECTIONS, Verdict, parse
from r1reward.rewards.written import texts_of

TERMS = ("result", "consistency", "format")  # the order of the reward functions, and of the trainer's columns
PATTERN = {"paper": "strict", "released": "released"}  # how verdicts are parsed, by semantics
SEMANTICS = tuple(PATTERN)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """The terms of one text's reward.

    Attributes:
        result: 1.0 if the choice is the label, else 0.0.
        consistency: In the range of the semantics, 0.0 where the judge could not tell or failed; None where nobody
            was asked: the result is 0, or there is no judge.
        format: 1.0 if the text keeps to the format, else 0.0.
        verdict: What was read.
    """

    result: float
    consistency: float | None
    format: float
    verdict: Verdict


@dataclass(frozen=True)
class PreferenceReward(AsFunction):
    """The reward of a pairwise judgement (see the module's head); itself a reward function in the form that TRL calls, which
    needs the dataset's column `label`.

    Attributes:
        consistency_weight: Weight of the consistency term, no unit, >= 0. 0 needs no judge; with a judge its opinion
            is then logged without being paid for.
        format_weight: Weight of the format term, no unit, >= 0.
        semantics: "paper" or "released".
        judge: The consistency judge; needed if consistency_weight > 0.
        failure_limit: Ends the run where the judge fails too often.
    """

    consistency_weight: float = 0.5
    format_weight: float = 0.5
    semantics: str = "paper"
    judge: ConsistencyJudge | None = None
    failure_limit: FailureLimit = field(default_factory=lambda: FailureLimit(0.2))

    __name__ = "preference"  # in TRL's metrics: rewards/preference/mean

    def __post_init__(self):
        if self.semantics not in SEMANTICS:
            raise ValueError(f"unknown reward semantics {self.semantics!r}; choose one of {SEMANTICS}")
        for name in ("consistency_weight", "format_weight"):
            weight = getattr(self, name)
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"{name} must be a finite number >= 0, got {weight!r}")
        if self.consistency_weight > 0 and self.judge is None:
            raise ValueError(
                f"consistency_weight={self.consistency_weight} has no effect without a consistency judge: set judge "
                "(for example r1reward.rewards.judges.rule.RuleJudge), or consistency_weight=0"
            )

    @property
    def pattern(self) -> str:
        """How verdicts are parsed under these semantics (`r1reward.rewards.verdict.parse`)."""
        return PATTERN[self.semantics]

    def total(self, result, consistency, format):
        """The reward from its terms, all floats or all tensors of one shape; same kind back.

        A consistency of None or NaN counts as 0. A NaN in another term makes the total NaN.
        """
        if consistency is None:
            consistency = 0.0
        elif isinstance(consistency, float | int):
            consistency = 0.0 if math.isnan(consistency) else consistency
        else:
            consistency = consistency.nan_to_num(nan=0.0)
        return result * (1 + self.consistency_weight * consistency) + self.format_weight * format

    def right(self, result, consistency, format):
        """Which rows (N,) are right, from the terms (N,) each."""
        return result == 1

    def score(self, texts: list[str], labels: list[int]) -> list[Terms]:
        """The terms of each text; `labels` are 1 or 2. The judge is called at most once, with right verdicts only.

        Raises:
            TooManyFailures: If the judge failed too often (`failure_limit`).
        """
        verdicts, results = self._results(texts, labels)
        consistencies, _ = self._consistencies(verdicts, results)
        rows = zip(results, consistencies, verdicts, strict=True)
        return [Terms(result, consistency, float(v.formatted), v) for result, consistency, v in rows]

    def start(self, texts: list[str], label: list[int], **columns) -> None:
        """Let the judge begin with these texts; `columns` are the dataset's, one entry per text."""
        if self.judge is not None:
            verdicts, results = self._results(texts, label)
            right = [verdict for verdict, result in zip(verdicts, results, strict=True) if result]
            self.judge.start([verdict.reasoning for verdict in right], [verdict.choice for verdict in right])

    def reward_functions(self) -> list[Callable[..., list[float | None]]]:
        """The terms as three reward functions in the form that TRL calls, in the order of `TERMS` (also their
        `__name__`).

        Each takes `completions` (conversations or texts, see `r1reward.rewards.written`), the dataset's column
        `label` and anything else. They return the bare terms: no weights, no product; `total` makes the reward of
        them. `consistency` returns None (NaN in the trainer) where nobody was asked.

        If TRL passes `log_metric`, `format` logs `verdict/<reason>`, the share of texts rejected for each of
        `REJECTIONS`, and `consistency` logs, as shares of the judged texts, `judge/failure_rate`, each kind of it as
        `judge/<failure>`, and `judge/unknown_rate`, where the judge could not tell (nothing when no text was judged); and what
        the judge counts since the beginning of the run, such as `judge/calls`.
        """

        def result(completions, label, **kwargs) -> list[float | None]:
            return self._results(texts_of(completions), label)[1]

        def consistency(completions, label, log_metric=None, **kwargs) -> list[float | None]:
            values, opinions = self._consistencies(*self._results(texts_of(completions), label))
            if log_metric is not None and opinions:
                rates = failure_rates(opinions)
                unknown = sum(opinion.value is None for opinion in opinions) / len(opinions)
                shares = {"failure_rate": sum(rates.values()), "unknown_rate": unknown - sum(rates.values())} | rates
                for name, share in shares.items():
                    log_share(log_metric, f"judge/{name}", share, of=len(opinions))
                for name, value in self.judge.statistics().items():
                    log_metric(f"judge/{name}", value)
            return values

        def format(completions, label, log_metric=None, **kwargs) -> list[float | None]:
            verdicts, _ = self._results(texts_of(completions), label)
            if log_metric is not None and verdicts:
                for reason in REJECTIONS:
                    share = sum(v.rejection == reason for v in verdicts) / len(verdicts)
                    log_share(log_metric, f"verdict/{reason}", share, of=len(verdicts))
            return [float(v.formatted) for v in verdicts]

        return [result, consistency, format]

    def _results(self, texts: list[str], labels: list[int]) -> tuple[list[Verdict], list[float]]:
        if len(texts) != len(labels):
            raise ValueError(f"{len(texts)} texts and {len(labels)} labels: there must be one label per text")
        for row, label in enumerate(labels):
            if label not in (1, 2):
                raise ValueError(f"row {row}: label must be 1 or 2 (the number of the better response), got {label!r}")
        verdicts = [parse(text, self.pattern) for text in texts]
        return verdicts, [float(v.choice == label) for v, label in zip(verdicts, labels, strict=True)]

    def _consistencies(self, verdicts: list[Verdict], results: list[float]) -> tuple[list[float | None], list[Opinion]]:
        """The consistency term per row, and the opinions on the rows that were judged."""
        values: list[float | None] = [None] * len(verdicts)
        right = [row for row, result in enumerate(results) if result == 1.0] if self.judge is not None else []
        opinions = self._ask([verdicts[row].reasoning for row in right], [verdicts[row].choice for row in right])
        inconsistent = 0.0 if self.semantics == "paper" else -1.0
        for row, opinion in zip(right, opinions, strict=True):
            values[row] = {1: 1.0, 0: inconsistent}.get(opinion.value, 0.0)
        return values, opinions

    def _ask(self, reasonings: list[str], choices: list[int]) -> list[Opinion]:
        """The judge's opinions, each usable or a counted failure; whatever else a judge does must not end a run, nor pay."""
        if not reasonings:
            return []
        try:
            opinions = list(self.judge(reasonings, choices))
            if len(opinions) != len(reasonings):
                raise ValueError(f"the consistency judge gave {len(opinions)} opinions on {len(reasonings)} texts")
            opinions = [o if o.value in (None, 0, 1) else Opinion(None, "nonsense") for o in opinions]
        except TooManyFailures:
            raise
        except Exception as error:
            logger.warning("consistency judge failed on %d texts, counted as neutral: %r", len(reasonings), error)
            opinions = [Opinion(None, "exception")] * len(reasonings)
        self.failure_limit.record(opinions)
        return opinions
