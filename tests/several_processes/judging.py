"""Held-out accuracy of the tiny model, as every process has it."""

from pathlib import Path

from transformers import Qwen2_5_VLForConditionalGeneration

from r1reward.benchmarks.accuracy import measure
from r1reward.benchmarks.both_orders import BothOrders, judge_both_orders
from r1reward.data.rows import TaskRow
from r1reward.inference.reward_model import RewardModel
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.rewards.tasks import RoutedReward, TaskReward, Term
from tests.several_processes.scenarios import prepared

SIZES = {"batches for all": (7, 4), "an odd number of batches": (9, 6), "one batch": (2, 64), "nothing": (0, 4)}


def judge(folder: Path) -> dict[str, tuple[BothOrders, list[int]]]:
    """By the name of `SIZES`: the judgements of so many rows in batches of such a size, and the progress reported."""
    processor, rows = prepared(folder)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "model")
    reward_model, outcomes = RewardModel(TransformersBackend(model, processor)), {}
    for name, (count, batch_size) in SIZES.items():
        progress = []
        outcomes[name] = (judge_both_orders(reward_model, rows[:count], batch_size, 12, progress.append), progress)
    return outcomes


def measure_mixture(folder: Path) -> tuple[dict, int]:
    """Accuracy on pairs, and on questions that are answered by any text of an odd length; and the progress reported."""
    processor, rows = prepared(folder)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "model")
    questions = [TaskRow(f"q{i}", row.images, f"{'What? ' * i}", "", "odd") for i, row in enumerate(rows[:5])]
    reward, progress = RoutedReward({"odd": TaskReward([Term("odd", odd)])}), []
    reward_model = RewardModel(TransformersBackend(model, processor))
    return measure(reward_model, rows[:3] + questions, reward, 2, 12, progress.append), sum(progress)


def odd(completions, **columns) -> list[float]:
    return [float(len(completion[0]["content"]) % 2) for completion in completions]
