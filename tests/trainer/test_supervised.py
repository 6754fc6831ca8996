"""Supervised training in RL's trainer: its loss, its targets, the order of its rows, what it leaves out, exact resume."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback

from r1reward.configs import compose_settings
from r1reward.data.build import training_dataset
from r1reward.data.images import BadImages
from r1reward.data.rows import ImageSource
from r1reward.rewards.preference import PreferenceReward
from r1reward.trainer.arguments import trainer_arguments
from r1reward.trainer.job import Job
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from r1reward.trainer.step_guard import StepGuard
from r1reward.trainer.supervised import SupervisedTrainer, end_of_turn
from r1reward.trainer.targets import Targets
from tests.reference_config import composed
from tests.trainer.conftest import letters

SFT = {"num_generations": 1, "advantage_filter": "none", "pre_clip": False, "epsilon": math.inf, "max_completion_length": 24}


def settings_of(*overrides: str):
    config = composed(*overrides)
    config.arm = "test"
    return compose_settings(config)


@pytest.fixture
def make_trainer(make_model, make_arguments, processor, dataset, tmp_path):
    """Four prompts per rollout batch, two updates of two."""

    def make(seed=0, train_dataset=dataset, callbacks=(), **changes):
        keys = ("bad_images", "on_rollouts", "step_guard", "target")
        own = {"target": Targets({})} | {key: changes.pop(key) for key in keys if key in changes}
        arguments = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "steps_per_generation": 4}
        return SupervisedTrainer(
            model=make_model(seed),
            reward_funcs=PreferenceReward(consistency_weight=0.0),
            args=make_arguments(**(SFT | arguments | changes)),
            train_dataset=train_dataset,
            processing_class=processor,
            callbacks=list(callbacks),
            **own,
        )

    return make


class Recorder(TrainerCallback):
    def __init__(self):
        self.metrics = {}

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.metrics[state.global_step] = {k: v for k, v in logs.items() if k not in ("step_time", "train_runtime")}


def rollout(trainer) -> dict:
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))


def test_rollouts_are_the_targets_with_their_end(make_trainer, processor, rows):
    seen = []
    trainer = make_trainer(on_rollouts=seen.append)
    batch = rollout(trainer)
    assert "old_per_token_logps" not in batch and "ref_per_token_logps" not in batch  # two updates, and yet no such passes
    labels = {row.id: row.label for row in rows}
    for id, ids, mask in zip(trainer.rollout_ids, batch["completion_ids"], batch["completion_mask"], strict=True):
        text = f"<think></think><answer>{labels[id]}</answer>"
        assert ids[mask.bool()].tolist() == [*processor.tokenizer(text)["input_ids"], processor.tokenizer.eos_token_id]
    metrics = trainer._metrics["train"]
    assert metrics["rewards/result/mean"] == metrics["rewards/format/mean"] == [1.0]
    assert metrics["reward"] == [1.5]
    assert not [name for name in metrics if "advantage" in name or "zero_std" in name]
    (written,) = seen
    assert written.right == [True] * 4 and written.rewards == [1.5] * 4 and written.kept == [True] * 4
    assert [completion[:8] for completion in written.completions] == ["<think><"] * 4


def test_the_loss_is_the_mean_over_targets_of_the_mean_over_tokens(make_trainer, processor, rows):
    """By hand: one forward pass per row with its own prompt and target, cross-entropy of the target's tokens."""
    trainer = make_trainer(target=lambda row: "<answer>" + "1" * (1 + int(row["id"].split("-")[-1]) % 3))
    batch = rollout(trainer)
    by_id, expected = {row.id: row for row in rows}, []
    for id, ids, mask in zip(trainer.rollout_ids, batch["completion_ids"], batch["completion_mask"], strict=True):
        row = next(r for r in trainer.train_dataset if r["id"] == id)
        image = trainer.bad_images.decode([row])[0][0]["images"]
        prompt = processor.apply_chat_template(by_id[id].messages(), tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[prompt], images=[image], return_tensors="pt")
        target = ids[mask.bool()]
        with torch.no_grad():
            length = inputs["input_ids"].shape[1]
            inputs["input_ids"] = torch.cat([inputs["input_ids"], target[None]], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(target[None])], 1)
            logits = trainer.model(**inputs).logits[0, length - 1 : -1]
        expected.append(cross_entropy(logits, target))
    assert len({int(mask.sum()) for mask in batch["completion_mask"]}) > 1  # else both means would be the same
    loss = trainer._compute_loss(trainer.model, batch)
    torch.testing.assert_close(loss, torch.stack(expected).mean(), atol=1e-5, rtol=1e-5)
    trainer.current_gradient_accumulation_steps = 2
    torch.testing.assert_close(trainer._compute_loss(trainer.model, batch), loss / 2)
    batch["advantages"][0] = 0.0  # as where its image turned bad
    trainer.current_gradient_accumulation_steps = 1
    torch.testing.assert_close(
        trainer._compute_loss(trainer.model, batch), torch.stack(expected)[1:].sum() / 4, atol=1e-5, rtol=1e-5
    )


def test_rows_with_bad_images_weigh_nothing(make_trainer, rows, tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(8)]
    for row, path in zip(rows, paths, strict=False):
        path.write_bytes(row.images[0].data)
    data = [replace(row, images=(ImageSource(path=str(path)),)) for row, path in zip(rows, paths, strict=False)]
    trainer = make_trainer(train_dataset=training_dataset(data), bad_images=BadImages("skip"))
    trainer.model.train()
    inputs = next(iter(trainer.get_train_dataloader()))
    Path(inputs[1]["images"][0]["path"]).write_bytes(b"damaged")
    batch = trainer._generate_and_score_completions(inputs)
    assert batch["advantages"].tolist() == [1, 0, 1, 1]
    assert trainer._metrics["train"]["reward"] == [1.5]


def test_it_learns_and_the_guard_sees_its_loss(make_trainer, tmp_path):
    recorder = Recorder()
    guard = StepGuard(tmp_path, max_skipped_steps=1)
    trainer = make_trainer(callbacks=[recorder], step_guard=guard, max_steps=8)
    trainer.train()
    losses = [row["loss"] for row in recorder.metrics.values()]
    assert losses[-1] < 0.7 * losses[0]
    assert recorder.metrics[8]["skipped_steps"] == 0
    assert recorder.metrics[1]["rewards/result/mean"] == 1
    assert recorder.metrics[1]["completions/clipped_ratio"] == 0
    assert 0 < recorder.metrics[1]["entropy"] < math.log(400)
    assert guard._micro_batches == []


def test_a_stopped_run_goes_on_exactly(make_trainer, rows, tmp_path):
    data = training_dataset(rows[:8])
    options = {"train_dataset": data, "save_strategy": "steps", "save_steps": 3, "lr_scheduler_type": "cosine", "max_steps": 4}
    rest, full = Recorder(), Recorder()
    trainer = make_trainer(callbacks=[full], **options)
    trainer.train()
    resumed = make_trainer(seed=1, callbacks=[rest], **options)  # all weights come from the checkpoint
    resumed.train(resume_from_checkpoint=str(trainer.checkpoints.path(3)))
    assert rest.metrics == {4: full.metrics[4]}
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_rows_come_in_the_order_of_rl(make_trainer, make_model, make_arguments, processor, rows):
    """Rollout batches of 4 prompts, of 16 rollouts in groups of 4 or of 4 targets, at the same steps of two epochs."""
    drawn: dict[str, list] = {"rl": [], "sft": []}

    def record(stage):
        return lambda rollouts: drawn[stage].append((rollouts.step, list(dict.fromkeys(row["id"] for row in rollouts.rows))))

    data = training_dataset(rows[:8])
    options = {"max_steps": 6}
    StableReinforceTrainer(
        model=make_model(),
        reward_funcs=letters,
        args=make_arguments(**options),
        on_rollouts=record("rl"),
        train_dataset=data,
        processing_class=processor,
    ).train()
    make_trainer(train_dataset=data, on_rollouts=record("sft"), **options).train()
    assert drawn["sft"] == drawn["rl"]
    assert [step for step, _ in drawn["sft"]] == [0, 2, 4]
    assert sorted(drawn["sft"][2][1]) not in (sorted(ids) for _, ids in drawn["sft"][:2])  # the epochs differ


def test_the_end_of_a_turn_is_that_of_the_template(processor):
    tokenizer = processor.tokenizer
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    assert end_of_turn(processor, [pad, end]) == end
    assert end_of_turn(processor, [pad]) == end  # the template writes none of them
    former, processor.chat_template = processor.chat_template, processor.chat_template.replace("<|im_end|>", "<|endoftext|>")
    try:
        assert end_of_turn(processor, [end, pad]) == pad  # where it ends turns with another one
    finally:
        processor.chat_template = former


# ---- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "sizes"),  # per process, accumulation, steps per generation
    [
        (["algorithm=grpo"], (8, 1, 2)),  # 128, 64, 64 rollouts in groups of 8
        (["algorithm=grpo", "trainer.micro_batch_size=4"], (1, 8, 16)),  # less than a group: one target
        (["algorithm=grpo", "trainer.micro_batch_size=32", "trainer.train_batch_size=96", "trainer.rollout_batch_size=96"],
         (4, 3, 3)),
        (["algorithm=stable_reinforce"], (64, 1, 2)),  # one rollout per prompt
        (["algorithm=grpo", "algorithm.num_generations=4", "trainer.micro_batch_size=6", "trainer.train_batch_size=48",
          "trainer.rollout_batch_size=96"], (1, 12, 24)),
        (["algorithm=grpo", "trainer.micro_batch_size=20", "trainer.train_batch_size=40", "trainer.rollout_batch_size=80"],
         (1, 5, 10)),  # 2 targets would not divide the 5 of a step
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error::r1reward.trainer.config.SettingHasNoEffect")
def test_one_target_takes_the_place_of_a_group(overrides, sizes, tmp_path):
    arguments = trainer_arguments(settings_of("stage=sft", *overrides), tmp_path)
    found = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps, arguments.steps_per_generation
    assert found == sizes
    assert arguments.num_generations == 1


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.train_batch_size=128"],  # Pre-CLIP cannot act
        ["algorithm=grpo", "clip=ppo", "trainer.train_batch_size=128"],  # PPO clip has no effect
        ["algorithm=grpo", "algorithm.kl.coefficient=0.1"],
        ["algorithm=grpo", "algorithm.kl.coefficient=0.1", "algorithm.kl.sync_steps=2", "adapter=lora"],
        ["trainer.use_vllm=true", "trainer.skip_zero_advantage=true"],
        ["algorithm=cispo", "clip=ppo"],
        ["trainer.temperature=0.9"],  # would temper the likelihood
        ["trainer.rollout_batch_size=8", "trainer.train_batch_size=8", "trainer.micro_batch_size=8"],  # no |z| above 3
    ],
)
@pytest.mark.filterwarnings("error::r1reward.trainer.config.SettingHasNoEffect")
def test_what_cannot_act_neither_raises_nor_acts(overrides, tmp_path):
    arguments = trainer_arguments(settings_of("stage=sft", *overrides), tmp_path)
    assert not (arguments.pre_clip or arguments.beta or arguments.kl_in_reward or arguments.use_vllm)
    assert not (arguments.sync_ref_model or arguments.skip_zero_advantage)
    assert (arguments.advantage_filter, arguments.epsilon, arguments.temperature) == ("none", math.inf, 1.0)


@pytest.mark.parametrize(
    ("overrides", "processes", "message"),
    [
        (["algorithm=grpo", "trainer.train_batch_size=4", "trainer.micro_batch_size=4"], 1,
         "trainer.train_batch_size=4 must be a multiple of algorithm.num_generations=8"),
        (["algorithm=grpo", "trainer.micro_batch_size=2", "trainer.train_batch_size=32"], 16,
         "an optimiser step of 4 targets cannot be shared by 16 processes: start fewer"),
        (["algorithm=grpo", "trainer.rollout_batch_size=8", "trainer.train_batch_size=8", "trainer.micro_batch_size=8"], 1,
         "trainer.rollout_batch_size=8 must be an even number of groups of 8"),
    ],
)  # fmt: skip
def test_sizes_that_no_targets_fit(overrides, processes, message, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    with pytest.raises(ValueError, match=f"stage=sft: one target takes the place of a prompt's rollouts, and {message}"):
        trainer_arguments(settings_of("stage=sft", *overrides), tmp_path)


# ---- the whole job -----------------------------------------------------------------------------------------------------


def test_a_job_trains_on_targets(tmp_path):
    """The same command with stage=sft, on the embedded model; its adapters end up in a whole model."""
    sizes = ["trainer.max_steps=2", "trainer.rollout_batch_size=8", "trainer.train_batch_size=8", "trainer.micro_batch_size=4"]
    few = ["data.num_train=8", "data.num_eval=1", "trainer.evaluate=false", "trainer.save_steps=1", "logger=none"]
    settings = settings_of("stage=sft", "algorithm=grpo", "algorithm.num_generations=4", "adapter=lora", *sizes, *few)
    summary = Job.prepare(settings, tmp_path / "run", "test").run()
    assert summary["run"]["stage"] == "sft" and summary["steps"] == 2
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["rewards/result/mean"] for row in metrics] == [1.0, 1.0]
    assert all(row["loss"] > 0 and row["grad_norm"] > 0 for row in metrics)
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert all(sample["completion"] == f"<think></think><answer>{sample['label']}</answer>" for sample in samples)
    names = {path.name for path in (tmp_path / "run" / "model").iterdir()}
    assert "model.safetensors" in names and "tokenizer.json" in names and not [n for n in names if n.startswith("adapter")]
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-2" / "adapter_model.safetensors").is_file()
