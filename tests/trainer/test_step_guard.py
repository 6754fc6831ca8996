"""A loss or gradient that is not finite never reaches the weights: the step is skipped, counted, saved and explained."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from r1reward.trainer.collapse import Collapse
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from r1reward.trainer.step_guard import NumericalTrouble, StepGuard
from tests.several_processes.launcher import launch
from tests.trainer.conftest import letters

ROW = 6  # of the rollout batch of 16; where one row is broken


class Faulty(StableReinforceTrainer):
    """`fault(trainer, batch)` breaks the rollout batches whose numbers, from 1, are in `broken`."""

    fault = staticmethod(lambda trainer, batch: None)
    broken = ()
    made = 0

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        self.made += 1
        if self.made in self.broken:
            self.fault(self, batch)
            self.broken_ids = [row["id"] for row in inputs]
            self.broken_completions = self.processing_class.tokenizer.batch_decode(
                [ids[mask.bool()] for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)]
            )
        return batch


class Watch(TrainerCallback):
    """Whether weights or optimiser moved in each step, bit for bit."""

    def __init__(self):
        self.moved: list[bool] = []

    def _state(self, model, optimizer) -> list[torch.Tensor]:
        moments = [x for state in optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)]
        return [x.detach().clone() for x in (*model.parameters(), *moments)]

    def on_step_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        self.before = self._state(model, optimizer)

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        after = self._state(model, optimizer)
        same = len(after) == len(self.before) and all(torch.equal(a, b) for a, b in zip(self.before, after, strict=True))
        self.moved.append(not same)
        assert all(x.isfinite().all() for x in after)


@pytest.fixture
def make_trainer(make_model, make_arguments, processor, dataset, tmp_path):
    """A trainer with weight decay, two updates of 8 rows per rollout batch, and a guard whose run folder is `tmp_path`."""

    def make(fault=Faulty.fault, broken=(), reward=letters, guard=None, model=None, **changes):
        trainer = Faulty(
            model=model or make_model(),
            reward_funcs=reward,
            args=make_arguments(**{"weight_decay": 0.1, "advantage_filter": "none", "pre_clip": False} | changes),
            step_guard=guard or StepGuard(tmp_path),
            train_dataset=dataset,
            processing_class=processor,
            callbacks=[watch := Watch()],
        )
        trainer.fault, trainer.broken, trainer.watch = fault, broken, watch
        return trainer

    return make


def nan_advantage(trainer, batch):
    batch["advantages"][ROW] = math.nan


def every_advantage_nan(trainer, batch):
    batch["advantages"][:] = math.nan


def far_from_the_old_policy(trainer, batch):
    """e^95 overflows float32, whose largest exponent is 88.7; with A > 0 the loss stays finite and the gradient is NaN."""
    batch["old_per_token_logps"][ROW, 0] -= 95
    batch["advantages"][ROW] = 1.0


def huge_advantage(trainer, batch):
    """The loss and every gradient are finite; the squares of the gradients are not."""
    batch["advantages"][ROW] = 1e25


def steps_of(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("fault", "changes", "why"),
    [
        (nan_advantage, {}, ["advantages"]),
        (far_from_the_old_policy, {}, ["ratio"]),
        (huge_advantage, {"max_grad_norm": 0.0}, []),
        (huge_advantage, {"max_grad_norm": 1.0}, []),
    ],
    ids=["advantage", "log-ratio", "overflow", "overflow-clipped"],
)
def test_one_bad_row_skips_one_step_and_training_goes_on(make_trainer, tmp_path, fault, changes, why, together):
    """The second rollout batch has a bad row, so one of steps 3 and 4 is skipped; its files name the row."""
    trainer = make_trainer(fault, [2], max_steps=6, share_prefix=together, keep_groups_together=together, **changes)
    trainer.train()
    (bad,) = (n for n, moved in enumerate(trainer.watch.moved, start=1) if not moved)
    assert bad in (3, 4) and len(trainer.watch.moved) == 6
    counts = [entry["skipped_steps"] for entry in steps_of(trainer)]
    assert counts == [0] * (bad - 1) + [1] * (7 - bad)
    assert not math.isfinite(steps_of(trainer)[bad - 1]["grad_norm"])
    assert all(math.isfinite(entry["loss"]) for entry in steps_of(trainer)[bad:])  # NaN must not stay in the trainer's sum

    document = json.loads((tmp_path / "debug" / f"step_{bad}.json").read_text())
    assert document["step"] == bad and len(document["losses"][0]) == 1
    row = document["rows"][0]
    assert row["id"] == trainer.broken_ids[ROW]
    assert row["completion"] == trainer.broken_completions[ROW]
    assert row["not_finite"] == why
    assert len(document["rows"]) == document["broken_rows"] == 1 if why else document["broken_rows"] == 0
    assert document["learning_rate"] == 1e-2
    if fault is far_from_the_old_policy:
        assert document["log_ratio"] == row["log_ratio"] == pytest.approx(95, abs=2)
    if fault is nan_advantage:
        assert row["advantage"] == document["advantage"] == "NaN"
    tensors = load_file(tmp_path / "debug" / f"step_{bad}.safetensors")
    assert tensors["micro0/row_index"][row["row"]] == ROW
    assert not any("pixel" in name for name in tensors)
    ids, mask = (tensors[f"micro0/completion_{name}"][row["row"]] for name in ("ids", "mask"))
    assert trainer.processing_class.tokenizer.decode(ids[mask.bool()]) == row["completion"]
    assert tensors["micro0/prompt_ids"].shape == tensors["micro0/prompt_mask"].shape
    assert tensors["micro0/log_probs"].shape == tensors["micro0/old_per_token_logps"].shape == (8, mask.numel())
    assert trainer.step_guard._micro_batches == []  # nothing is kept beyond the step


def test_an_infinite_reward_skips_the_updates_on_its_rollout_batch(make_trainer, caplog):
    """inf - inf is NaN for every row of the batch, so that steps 3 and 4 are skipped and step 5 is sound."""
    batches = []

    def reward(completions, **kwargs):
        batches.append(letters(completions))
        return [math.inf, *batches[-1][1:]] if len(batches) == 2 else batches[-1]

    trainer = make_trainer(reward=reward, max_steps=6)
    trainer.train()
    assert trainer.watch.moved == [True, True, False, False, True, True]
    assert (trainer.step_guard.skipped, trainer.step_guard.in_a_row) == (2, 0)
    said = [record.getMessage() for record in caplog.records if record.name == "r1reward.trainer.step_guard"]
    assert [text.split(" was")[0] for text in said] == ["optimiser step 3", "optimiser step 4"]
    assert "rows with numbers that are not finite: train-" in said[0] and "8 completions in all" in said[0]


def test_a_row_that_no_function_scores_is_no_fault(make_trainer):
    trainer = make_trainer(reward=lambda completions, **kwargs: [None, *letters(completions)[1:]], max_steps=2)
    trainer.train()
    assert trainer.step_guard.skipped == 0


@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_the_first_bad_tensor_is_named_although_clipping_breaks_them_all(make_trainer, tmp_path, caplog, max_grad_norm):
    """A gradient of 2e19 in one tensor: finite, as is its loss, but its square is not."""
    trainer = make_trainer(max_steps=1, max_grad_norm=max_grad_norm)
    name = "model.language_model.norm.weight"
    parameter = trainer.model.get_parameter(name)
    parameter.register_hook(lambda gradient: torch.zeros_like(gradient).index_fill(0, torch.tensor([0]), 2e19))
    trainer.train()
    assert trainer.watch.moved == [False]
    document = json.loads((tmp_path / "debug" / "step_1.json").read_text())
    assert (document["gradients"], document["broken_gradients"]) == ([name], 1)
    assert f"first bad tensor: gradient of {name}" in caplog.text


def test_a_bad_micro_batch_spoils_its_whole_step(make_trainer, tmp_path):
    """Four micro-batches of 4 rows, two per update: the file has both of the step's, and says which one had the row."""
    trainer = make_trainer(
        nan_advantage,
        [1],
        max_steps=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        steps_per_generation=4,
    )
    trainer.train()
    assert sorted(trainer.watch.moved) == [False, True]
    bad = trainer.watch.moved.index(False) + 1
    document = json.loads((tmp_path / "debug" / f"step_{bad}.json").read_text())
    tensors = load_file(tmp_path / "debug" / f"step_{bad}.safetensors")
    (row,) = document["rows"]
    assert tensors[f"micro{row['micro_batch']}/row_index"][row["row"]] == ROW
    assert "micro1/advantages" in tensors and "micro2/advantages" not in tensors
    assert [loss == "NaN" for loss in document["losses"][0]] == [n == row["micro_batch"] for n in range(2)]


def test_token_advantages_are_looked_at_as_well(make_trainer, make_model, tmp_path):
    """With the KL penalty in the reward advantages are (B, T)."""
    make_model().save_pretrained(tmp_path / "model")
    model = type(make_model()).from_pretrained(tmp_path / "model")  # the reference model is loaded from there
    trainer = make_trainer(nan_advantage, [1], model=model, kl_in_reward=0.1, max_steps=2)
    trainer.train()
    (path,) = (tmp_path / "debug").glob("*.json")
    assert [row["id"] for row in json.loads(path.read_text())["rows"]] == [trainer.broken_ids[ROW]]


def test_too_many_in_a_row_stop_the_run_with_a_diagnosis(make_trainer, tmp_path):
    trainer = make_trainer(every_advantage_nan, range(2, 9), max_steps=9)
    with pytest.raises(NumericalTrouble) as caught:
        trainer.train()
    message = str(caught.value)
    assert "steps 3 to 5" in message and "3 in a row (3 skipped in all)" in message
    assert "first bad tensor: advantages\n" in message and "bad gradients: 44, the first of model.visual" in message
    assert "losses: nan" in message
    assert any(f"{name} (advantages)" in message for name in trainer.broken_ids)
    assert "8 completions in all" in message
    assert "largest |log-ratio| " in message and "learning rate 0.01" in message
    assert str(tmp_path / "debug" / "step_5.safetensors") in message
    assert "look at the rewards of those rows" in message and "trainer.on_collapse=record" in message
    assert trainer.watch.moved == [True, True, False, False, False]
    assert [entry["skipped_steps"] for entry in steps_of(trainer)] == [0, 0, 1, 2, 3]  # the last one is recorded, too


def test_the_remedy_fits_the_fault(make_trainer):
    trainer = make_trainer(far_from_the_old_policy, range(1, 9), guard=StepGuard("/dev/null", max_skipped_steps=1))
    with pytest.raises(NumericalTrouble, match="use clip=pre_clip, which bounds the ratio") as caught:
        trainer.train()
    assert "not saved: " in str(caught.value)  # a folder that cannot be written hides nothing
    assert "(ratio)" in str(caught.value)


def test_a_file_that_cannot_be_written_does_not_hide_the_diagnosis(make_trainer, tmp_path):
    (tmp_path / "debug" / "step_1.safetensors").mkdir(parents=True)
    trainer = make_trainer(every_advantage_nan, [1], guard=StepGuard(tmp_path, max_skipped_steps=1))
    with pytest.raises(NumericalTrouble, match="its micro-batches: not saved: .*directory"):
        trainer.train()
    assert (tmp_path / "debug" / "step_1.json").is_file()


def test_a_recorded_collapse_ends_the_training_without_an_error(make_trainer, tmp_path):
    guard = StepGuard(tmp_path, "record", max_skipped_steps=2)
    trainer = make_trainer(every_advantage_nan, range(2, 9), guard=guard, max_steps=9)
    trainer.train()
    assert trainer.state.global_step == 4
    assert trainer.watch.moved == [True, True, False, False]
    collapse = guard.collapse
    assert (collapse.collapsed, collapse.step, collapse.skipped_steps) == (True, 3, 2)
    assert collapse.reason == "2 steps in a row without a finite loss and gradient (first bad: advantages)"


def test_a_sound_step_begins_the_count_in_a_row_anew(make_trainer, tmp_path):
    """One of each two steps is bad, so that never three are in a row."""
    trainer = make_trainer(nan_advantage, range(1, 9), max_steps=8)
    trainer.train()
    assert trainer.step_guard.skipped == 4
    assert trainer.watch.moved.count(False) == 4


def test_ten_steps_are_saved_and_the_others_counted(make_trainer, tmp_path):
    guard = StepGuard(tmp_path, max_skipped_steps=12)
    with pytest.raises(NumericalTrouble, match="not saved: those of 10 skipped steps are there already"):
        make_trainer(every_advantage_nan, range(1, 99), guard=guard, max_steps=20).train()
    names = {f"step_{n}.{kind}" for n in range(1, 11) for kind in ("json", "safetensors")}
    assert {path.name for path in (tmp_path / "debug").iterdir()} == names
    assert guard.skipped == 12


def test_the_count_survives_a_restart(make_trainer, tmp_path):
    """Two bad steps, a checkpoint, a restart; the third in a row stops the run and knows where it began."""
    first = make_trainer(every_advantage_nan, range(1, 9), max_steps=2, save_strategy="steps", save_steps=2)
    first.train()
    again = make_trainer(every_advantage_nan, range(1, 9), max_steps=4)
    with pytest.raises(NumericalTrouble, match=r"steps 1 to 3: .*3 in a row \(3 skipped in all\)"):
        again.train(resume_from_checkpoint=f"{first.args.output_dir}/checkpoint-2")


def test_state_is_plain_json(tmp_path):
    guard = StepGuard(tmp_path, "record")
    guard.skipped, guard.in_a_row, guard._first, guard.collapse = 5, 3, 7, Collapse(True, 7, "why", 5)
    other = StepGuard(tmp_path, "record")
    other.load_state_dict(json.loads(json.dumps(guard.state_dict())))
    assert vars(other) == vars(guard)
    other.load_state_dict(StepGuard(tmp_path).state_dict())
    assert other.collapse is None and other.skipped == 0


def test_under_deepspeed_a_bad_loss_ends_the_run_before_the_backward_pass(make_trainer):
    """Its engine steps inside the backward pass, where nothing can be skipped any more."""
    trainer = make_trainer(every_advantage_nan, [1])
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.create_optimizer_and_scheduler(4)
    trainer.is_deepspeed_enabled = True
    with pytest.raises(NumericalTrouble, match="step 1: the loss or a gradient is not finite"):
        trainer.compute_loss(trainer.model, inputs)
    assert all(p.grad is None for p in trainer.model.parameters())


def test_processes_skip_and_stop_together(tmp_path):
    """The second of two has bad rows in steps 3 to 5: neither moves, both know the rows, both stop, nobody waits."""
    code, output = launch("tests.trainer.guarded_processes", str(tmp_path), folder=tmp_path)
    assert code == 0, output[-3000:]
    first, second = (torch.load(tmp_path / f"outcome-{rank}.pt") for rank in (0, 1))
    assert first["message"] == second["message"] and "steps 3 to 5" in first["message"]
    assert first["state"] == second["state"] == {"skipped": 3, "in_a_row": 3, "first": 3, "collapse": None}
    assert first["weights"].isfinite().all() and torch.equal(first["weights"], second["weights"])
    folder = tmp_path / "run" / "debug"
    endings = (".json", ".safetensors", "-rank1.safetensors")
    assert {path.name for path in folder.iterdir()} == {f"step_{n}{ending}" for n in (3, 4, 5) for ending in endings}
    document = json.loads((folder / "step_3.json").read_text())
    assert {row["rank"] for row in document["rows"]} == {1} and document["broken_rows"] == 4
    assert [losses == ["NaN"] for losses in document["losses"]] == [False, True]
    tensors = [load_file(folder / f"step_3{ending}") for ending in endings[1:]]
    assert [x["micro0/advantages"].isnan().all().item() for x in tensors] == [False, True]
