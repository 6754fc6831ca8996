"""Reinforcement learning of each family: its passes see the image, its loss is the one worked out by hand, a run can go on."""

import math
import statistics
from dataclasses import dataclass, field, replace

import pytest
import torch

from r1reward.data.images import open_image
from r1reward.models.loading import ModelSettings, load_model
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.families.conftest import greedy_alone, log_probs_alone, noise, rec_rows
from tests.families.tiny_models import build

CLOSE = 1e-4  # nats, between a batch with padding and a row alone, in float32
FAR = 1e-3  # nats, that another image moves a token at least


@dataclass
class Rollout:
    """One rollout batch: what came of it, and the log-probabilities of its rows one by one, with their own image or another."""

    rows: list
    batch: dict
    alone: list[torch.Tensor]
    other_image: list[torch.Tensor]
    rewards: list[float]


@dataclass
class Update:
    """One micro-batch: the trainer's loss and log-probabilities (B, T), and those of its rows one by one."""

    inputs: dict
    loss: float
    log_probs: torch.Tensor
    alone: list[torch.Tensor]
    other_image: list[torch.Tensor]
    rollout: Rollout


@dataclass
class Seen:
    rollouts: list[Rollout] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)


class Watched(StableReinforceTrainer):
    """Writes down what it computes, beside what plain calls of its model give at the same moment."""

    def watch(self, rows):
        self.seen, self.by_id = Seen(), {row.id: row for row in rows}
        self.on_rollouts = lambda rollouts: setattr(self, "last", rollouts)
        return self

    def _alone(self, rows, ids, mask):
        pairs = [(row, tokens[: int(n)]) for row, tokens, n in zip(rows, ids, mask.sum(1), strict=True)]
        return [
            [log_probs_alone(self.model, self.processing_class, row if own else other(row), tokens) for row, tokens in pairs]
            for own in (True, False)
        ]

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        rows = [self.by_id[row["id"]] for row in inputs]
        alone, other_image = self._alone(rows, batch["completion_ids"], batch["completion_mask"])
        self.seen.rollouts.append(Rollout(rows, batch, alone, other_image, self.last.rewards))
        return batch

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        outcome = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self.computed = self._log_probs  # before Pre-CLIP
        return outcome

    def _compute_loss(self, model, inputs):
        rollout = self.seen.rollouts[-1]
        rows = [rollout.rows[n] for n in inputs["row_index"]]
        alone, other_image = self._alone(rows, inputs["completion_ids"], inputs["completion_mask"])
        loss = super()._compute_loss(model, inputs)
        self.seen.updates.append(Update(inputs, loss.item(), self.computed, alone, other_image, rollout))
        return loss


def other(row):
    """The row with other images of the same shapes, if it has any."""
    return replace(row, images=tuple(noise(open_image(x).size, 999 + n) for n, x in enumerate(row.images)))


def agree(found: torch.Tensor, expected: list[torch.Tensor]):
    for row, values in zip(found, expected, strict=True):
        torch.testing.assert_close(row[: len(values)], values, atol=CLOSE, rtol=0)


def differ(rows, alone: list[torch.Tensor], other_image: list[torch.Tensor]):
    """Rows with an image are worth something else with another one, and only they are."""
    for row, own, swapped in zip(rows, alone, other_image, strict=True):
        assert (own - swapped).abs().max() > FAR if row.images else torch.equal(own, swapped)


def loss_by_hand(log_probs, old, advantages, delta=(1e-3, 1e3), epsilon=0.2) -> float:
    """StableReinforce's loss (arXiv 2505.02835): the mean over rows of the mean over tokens of -min(r A, clip(r) A).

    Args:
        log_probs, old: Log-probabilities in nats, a list per row, without padding.
        advantages: One per row.
        delta: Bounds of r before everything else (Pre-CLIP).
        epsilon: Half-width of PPO's clip.
    """
    losses = []
    for new, before, advantage in zip(log_probs, old, advantages, strict=True):
        ratios = [math.exp(min(max(a - b, math.log(delta[0])), math.log(delta[1]))) for a, b in zip(new, before, strict=True)]
        clipped = [min(max(ratio, 1 - epsilon), 1 + epsilon) for ratio in ratios]
        losses.append(statistics.fmean(-min(r * advantage, c * advantage) for r, c in zip(ratios, clipped, strict=True)))
    return statistics.fmean(losses)


def advantages_by_hand(rewards: list[float], threshold: float = 2.6) -> list[float]:
    """Rewards standardised over the rollout batch; extreme ones become 0."""
    mean, deviation = statistics.fmean(rewards), statistics.pstdev(rewards)
    z = [(reward - mean) / (deviation + 1e-8) for reward in rewards]
    return [value if abs(value) <= threshold else 0.0 for value in z]


@pytest.fixture(scope="session")
def run(tiny, tmp_path_factory):
    """Three updates: two on the first rollout batch, one on the second; a checkpoint after the first."""
    rows = rec_rows()
    output = tmp_path_factory.mktemp("run")
    trainer = tiny.trainer(output, rows, Watched, save_strategy="steps", save_steps=1, keep_last=3).watch(rows)
    trainer.train()
    return trainer


def test_a_step_moves_all_parts_of_the_model(tiny, run):
    losses = [step["loss"] for step in run.state.log_history if "loss" in step]
    assert len(losses) == 3 and all(map(math.isfinite, losses))
    start, end = tiny.model().state_dict(), run.model.state_dict()
    moved = [name for name, value in start.items() if not torch.equal(value, end[name])]
    for part in ("vis", "language_model", "text_model"):  # modules of the vision tower are `visual` or `vision_...`
        of_part = [name for name in start if part in name]
        assert not of_part or set(moved) & set(of_part), part
    assert len(moved) > len(start) / 2


def test_every_pass_sees_the_image(run):
    first, *_ = run.seen.updates
    assert (first.log_probs - first.inputs["old_per_token_logps"]).mul(first.inputs["completion_mask"]).abs().max() < CLOSE
    for rollout in run.seen.rollouts:
        agree(rollout.batch["old_per_token_logps"], rollout.alone)
        differ(rollout.rows, rollout.alone, rollout.other_image)
    for update in run.seen.updates:
        agree(update.log_probs, update.alone)
        differ([update.rollout.rows[n] for n in update.inputs["row_index"]], update.alone, update.other_image)


def test_the_loss_is_the_one_worked_out_by_hand(run):
    assert any(value for rollout in run.seen.rollouts for value in rollout.rewards)
    for update in run.seen.updates:
        order = update.inputs["row_index"].tolist()
        advantages = advantages_by_hand(update.rollout.rewards)
        expected = loss_by_hand(
            [row.tolist() for row in update.alone],
            [update.rollout.alone[n].tolist() for n in order],
            [advantages[n] for n in order],
        )
        assert update.loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_sampling_sees_the_image(tiny, tmp_path):
    """Greedy rollouts are those of plain calls, and change with the pixels."""
    written = []
    for seed in range(3):
        rows = rec_rows((1, 1, 1, 1), seed)
        trainer = tiny.trainer(tmp_path, rows, generation_kwargs={"do_sample": False})
        inputs = [sample for sample in trainer.train_dataset for _ in range(2)]
        batch = trainer._generate_and_score_completions(inputs)
        ids = [ids[: int(n)].tolist() for ids, n in zip(batch["completion_ids"], batch["completion_mask"].sum(1), strict=True)]
        expected = [greedy_alone(trainer.model, tiny.processor, row, 4) for row in rows]
        assert ids == [completion for completion in expected for _ in range(2)]
        written.append(ids)
    assert written[0] != written[1] or written[0] != written[2]


def test_a_run_goes_on_from_its_checkpoint_bit_for_bit(tiny, run, tmp_path):
    model, _ = build(tiny.name, seed=1)  # every weight must come from the checkpoint
    again = tiny.trainer(run.checkpoints.path(1).parent, rec_rows(), model=model)
    again.train(resume_from_checkpoint=str(run.checkpoints.path(1)))
    assert again.state.global_step == 3
    expected = run.model.state_dict()
    assert again.model.state_dict().keys() == expected.keys()
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    again.save_model(str(tmp_path))
    for name, value in load_model(ModelSettings(path=str(tmp_path))).state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("changes", [{}, {"share_prefix": False, "keep_groups_together": False}], ids=["groups", "as TRL does"])
def test_rows_with_two_images_and_with_none_train_together(tiny, tmp_path, changes):
    """As many images as rows, for which TRL takes SmolVLM's rows for images; and parts of the batch without any."""
    rows = rec_rows((2, 2, 0, 0))
    trainer = tiny.trainer(tmp_path, rows, Watched, max_steps=2, beta=0.1, shuffle_dataset=False, **changes).watch(rows)
    trainer.train()
    (rollout,) = trainer.seen.rollouts
    agree(rollout.batch["old_per_token_logps"], rollout.alone)
    agree(rollout.batch["ref_per_token_logps"], rollout.alone)
    for update in trainer.seen.updates:
        agree(update.log_probs, update.alone)
        if "row_index" in update.inputs:
            differ([rollout.rows[n] for n in update.inputs["row_index"]], update.alone, update.other_image)


def test_text_alone_trains(tiny, tmp_path):
    rows = rec_rows((0, 0, 0, 0))
    trainer = tiny.trainer(tmp_path, rows, Watched, max_steps=1).watch(rows)
    trainer.train()
    agree(trainer.seen.updates[0].log_probs, trainer.seen.updates[0].alone)
