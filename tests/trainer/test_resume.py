"""A run that was stopped anywhere and goes on ends as one that was not: weights, optimiser, metrics, completions to the bit."""

import json
import math
import signal

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, TrainerCallback

from r1reward.data.build import training_dataset
from r1reward.trainer.callbacks import StopOnSignal
from r1reward.trainer.checkpoints import DamagedCheckpoint
from r1reward.trainer.resumable import EpochSampler
from r1reward.trainer.signals import StopSignals
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from r1reward.trainer.step_guard import StepGuard
from tests.trainer.conftest import letters

TIMES = ("step_time", "train_runtime")


class Recorder(TrainerCallback):
    """Metrics by step, and the micro-step at which something happens."""

    def __init__(self, at_micro_step: int | None = None, happens=lambda: None):
        self.metrics: dict[int, dict] = {}
        self.micro_steps = 0
        self.at_micro_step, self.happens = at_micro_step, happens

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.metrics[state.global_step] = {k: v for k, v in logs.items() if k not in TIMES}

    def on_substep_end(self, *args, **kwargs):
        self.micro_steps += 1
        if self.micro_steps == self.at_micro_step:
            self.happens()

    on_step_end = on_substep_end


class Killed(Exception):
    pass


def kill():
    raise Killed


@pytest.fixture
def run(make_model, make_arguments, processor, rows, tmp_path):
    """Train in a folder of its own; returns (trainer, metrics by step, completions)."""
    data = training_dataset(rows[:8])

    def run(folder, seed=0, recorder=None, resume=None, signals=None, dataset=None, freeze=False, **changes):
        completions: dict[int, list[str]] = {}  # by the step at which they were sampled
        recorder = recorder or Recorder()
        if not (tmp_path / f"base-{seed}").exists():
            make_model(seed).save_pretrained(tmp_path / f"base-{seed}")  # where TRL looks for the reference model
        model = AutoModelForImageTextToText.from_pretrained(tmp_path / f"base-{seed}")
        if freeze:
            model.base_model.visual.requires_grad_(False)
        lora = LoraConfig(target_modules=["q_proj", "v_proj"], r=2) if changes.pop("lora", False) else None
        arguments = {"output_dir": str(tmp_path / folder), "max_steps": 10, "lr_scheduler_type": "cosine"}
        trainer = StableReinforceTrainer(
            model=model,
            reward_funcs=letters,
            args=make_arguments(**(arguments | changes)),
            on_rollouts=lambda rollouts: completions.__setitem__(rollouts.step, rollouts.completions),
            train_dataset=dataset or data,
            processing_class=processor,
            callbacks=[recorder, *([StopOnSignal(signals)] if signals else [])],
            peft_config=lora,
        )
        try:
            trainer.train(resume_from_checkpoint=resume)
        except Killed:
            assert recorder.happens is kill
        return trainer, recorder.metrics, completions

    return run


# 8 rows in groups of 4: two rollout batches an epoch, so that 10 steps of two a batch pass through three epochs.
SETTINGS = {
    "two updates": {},
    "four updates": {"num_iterations": 2},
    "accumulation": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "steps_per_generation": 4},
    "stock prompts": {"share_prefix": False, "keep_groups_together": False, "steps_per_generation": 2},
    "groups of one": {"num_generations": 1, "per_device_train_batch_size": 4, "filter_threshold": 2.0},
    "frozen vision": {"freeze": True, "kl_in_reward": 0.01, "advantage_estimator": "batch"},
    "moving reference": {"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 3, "ref_model_mixup_alpha": 0.5},
    "adapters": {"lora": True},
    "entropy control": {"use_adaptive_entropy": True, "entropy_coef": 0.01, "entropy_target": 3.0},
}


def same(first: StableReinforceTrainer, second: StableReinforceTrainer):
    for name, value in first.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
    a, b = first.optimizer.state_dict()["state"], second.optimizer.state_dict()["state"]
    assert a.keys() == b.keys()
    for key in a:
        for name, value in a[key].items():
            assert torch.equal(b[key][name], value), (key, name)
    if first.ref_model is not None:
        for name, value in first.ref_model.state_dict().items():
            assert torch.equal(second.ref_model.state_dict()[name], value), name


def base_of(settings: dict) -> int:
    """Seed of the model that a resumed run begins with: another one, for all weights must come from the checkpoint, unless the
    reference or the adapted weights are the base model's."""
    return 0 if {"beta", "kl_in_reward", "lora"} & settings.keys() else 1


def in_make_test(*names: str) -> list:
    """All settings, those not named marked slow."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS]


@pytest.mark.parametrize("name", in_make_test("two updates", "accumulation", "groups of one", "moving reference"))
def test_killed_between_checkpoints(run, name):
    """Killed at some micro-step; checkpoints every third step, so also within a rollout batch, and in epochs 0 to 2."""
    settings = {"save_strategy": "steps", "save_steps": 3} | SETTINGS[name]
    whole, metrics, completions = run("whole", **settings)
    assert len({json.dumps(texts) for texts in completions.values()}) > 1  # they differ, so a repeated batch would show
    per_step = settings.get("gradient_accumulation_steps", 1)
    for killed_in in (5, 8, 10):
        folder = f"killed {killed_in}"
        _, before, drawn = run(folder, recorder=Recorder(killed_in * per_step, kill), **settings)
        resumed, after, drawn_later = run(folder, seed=base_of(settings), resume=True, **settings)
        assert min(after) == (killed_in - 1) // 3 * 3 + 1
        same(whole, resumed)
        assert before | after == metrics
        assert drawn | drawn_later == completions


@pytest.mark.parametrize("name", in_make_test("accumulation", "frozen vision"))
def test_stopped_by_a_signal_after_any_micro_step(run, name):
    """No checkpoints but the one that the signal causes, in the middle of a step too; nothing of the run is computed twice."""
    settings = SETTINGS[name]
    whole, metrics, completions = run("whole", **settings)
    per_step = settings.get("gradient_accumulation_steps", 1)
    steps = range(1, 10 * per_step, 3 if per_step == 1 else 1) if name != "accumulation" else (1, 2, 3, 4, 5, 8, 9, 11, 13, 19)
    for stopped_after in steps:
        signals = StopSignals()
        recorder = Recorder(stopped_after, lambda signals=signals: setattr(signals, "received", signal.SIGTERM))
        folder = f"stopped {stopped_after}"
        stopped, before, drawn = run(folder, recorder=recorder, signals=signals, **settings)
        assert stopped.state.global_step == stopped_after // per_step
        assert len(stopped.checkpoints.steps()) == 1
        resumed, after, drawn_later = run(folder, seed=base_of(settings), resume=True, **settings)
        assert not before.keys() & after.keys()
        assert not drawn.keys() & drawn_later.keys()  # a rollout batch that was sampled is not sampled again
        same(whole, resumed)
        assert before | after == metrics
        assert drawn | drawn_later == completions


def test_a_finished_run_trains_no_further(run):
    whole, _, _ = run("whole", save_strategy="steps", save_steps=5)
    resumed, metrics, _ = run("whole", seed=1, resume=True, save_strategy="steps", save_steps=5)
    assert not metrics
    assert resumed.state.global_step == 10
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_resume_restores_every_weight(run):
    whole, _, _ = run("whole", save_strategy="steps", save_steps=10)
    other, _, _ = run("other", seed=1, max_steps=1)
    assert not any(torch.equal(value, whole.model.state_dict()[name]) for name, value in other.model.named_parameters())
    other._load_from_checkpoint(str(whole.checkpoints.path(10)))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value), name


def test_a_damaged_checkpoint_is_refused_or_skipped(run):
    settings = {"save_strategy": "steps", "save_steps": 3}
    whole, metrics, _ = run("whole", **settings)
    assert whole.checkpoints.steps() == [9, 10]
    file = whole.checkpoints.path(10) / "optimizer.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    file.write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match="optimizer.pt is not what was written"):
        run("whole", resume=whole.checkpoints.path(10), **settings)
    with pytest.warns(UserWarning, match="set aside, and the one before it is used"):
        resumed, after, _ = run("whole", seed=1, resume=True, **settings)
    assert list(after) == [10] and after[10] == metrics[10]
    same(whole, resumed)


def test_another_number_of_processes_is_refused(run):
    whole, _, _ = run("whole", save_strategy="steps", save_steps=10)
    path = whole.checkpoints.path(10)
    (path / "state-1.json").write_bytes((path / "state-0.json").read_bytes())
    manifest = json.loads((path / "manifest.json").read_text())
    assert "state-1.json" not in manifest["files"]
    with pytest.raises(ValueError, match="was written by 2 processes and cannot go on with 1.*Start 2"):
        run("whole", resume=path)


def test_states_of_others_are_kept(run, make_model):
    class Counter:
        count = 0

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    whole, _, _ = run("whole", max_steps=2)
    counter = Counter()
    whole.stateful["counter"] = counter
    counter.count = 7
    whole._save_checkpoint(whole.model, None)
    counter.count = 0
    whole._load_rng_state(whole.checkpoints.newest())
    assert counter.count == 7


def test_the_order_of_rows_is_trls_in_every_epoch(run):
    trainer, _, _ = run("whole", max_steps=1)
    stock = super(StableReinforceTrainer.__mro__[1], trainer)._get_train_sampler()
    ours = trainer._get_train_sampler()
    assert isinstance(ours, EpochSampler) and not isinstance(stock, EpochSampler)
    for epoch in range(3):
        ours.epoch = epoch
        expected = list(stock)
        assert list(ours) == expected
        assert list(ours) == expected  # and again, in a run that begins there


def test_a_recorded_collapse_stays_the_end(run, make_model, make_arguments, processor, rows, tmp_path):
    """A checkpoint written after the collapse restores its weights, and training does not go on from there."""

    def trained(folder, resume=None, **changes):
        guard = StepGuard(tmp_path / folder, on_collapse="record", max_skipped_steps=1)
        trainer = StableReinforceTrainer(
            model=make_model(0),
            reward_funcs=lambda completions, **_: (
                [math.inf] * 16 if guard.trainer.state.global_step >= 2 else letters(completions)
            ),
            args=make_arguments(output_dir=str(tmp_path / folder), max_steps=8, save_strategy="steps", save_steps=3, **changes),
            step_guard=guard,
            train_dataset=training_dataset(rows[:8]),
            processing_class=processor,
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer, guard

    whole, guard = trained("whole")
    assert guard.collapse.step == whole.state.global_step == 3
    assert whole.checkpoints.steps() == [3]
    again, guard_again = trained("whole", resume=True)
    assert again.state.global_step == 3
    assert guard_again.collapse == guard.collapse
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
