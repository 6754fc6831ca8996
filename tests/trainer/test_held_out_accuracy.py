"""Accuracy measured while training: in the metrics, as the checkpoints' score, and without a trace in the weights."""

import pytest
import torch
from transformers import TrainerCallback

from r1reward.benchmarks.accuracy import measure
from r1reward.benchmarks.both_orders import judge_both_orders
from r1reward.data.build import training_dataset
from r1reward.data.rows import TaskRow
from r1reward.inference.reward_model import RewardModel
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.reporting.plots import learning_curve
from r1reward.rewards.judges.rule import RuleJudge
from r1reward.rewards.preference import PreferenceReward
from r1reward.rewards.registry import Context, make
from r1reward.rewards.tasks import RoutedReward, TaskReward, Term
from r1reward.tracking.run_folder import RunFolder
from r1reward.tracking.trackers import NullTracker
from r1reward.trainer.callbacks import HeldOutAccuracy, MetricsRecorder, shown_terms
from r1reward.trainer.samples import SampleWriter
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
            reward_funcs=letters,
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


def test_several_tasks_are_logged_one_by_one(make_trainer):
    """And a split none of whose rows could be scored has no accuracy, and its checkpoint no score."""

    def block(accuracy):
        return {"accuracy": None if accuracy is None else {"mean": accuracy}}

    mixture = block(0.5) | {"by_task": {"preference": block(0.25), "rec": block(0.75)}}
    found = {1: {"held_out": mixture, "single": block(0.5) | {"by_task": {"rec": block(0.5)}}}}
    found[2] = {"held_out": block(None) | {"by_task": {"rec": block(None)}}}
    trainer = make_trainer(max_steps=2)
    scores = []
    trainer.add_callback(HeldOutAccuracy(trainer, 1, lambda title: found[trainer.state.global_step]))
    trainer.add_callback(type("Scores", (TrainerCallback,), {"on_step_end": lambda *_, **__: scores.append(trainer.score)})())
    trainer.train()
    logged = {step: {k: v for k, v in row.items() if k.startswith("evaluation/")} for step, row in metrics_of(trainer).items()}
    assert logged[1] == {
        "evaluation/held_out/accuracy": 0.5,
        "evaluation/held_out/preference/accuracy": 0.25,
        "evaluation/held_out/rec/accuracy": 0.75,
        "evaluation/single/accuracy": 0.5,
    }
    assert logged[2] == {} and scores == [0.5, None]


def test_a_mixed_run_records_every_task_and_nothing_of_absent_ones(make_model, make_arguments, processor, rows, tmp_path):
    """Two rollout batches of four prompts: pairs, then boxes and numbers. What a batch lacks is in none of its metrics."""
    image = rows[0].images
    boxes = [TaskRow(f"rec-{i}", image, "Where is the red circle?", "[1, 2, 30, 40]", "rec") for i in range(2)]
    numbers = [TaskRow(f"number-{i}", image, "How many circles?", "3", "number") for i in range(2)]
    mixed = [*rows[:4], *boxes, *numbers]
    reward = RoutedReward(
        {
            "number": TaskReward([Term("number", make("number", "strict", {}, Context())), Term("letters", letters)]),
            "preference": PreferenceReward(judge=RuleJudge()),
            "rec": TaskReward([Term("iou", make("iou", "strict", {}, Context())), Term("letters", letters)]),
        }
    )
    run = RunFolder(tmp_path / "run")
    run.open_run({"seed": 0}, "train")
    model = make_model()
    trainer = StableReinforceTrainer(
        model=model,
        reward_funcs=reward,
        args=make_arguments(shuffle_dataset=False),
        on_rollouts=SampleWriter(run, every=1, per_batch=16),
        train_dataset=training_dataset(mixed),
        processing_class=processor,
        callbacks=[MetricsRecorder(run, NullTracker())],
    )
    reward_model = RewardModel(TransformersBackend(model, processor))
    trainer.add_callback(
        HeldOutAccuracy(trainer, 3, lambda title: {"held_out": measure(reward_model, mixed, reward, 4, max_new_tokens=6)})
    )
    trainer.train()
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    metrics = {row["step"]: row for row in run.read_metrics()}
    terms = {step: {k for k in row if k.startswith("rewards/") and k.endswith("/mean")} for step, row in metrics.items()}
    assert terms[1] == {"rewards/preference/result/mean", "rewards/preference/format/mean", "rewards/total/mean"}
    of_tasks = {f"rewards/{task}/{term}/mean" for task in ("rec", "number") for term in ("letters",)}
    assert terms[3] == of_tasks | {"rewards/rec/iou/mean", "rewards/number/number/mean", "rewards/total/mean"}
    samples = run.read_samples()
    of_batch = [sample for sample in samples if sample["step"] == 2]
    for task in ("rec", "number"):
        values = [sample["terms"][f"{task}/letters"] for sample in of_batch if sample["task"] == task]
        assert len(values) == 8  # two prompts of four rollouts; the others have no part in the mean
        assert metrics[3][f"rewards/{task}/letters/mean"] == pytest.approx(sum(values) / 8)
    boxed, pair = next(s for s in of_batch if s["task"] == "rec"), samples[0]
    assert set(boxed["terms"]) == {"rec/iou", "rec/letters"} and boxed["solution"] == "[1, 2, 30, 40]"
    assert boxed["verdict"] is boxed["rejection"] is boxed["label"] is None and boxed["right"] is False
    assert set(pair["terms"]) == {"preference/result", "preference/consistency", "preference/format"} and pair["label"]
    assert {f"evaluation/held_out/{task}/accuracy" for task in reward.rewards} <= set(metrics[3])
    assert learning_curve(tmp_path / "run").is_file()


def test_the_line_shows_what_it_has_room_for():
    plain = {"reward": 1.0, "rewards/result/mean": 0.5, "rewards/consistency/mean": 0.2, "rewards/format/mean": 0.9}
    assert shown_terms(plain | {"rewards/total/mean": 0.0, "rewards/result/std": 0.1}) == {"right": 0.5, "format": 0.9}
    boxes = {"rewards/rec/iou/mean": 0.4, "rewards/rec/iou/std": 0.1, "rewards/rec/format/mean": 0.8, "rec/iou/rejected": 0.1}
    assert shown_terms(boxes) == {"iou": 0.4, "format": 0.8}
    numbers = {"rewards/number/number/mean": None, "rewards/number/format/mean": None}  # none in this rollout batch
    assert shown_terms(boxes | numbers | {"rewards/total/mean": 0.0}) == {"rec": 0.4, "number": None}
    assert shown_terms({"loss": 1.0}) == {}
