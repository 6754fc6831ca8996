"""Accuracy measured while training: in the metrics, as the checkpoints' score, and without a trace in the weights."""

import pytest
import torch
from transformers import TrainerCallback

from r1reward.benchmarks.both_orders import judge_both_orders
from r1reward.inference.reward_model import RewardModel
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.trainer.callbacks import HeldOutAccuracy
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.trainer.conftest import letters


class Recorder(TrainerCallback):
    def __init__(self):
        self.metrics = {}

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.metrics[state.global_step] = logs


@pytest.fixture
def make_trainer(make_model, make_arguments, processor, dataset):
    def make(**changes):
        return StableReinforceTrainer(
            model=make_model(),
            reward=letters,
            args=make_arguments(**changes),
            train_dataset=dataset,
            processing_class=processor,
            callbacks=[Recorder()],
        )

    return make


def metrics_of(trainer) -> dict:
    (recorder,) = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, Recorder)]
    return recorder.metrics


def test_the_best_checkpoints_stay(make_trainer):
    accuracies = {2: 0.5, 4: 0.75, 6: 0.25, 8: 0.5}
    trainer = make_trainer(max_steps=8, save_strategy="steps", save_steps=2, keep_last=1, keep_best=2)
    titles = []

    def evaluate(title):
        titles.append(title)
        accuracy = accuracies[trainer.state.global_step]
        return {"held_out": {"accuracy": {"mean": accuracy}}, "out_of_distribution": {"accuracy": {"mean": 1 - accuracy}}}

    trainer.add_callback(HeldOutAccuracy(trainer, 2, evaluate))
    trainer.train()
    assert titles == [f"accuracy at step {step}" for step in accuracies]
    assert trainer.checkpoints.steps() == [4, 8]  # of 2 and 8, equally good, the later
    metrics = metrics_of(trainer)
    found = {
        step: row["evaluation/held_out/accuracy"] for step, row in metrics.items() if "evaluation/held_out/accuracy" in row
    }
    assert found == accuracies
    assert metrics[4]["evaluation/out_of_distribution/accuracy"] == 0.25


def test_a_checkpoint_that_is_written_again_keeps_its_score(make_trainer):
    """Resumed from an evaluated checkpoint and stopped in the next step, the trainer writes it anew."""
    trainer = make_trainer(max_steps=2, save_strategy="steps", save_steps=2, keep_best=1)
    trainer.add_callback(HeldOutAccuracy(trainer, 2, lambda title: {"held_out": {"accuracy": {"mean": 0.75}}}))
    trainer.train()
    other = make_trainer(max_steps=4)
    other._load_rng_state(trainer.checkpoints.path(2))
    assert other.score == 0.75


def test_evaluating_leaves_the_training_as_it_is(make_trainer, processor, rows):
    """Judging draws no random number and leaves the model in its mode: the weights come out bit for bit the same."""
    plain = make_trainer()
    plain.train()
    watched = make_trainer()
    reward_model = RewardModel(TransformersBackend(watched.model, processor), "strict")
    judged = []

    def evaluate(title):
        summary = judge_both_orders(reward_model, rows[:4], batch_size=4, max_new_tokens=6).summary()
        judged.append(summary["n"])
        return {"held_out": summary}

    watched.add_callback(HeldOutAccuracy(watched, 1, evaluate))
    watched.train()
    assert judged == [4] * 4
    for name, value in plain.model.state_dict().items():
        assert torch.equal(watched.model.state_dict()[name], value), name
    for step, row in metrics_of(plain).items():
        other = metrics_of(watched)[step]
        assert all(other[key] == value for key, value in row.items() if key != "step_time")
