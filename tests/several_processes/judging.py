"""Held-out accuracy of the tiny model, as every process has it."""

from pathlib import Path

from transformers import Qwen2_5_VLForConditionalGeneration

from r1reward.benchmarks.both_orders import BothOrders, judge_both_orders
from r1reward.inference.reward_model import RewardModel
from r1reward.inference.transformers_backend import TransformersBackend
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
