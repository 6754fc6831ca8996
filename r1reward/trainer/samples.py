"""Writes some rollouts, with thumbnails of their images, to the run folder."""

import math
from dataclasses import dataclass

from r1reward.data.rows import PREFERENCE
from r1reward.rewards.verdict import parse
from r1reward.tracking.run_folder import RunFolder
from r1reward.trainer.stable_reinforce import Rollouts


@dataclass
class SampleWriter:
    """Called with every rollout batch; writes `per_batch` rows of every `every`-th one, verdicts parsed by `pattern`."""

    run: RunFolder
    every: int
    per_batch: int
    pattern: str = "strict"
    seen: int = 0

    def __call__(self, rollouts: Rollouts):
        self.seen += 1
        if (self.seen - 1) % self.every:
            return
        self.run.write_samples([self._record(rollouts, i) for i in range(min(self.per_batch, len(rollouts.rows)))])

    def state_dict(self) -> dict:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict):
        self.seen = state["seen"]

    def _record(self, rollouts: Rollouts, i: int) -> dict:
        row, completion = rollouts.rows[i], rollouts.completions[i]
        verdict = parse(completion, self.pattern) if row["task"] == PREFERENCE else None
        images = [self.run.save_thumbnail(image, f"{row['id']}-{n}") for n, image in enumerate(row["images"])]
        return {
            "step": rollouts.step,
            "id": row["id"],
            "images": images,
            "prompt": "".join(part["text"] or "" for message in row["prompt"] for part in message["content"]),
            "completion": completion,
            "task": row["task"],
            "verdict": verdict and verdict.choice,
            "rejection": verdict and verdict.rejection,
            "label": row["label"],
            "solution": row["solution"] or None,
            "right": rollouts.right and rollouts.right[i],
            "terms": {
                name: None if math.isnan(values[i]) else values[i]
                for name, values in rollouts.terms.items()
                if "/" not in name or name.startswith(f"{row['task']}/")  # not those of other tasks (`RoutedReward`)
            },
            "reward": rollouts.rewards[i],
            "advantage": rollouts.advantages[i],
            "kept": rollouts.kept[i],
        }
