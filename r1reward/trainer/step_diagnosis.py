"""What was wrong with an optimiser step that had to be skipped: which tensor, which rows, how far from the old policy.

Shapes: B rows of a micro-batch, T completion tokens. Log-probabilities and log-ratios are in nats.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from r1reward.tracking.records import to_line, write_whole
from r1reward.trainer.sampler_mismatch import SAMPLED

# Tensors of a micro-batch that are looked at and saved; the pixels are not: the rows' ids say which images they are.
TENSORS = (
    "prompt_ids",
    "prompt_mask",
    "completion_ids",
    "completion_mask",
    "tool_mask",
    "advantages",
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",  # of vLLM
    SAMPLED,
    "importance_sampling_ratio",
    "row_index",
)
CHECKED = ("advantages", "log_probs", "old_per_token_logps", "ref_per_token_logps", "importance_sampling_ratio")
OVERFLOWS = ("ratio", "reference_ratio")  # what is exponentiated from those
MOST_ROWS = 20  # written down for one step
LIKELY_ROWS = 4  # named where no row's own numbers are broken
MOST_NAMES = 20  # of tensors without a finite gradient


@dataclass(frozen=True)
class MicroBatch:
    """What one micro-batch of the present optimiser step was computed from.

    Attributes:
        tensors: Those of `TENSORS` that the micro-batch has, and `log_probs` (B, T), the present policy's before Pre-CLIP.
        loss: 0-d, as it went into the backward pass.
        ids: Dataset ids of the rollout batch's rows on this process; `row_index` (B,) points into them.
    """

    tensors: dict[str, Tensor]
    loss: Tensor
    ids: list[str]


@dataclass(frozen=True)
class Row:
    """A completion, and what stands out about it.

    Attributes:
        rank: Process that had it.
        micro_batch: Number of its micro-batch within the optimiser step, from 0.
        row: Its place in that micro-batch, from 0.
        id: Id of its dataset row.
        not_finite: Which of its numbers are not finite: names of `CHECKED`; failing those, of `OVERFLOWS`: `ratio` where
            exp(log-ratio) x advantage overflows, `reference_ratio` where the KL estimator's exponential does.
        log_ratio: Largest absolute log-ratio of its tokens before Pre-CLIP, in nats.
        advantage: Its largest advantage by absolute value, in standard deviations.
        completion: Its text.
    """

    rank: int
    micro_batch: int
    row: int
    id: str
    not_finite: list[str]
    log_ratio: float
    advantage: float
    completion: str


@dataclass(frozen=True)
class Diagnosis:
    """Why an optimiser step was skipped, over all processes.

    Attributes:
        step: Number of the optimiser step, from 1.
        losses: Loss of each micro-batch of each process.
        gradients: Names of the parameters without a usable gradient, the first `MOST_NAMES` of them.
        broken_gradients: How many parameters that are.
        rows: Rows with numbers that are not finite; failing that, those whose loss terms weigh most. At most `MOST_ROWS`.
        broken_rows: How many rows have numbers that are not finite.
        log_ratio: Largest absolute log-ratio of all tokens, in nats.
        advantage: Largest absolute advantage, in standard deviations.
        learning_rate: Of the step.
    """

    step: int
    losses: list[list[float]]
    gradients: list[str]
    broken_gradients: int
    rows: list[Row]
    broken_rows: int
    log_ratio: float
    advantage: float
    learning_rate: float

    @property
    def what(self) -> str:
        """The first bad tensor in the order of the computation: of the rows, then the loss, then the gradients."""
        broken = {name for row in self.rows for name in row.not_finite}
        for name in (*CHECKED, *OVERFLOWS):
            if name in broken:
                return name
        if not all(math.isfinite(loss) for losses in self.losses for loss in losses):
            return "loss"
        return f"gradient of {self.gradients[0]}" if self.gradients else "norm of all gradients"

    def describe(self, saved: str) -> str:
        """All of it, in the lines that a user reads; `saved` says where the micro-batches were saved, or why not."""
        kind = "with numbers that are not finite" if self.broken_rows else "with the largest loss terms"
        rows = Counter(f"{row.id} ({_why(row)})" for row in self.rows)  # several completions of one row may be alike
        shown = "; ".join(f"{row} x {n}" if n > 1 else row for row, n in rows.most_common(LIKELY_ROWS))
        more = f"; {self.broken_rows} completions in all" if self.broken_rows > 1 else ""
        return (
            f"  first bad tensor: {self.what}\n"
            f"  losses: {', '.join(f'{loss:g}' for losses in self.losses for loss in losses)}\n"
            f"  bad gradients: {self.broken_gradients}{', the first of ' + self.gradients[0] if self.gradients else ''}\n"
            f"  rows {kind}: {shown}{more}\n"
            f"  largest |log-ratio| {self.log_ratio:g}, largest |advantage| {self.advantage:g}, learning rate "
            f"{self.learning_rate:g}\n"
            f"  its micro-batches: {saved}"
        )

    def remedy(self) -> str:
        """What to change, by what was found."""
        broken = {name for row in self.rows for name in row.not_finite}
        if "advantages" in broken:
            return "look at the rewards of those rows (samples.jsonl): one is not finite"
        if "log_probs" in broken:
            return (
                "the model itself gave log-probabilities that are not finite: go on from a checkpoint before, with a lower "
                "trainer.learning_rate"
            )
        if broken & set(OVERFLOWS):
            return "use clip=pre_clip, which bounds the ratio before it overflows, or a lower trainer.learning_rate"
        return "lower trainer.learning_rate, set trainer.max_grad_norm, or use clip=pre_clip"


def _why(row: Row) -> str:
    return ", ".join(row.not_finite) or f"log-ratio {row.log_ratio:g}, advantage {row.advantage:g}"


def diagnose(
    step: int,
    micro_batches: list[MicroBatch],
    gradients: list[str],
    learning_rate: float,
    decode: Callable[[Tensor], str],
    *,
    rank: int,
    log_bounds: tuple[float, float] | None,
    sequence_level: bool,
) -> Diagnosis:
    """What is wrong with this process's part of a step.

    Args:
        step: Number of the optimiser step, from 1.
        micro_batches: Those of the step.
        gradients: Names of the parameters without a usable gradient.
        learning_rate: Of the step.
        decode: Text of a completion's tokens.
        rank: This process.
        log_bounds: Pre-CLIP's bounds of the log-ratio; None without Pre-CLIP.
        sequence_level: Whether the ratio is that of whole sequences (GSPO).
    """
    weighed = [
        pair for n, x in enumerate(micro_batches) for pair in _rows(x, n, rank, decode, log_bounds, sequence_level)
    ]  # (weight, row)
    broken = [row for _, row in weighed if row.not_finite]
    likely = [row for _, row in sorted(weighed, key=lambda pair: -pair[0])[:LIKELY_ROWS]]
    return Diagnosis(
        step=step,
        losses=[[x.loss.item() for x in micro_batches]],
        gradients=gradients[:MOST_NAMES],
        broken_gradients=len(gradients),
        rows=(broken or likely)[:MOST_ROWS],
        broken_rows=len(broken),
        log_ratio=_largest([row.log_ratio for _, row in weighed]),
        advantage=_largest([row.advantage for _, row in weighed]),
        learning_rate=learning_rate,
    )


def merge(parts: list[Diagnosis]) -> Diagnosis:
    """One diagnosis of what all processes found."""
    broken_rows = sum(part.broken_rows for part in parts)
    names = max((part.gradients for part in parts), key=len)
    return Diagnosis(
        step=parts[0].step,
        losses=[losses for part in parts for losses in part.losses],
        gradients=names,
        broken_gradients=max(part.broken_gradients for part in parts),
        rows=[row for part in parts for row in part.rows if row.not_finite or not broken_rows][:MOST_ROWS],
        broken_rows=broken_rows,
        log_ratio=_largest([part.log_ratio for part in parts]),
        advantage=_largest([part.advantage for part in parts]),
        learning_rate=parts[0].learning_rate,
    )


@torch.no_grad()
def _rows(micro: MicroBatch, number: int, rank: int, decode, log_bounds, sequence_level: bool) -> list[tuple[float, Row]]:
    """Every row of a micro-batch with the weight of its loss term, |ratio x advantage|."""
    t = micro.tensors
    mask = t["completion_mask"].bool()
    advantages = t["advantages"] if t["advantages"].dim() == 2 else t["advantages"][:, None]
    log_ratio = t["log_probs"] - t.get("old_per_token_logps", t["log_probs"])
    exponent = log_ratio if log_bounds is None else log_ratio.clamp(*log_bounds)
    if sequence_level:
        exponent = ((exponent * mask).sum(1) / mask.sum(1).clamp(min=1))[:, None]
    terms = exponent.exp() * advantages.abs()  # padding too: its 0 x NaN is NaN in the loss
    checks = {name: t[name].reshape(len(mask), -1).isfinite().all(1) for name in CHECKED if name in t}
    # What follows from those is told only where they are sound. A row without an advantage breaks as well: 0 x inf.
    sound = torch.stack(list(checks.values())).all(0)
    checks["ratio"] = terms.isfinite().all(1) | ~sound
    if "ref_per_token_logps" in t:
        checks["reference_ratio"] = (t["ref_per_token_logps"] - t["log_probs"]).exp().isfinite().all(1) | ~sound
    weights, ratios = terms.amax(1).tolist(), log_ratio.abs().masked_fill(~mask, 0.0).amax(1).tolist()
    heaviest = advantages.gather(1, advantages.abs().argmax(1, keepdim=True))[:, 0].tolist()
    return [
        (
            weights[n],
            Row(
                rank=rank,
                micro_batch=number,
                row=n,
                id=micro.ids[t["row_index"][n]],
                not_finite=[name for name, sound in checks.items() if not sound[n]],
                log_ratio=ratios[n],
                advantage=heaviest[n],
                completion=decode(t["completion_ids"][n][mask[n]]),
            ),
        )
        for n in range(len(mask))
    ]


def _largest(values: list[float]) -> float:
    """The largest absolute value; NaN where one is NaN."""
    values = [abs(value) for value in values]
    return math.nan if any(map(math.isnan, values)) else max(values, default=0.0)


def save_tensors(micro_batches: list[MicroBatch], path: Path) -> str | None:
    """Write the micro-batches to `path`, as `micro0/advantages` and so on; returns why that failed, None where it did not."""
    tensors = {
        # Copies: safetensors refuses tensors that share memory, as the rows of one rollout batch may.
        f"micro{n}/{name}": tensor.detach().to("cpu", copy=True).contiguous()
        for n, micro in enumerate(micro_batches)
        for name, tensor in (micro.tensors | {"loss": micro.loss}).items()
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)
    except (OSError, SafetensorError) as error:
        return str(error)
    return None


def save_diagnosis(diagnosis: Diagnosis, path: Path) -> str | None:
    """Write the diagnosis as JSON, non-finite numbers as the run folder writes them; returns why that failed, if it did."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_line(asdict(diagnosis), indent=2))
    except OSError as error:
        return str(error)
    return None
