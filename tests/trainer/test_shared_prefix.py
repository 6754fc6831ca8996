"""Shared prompts change the cost of training, not its course: every run equals the same run with `share_prefix=False`.

The models compute in float64, but TRL's fused head, and so every log-probability and the loss, in float32. Its rounding moves
gradients by about 1e-7 of their size, which is what the tolerances allow; SGD keeps it at that, where Adam would divide tiny
gradients by their own size.
"""

import dataclasses
import math
import os
import socket
import time
import warnings

import pytest
import torch
from peft import LoraConfig

import r1reward.data.images
from r1reward.data.build import training_dataset
from r1reward.data.rows import ImageSource
from r1reward.models.forward import names_argument
from r1reward.shared_prefix.prompts import FEATURES
from r1reward.trainer.config import SettingHasNoEffect, StableReinforceConfig
from r1reward.trainer.shared_prefix import IMAGE_KEYS, Groups, micro_batches
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.trainer.conftest import letters

CLOSE = 1e-5  # losses, gradients and metrics of order one, with float32 log-probabilities
CLOSE_WEIGHTS = 1e-7  # weights, which a run of these tests moves by about 0.1


@pytest.fixture
def load(make_model, tmp_path):
    """The tiny model in float64, loaded from a folder, where a reference model finds it too."""
    folder = tmp_path / "model"

    def load(dtype=torch.float64):
        if not folder.exists():
            make_model().save_pretrained(folder)
        return type(make_model()).from_pretrained(folder, dtype=dtype)

    return load


@pytest.fixture
def make_trainer(load, make_arguments, processor, dataset):
    """Trainers whose sampling is biased to the end token, so that completions differ in length."""
    usual = {"optim": "sgd", "learning_rate": 0.1, "max_completion_length": 8}
    usual["generation_kwargs"] = {"sequence_bias": [[[processor.tokenizer.eos_token_id], 4.5]]}

    def make(model=None, reward=letters, data=None, peft_config=None, eval_dataset=None, on_rollouts=None, due=True, **changes):
        trainer = StableReinforceTrainer(
            model=model or load(),
            reward_funcs=reward,
            args=make_arguments(**(usual | changes)),
            on_rollouts=on_rollouts,
            train_dataset=data or dataset,
            eval_dataset=eval_dataset,
            processing_class=processor,
            peft_config=peft_config,
        )
        trainer.checks.due = due  # tests that count passes leave out those of the checks
        trainer.current_gradient_accumulation_steps = 1  # set by `train()`, which some tests do not call
        return trainer

    return make


@pytest.fixture
def train(make_trainer):
    """Train; return the trainer, its rollout batches and the weights at the start."""

    def train(share_prefix, **changes):
        rollouts = []
        trainer = make_trainer(on_rollouts=rollouts.append, share_prefix=share_prefix, **changes)
        start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.train()
        return trainer, rollouts, start

    return train


def history(trainer) -> list[dict]:
    """What was logged, but for the clock."""
    timed = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos")
    timed += ("eval_model_preparation_time", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    return [{key: value for key, value in row.items() if key not in timed} for row in trainer.state.log_history]


def assert_same_history(first: list[dict], second: list[dict], tolerance: float = CLOSE):
    assert len(first) == len(second)
    for row, other in zip(first, second, strict=True):
        missing = [key for key, value in other.items() if value is None]
        assert row.keys() == other.keys() and [key for key, value in row.items() if value is None] == missing
        numbers = {key: value for key, value in row.items() if key not in missing}
        assert numbers == pytest.approx({key: other[key] for key in numbers}, rel=tolerance, abs=tolerance, nan_ok=True)


def assert_same_training(first, second, tolerance: float = CLOSE, weights: float = CLOSE_WEIGHTS):
    """The same completions and rewards, and close advantages, metrics and weights; and that anything was learnt at all."""
    (trainer, rollouts, start), (other, other_rollouts, _) = first, second
    assert len(rollouts) == len(other_rollouts) > 0
    for batch, same in zip(rollouts, other_rollouts, strict=True):
        assert batch.completions == same.completions
        assert batch.rewards == same.rewards
        assert batch.advantages == pytest.approx(same.advantages, abs=tolerance)
    assert_same_history(history(trainer), history(other), tolerance)
    ours, theirs = trainer.model.state_dict(), other.model.state_dict()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=weights, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    moved = max((ours[name] - value).abs().max().item() for name, value in start.items())
    assert moved > 100 * weights


def first_batch(trainer) -> dict:
    """One rollout batch as the trainer would make it, before it is split."""
    trainer.model.train()
    return trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))


# ---- the same training ---------------------------------------------------------------------------------------------------

TWO_BATCHES = {  # settings with which a run samples twice, the second time after updates
    "whole groups": {"num_iterations": 2, "max_steps": 8},
    "smaller than a group": {"per_device_train_batch_size": 2, "steps_per_generation": 8, "max_steps": 16},
    "across groups": {"per_device_train_batch_size": 6, "steps_per_generation": 2, "num_iterations": 2, "max_steps": 8},
    "accumulated": {"per_device_train_batch_size": 4, "steps_per_generation": 4, "gradient_accumulation_steps": 2},
    "on policy": {"gradient_accumulation_steps": 2, "pre_clip": False, "max_steps": 2},
    "group estimator": {"advantage_estimator": "group"},
    "leave one out": {"advantage_estimator": "leave_one_out"},
    "dapo": {"advantage_estimator": "group", "loss_type": "dapo", "epsilon_high": 0.28},
    "dapo, truncated masked": {"loss_type": "dapo", "mask_truncated_completions": True},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "sequence ratio": {"importance_sampling_level": "sequence"},
    "top entropy tokens": {"top_entropy_quantile": 0.5},
    "KL in the loss": {"beta": 0.04, "num_iterations": 2, "max_steps": 8},
    "KL in the loss, across groups": {"per_device_train_batch_size": 6, "beta": 0.04},
    "KL in the reward": {"kl_in_reward": 0.5},
    "KL in the reward, on policy": {
        "kl_in_reward": 0.5,
        "gradient_accumulation_steps": 2,
        "pre_clip": False,
        "max_steps": 2,
    },
    "warm": {"temperature": 1.3, "top_k": 50, "top_p": 0.9},
}


@pytest.mark.filterwarnings("ignore::r1reward.trainer.config.SettingHasNoEffect")
@pytest.mark.parametrize("changes", TWO_BATCHES.values(), ids=TWO_BATCHES)
def test_sharing_gives_the_same_training(train, changes):
    shared, plain = (train(share, **changes) for share in (True, False))
    assert shared[0]._shares and not plain[0]._shares
    assert len(shared[1]) == 2
    lengths = [row for row in history(shared[0]) if "completions/mean_length" in row]
    assert all(row["completions/min_length"] < row["completions/max_length"] for row in lengths)
    assert_same_training(shared, plain)


@pytest.mark.filterwarnings("ignore::r1reward.trainer.config.SettingHasNoEffect")
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_a_frozen_vision_tower_gives_the_same_training(train, load, beta):
    outcomes = []
    for share in (True, False):
        model = load()
        model.model.visual.requires_grad_(False)
        outcomes.append(train(share, model=model, beta=beta, num_iterations=2, max_steps=8))
    assert outcomes[0][0]._vision_is_frozen
    assert_same_training(*outcomes)


def test_thirty_steps_give_the_same_reward_curve(train):
    """With Adam, as in real runs: rounding grows with the steps, but not so far that another token is sampled."""
    curves = []
    for share in (True, False):
        trainer, rollouts, _ = train(share, max_steps=30, optim="adamw_torch", learning_rate=1e-3)
        curves.append([row["reward"] for row in trainer.state.log_history if "reward" in row])
        assert len(rollouts) == 15
    assert len(curves[0]) == 15 and len(set(curves[0])) > 5
    assert curves[0] == curves[1]


def test_one_rollout_per_prompt(train):
    """Groups of one: sampling is shared code, log-probabilities are TRL's."""
    shared, plain = (train(share, num_generations=1, num_iterations=2, max_steps=8) for share in (True, False))
    assert shared[0]._shares and not shared[0]._shares_log_probs
    assert_same_training(shared, plain)


@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_gradient_checkpointing(train, beta):
    settings = {"gradient_checkpointing": True, "beta": beta}
    checkpointed, plain = train(True, **settings), train(False, **settings)
    assert_same_training(checkpointed, plain)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q_proj", "v_proj", "qkv"]], ids=["language", "and vision"])
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_adapters(train, beta, targets, checkpointing):
    """With a KL term the reference is the model without adapters, in the vision tower too."""
    config = {"r": 4, "lora_alpha": 32, "target_modules": targets}
    settings = {"beta": beta, "num_iterations": 2, "max_steps": 8, "gradient_checkpointing": checkpointing}
    shared, plain = (train(share, peft_config=LoraConfig(**config), **settings) for share in (True, False))
    assert shared[0]._shares
    assert shared[0]._vision_is_frozen is ("qkv" not in targets)
    assert_same_training(shared, plain)
    if beta:
        assert max(row["kl"] for row in history(shared[0]) if "kl" in row) > 1e-6


# ---- other rows, other models --------------------------------------------------------------------------------------------


def with_images(rows, counts) -> list:
    """Rows with so many images each, in turn: those of the rows that follow."""
    sources = [row.images[0] for row in rows]
    return [
        dataclasses.replace(row, images=tuple(sources[(i + k) % len(sources)] for k in range(counts[i % len(counts)])))
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize("generations", [1, 4])
def test_rows_with_one_and_two_images(train, rows, generations):
    data = training_dataset(with_images(rows, (1, 2)))
    settings = {"data": data, "num_generations": generations, "num_iterations": 2, "max_steps": 8}
    shared, plain = train(True, **settings), train(False, **settings)
    assert {len(row["images"]) for row in shared[1][0].rows} == {1, 2}
    assert_same_training(shared, plain)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("counts", [(1,), (0, 1), (2, 0, 1)], ids=str)
def test_log_probabilities_and_gradients_are_those_of_each_row_alone(make_trainer, load, processor, rows, counts, frozen):
    """Also for batches in which some rows have no image, which stock TRL refuses, so that there is no run to compare with."""
    model = load()
    model.model.visual.requires_grad_(not frozen)
    trainer = make_trainer(model=model, data=training_dataset(with_images(rows[:4], counts)))
    trainer.model.train()
    inputs = next(iter(trainer.get_train_dataloader()))
    assert {len(row["images"]) for row in inputs} == set(counts)
    batch = trainer._generate_and_score_completions(inputs)
    batch["advantages"] = torch.ones(16)
    trainer._compute_loss(trainer.model, batch).backward()  # of a ratio of one: the mean of the log-probabilities' gradients

    alone = load()
    alone.model.visual.requires_grad_(not frozen)
    for n, row in enumerate(inputs):
        images = [r1reward.data.images.open_image(ImageSource(x["path"], x["bytes"])) for x in row["images"]]
        text = processor.apply_chat_template(row["prompt"], add_generation_prompt=True)
        prompt = processor(text=[text], images=images or None, return_tensors="pt")
        completion = batch["completion_ids"][n, : batch["completion_mask"][n].sum()][None]
        ids, kinds = prompt.pop("input_ids"), prompt.pop("mm_token_type_ids")
        prompt.pop("attention_mask")
        kinds = torch.cat([kinds, torch.zeros_like(completion)], 1)
        logits = alone(input_ids=torch.cat([ids, completion], 1), mm_token_type_ids=kinds, **prompt).logits
        logits = logits[:, ids.shape[1] - 1 : -1]
        log_probs = torch.log_softmax(logits, -1).gather(-1, completion[..., None])[0, :, 0]
        old = batch["old_per_token_logps"][n, : len(log_probs)].double()
        torch.testing.assert_close(old, log_probs.detach(), atol=CLOSE, rtol=0)
        (-log_probs.mean() / len(inputs)).backward()
    for (name, parameter), expected in zip(trainer.model.named_parameters(), alone.parameters(), strict=True):
        assert (parameter.grad is None) == (expected.grad is None), name
        if expected.grad is not None:
            torch.testing.assert_close(parameter.grad, expected.grad, atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize("generations", [1, 4])
def test_rows_with_and_without_images_train(train, rows, generations):
    data = training_dataset(with_images(rows[: 16 // generations], (2, 0, 1)))
    trainer, rollouts, start = train(True, data=data, num_generations=generations, num_iterations=2, max_steps=8)
    assert {len(row["images"]) for row in rollouts[0].rows} == {0, 1, 2}
    assert all(math.isfinite(row["loss"]) for row in history(trainer) if "loss" in row)
    assert any(not torch.equal(value, start[name]) for name, value in trainer.model.state_dict().items())


@pytest.mark.parametrize("generations", [1, 4])
@pytest.mark.parametrize("column", [True, False], ids=["empty lists", "no column"])
def test_text_only_rows(train, rows, column, generations):
    data = training_dataset(with_images(rows, (0,)))
    data = data if column else data.remove_columns("images")
    shared, plain = (train(share, data=data, num_generations=generations) for share in (True, False))
    assert_same_training(shared, plain)


def test_prompts_that_are_plain_text(make_trainer, rows):
    """`GRPOTrainer` takes strings too, without a chat around them."""
    from datasets import Dataset

    def lengths(completions, **kwargs):
        return [float(len(text) % 5) for text in completions]

    data = Dataset.from_list([{"prompt": row.text()} for row in rows])
    trainers = [make_trainer(reward=lengths, data=data, share_prefix=share) for share in (False, True)]
    for trainer in trainers:
        torch.manual_seed(0)
        trainer.train()
    assert_same_history(*map(history, trainers))


def test_neighbouring_groups_with_the_same_prompt(train, rows):
    """Two rows of the data set may be copies of each other."""
    data = training_dataset([rows[0], rows[0], rows[1], rows[1]])
    shared, plain = (train(share, data=data) for share in (True, False))
    assert_same_training(shared, plain)


def test_a_model_that_cannot_share_trains_without_it(train, load):
    outcomes = []
    for share in (True, False):
        model = load(torch.float32)  # eager attention overflows where padding is masked in float64
        model.set_attn_implementation("eager")
        if share:
            with pytest.warns(SettingHasNoEffect, match="share_prefix has no effect: its attention is 'eager'"):
                outcomes.append(train(share, model=model))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error", SettingHasNoEffect)
                outcomes.append(train(share, model=model))
    assert not outcomes[0][0]._shares
    assert_same_training(*outcomes, tolerance=0, weights=1e-16)


@pytest.mark.parametrize("generations", [1, 2])
@pytest.mark.parametrize("frozen", [False, True])
def test_evaluation_of_trl(make_trainer, load, rows, generations, frozen):
    """Evaluation draws its own number of rollouts per prompt, fewer than training or one."""
    outcomes = []
    for share in (True, False):
        model = load()
        model.model.visual.requires_grad_(not frozen)
        trainer = make_trainer(
            model=model,
            share_prefix=share,
            eval_dataset=training_dataset(rows[:6]),
            num_generations_eval=generations,
            per_device_eval_batch_size=4,
            beta=0.04,
        )
        torch.manual_seed(3)
        trainer.evaluate()
        before = history(trainer)  # which training empties
        trainer.train()  # with the other number of rollouts
        torch.manual_seed(3)
        trainer.evaluate()
        outcomes.append(before + history(trainer))
    first, last = outcomes[0][0], outcomes[0][-1]
    assert math.isfinite(first["eval_loss"]) and "eval_reward" in first
    assert first["eval_entropy"] != last["eval_entropy"]
    assert_same_history(*outcomes)


# ---- work done once ------------------------------------------------------------------------------------------------------


def watch_vision(model) -> dict[bool, int]:
    """Count of the image patches that the vision tower sees, with and without gradients."""
    seen = {True: 0, False: 0}

    def count(module, args, kwargs):
        pixels = args[0] if args else kwargs["hidden_states"]
        seen[torch.is_grad_enabled()] += len(pixels)

    model.model.visual.register_forward_pre_hook(count, with_kwargs=True)
    return seen


def takes_features(trainer) -> bool:
    """Whether the model's forward pass can be given image features; transformers knows no such argument before 5.18."""
    return names_argument(trainer._backbone(), FEATURES)


PATCHES = 36  # of an image of 84 x 84 pixels
PROMPTS = 4  # 16 rows in groups of 4


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("frozen", [True, False])
def test_images_are_encoded_once(make_trainer, load, frozen, beta):
    """A frozen tower looks once at each image; one that trains, once to sample and score, and once per update."""
    model = load()
    model.model.visual.requires_grad_(not frozen)
    trainer = make_trainer(model=model, beta=beta, num_iterations=2, max_steps=4, due=False)
    policy = watch_vision(trainer.model)
    reference = watch_vision(trainer.ref_model) if beta else {True: 0, False: 0}
    trainer.train()
    once, reuses = PROMPTS * PATCHES, takes_features(trainer)
    assert policy == {False: once if reuses else 2 * once, True: 0 if frozen and reuses else 2 * once}
    assert reference == {False: once if beta and not (frozen and reuses) else 0, True: 0}


def test_without_sharing_images_are_encoded_for_every_row(make_trainer):
    """What the test above measures against."""
    trainer = make_trainer(share_prefix=False, num_iterations=2, max_steps=4, due=False)
    policy = watch_vision(trainer.model)
    trainer.train()
    once = 4 * PROMPTS * PATCHES
    assert policy == {False: 2 * once, True: 2 * once}


@pytest.mark.parametrize(("generations", "prompts"), [(4, 4), (1, 16)])
def test_images_are_decoded_and_processed_once(make_trainer, processor, monkeypatch, generations, prompts):
    decoded, processed = [], []
    open_image, preprocess = r1reward.data.images.open_image, type(processor.image_processor).preprocess

    def opened(source, limits):
        decoded.append(source)
        return open_image(source, limits)

    def preprocessed(self, images, *args, **kwargs):
        output = preprocess(self, images, *args, **kwargs)
        processed.append(len(output["image_grid_thw"]))
        return output

    monkeypatch.setattr(r1reward.data.images, "open_image", opened)
    monkeypatch.setattr(type(processor.image_processor), "preprocess", preprocessed)
    trainer = make_trainer(num_generations=generations, beta=0.04, num_iterations=2, max_steps=8, due=False)
    trainer.train()
    assert len(decoded) == 2 * prompts  # two rollout batches
    assert sum(processed) == 2 * prompts


@pytest.mark.parametrize("frozen", [True, False])
def test_pixels_are_kept_once_per_prompt(make_trainer, load, frozen):
    model = load()
    model.model.visual.requires_grad_(not frozen)
    trainer = make_trainer(model=model, beta=0.04)
    trainer.model.train()
    trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    batches = trainer._buffered_inputs
    assert len(batches) == 2
    for batch in batches:
        assert not set(IMAGE_KEYS) & set(batch)
        assert batch["groups"].prompts is batches[0]["groups"].prompts
    prompts = batches[0]["groups"].prompts
    assert len(prompts) == PROMPTS
    if frozen and takes_features(trainer):
        assert all(prompt.pixels is None and prompt.features is not None for prompt in prompts)
    else:
        assert all(len(prompt.pixels) == PATCHES and prompt.features is None for prompt in prompts)


def test_micro_batches_know_their_prompts(make_trainer):
    """Rows and prompts belong together after the groups were shuffled: the prompt's tokens are the row's."""
    trainer = make_trainer()
    trainer.model.train()
    trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    for batch in trainer._buffered_inputs:
        for row, owner in enumerate(batch["groups"].prompt_of_row):
            tokens = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
            assert torch.equal(tokens, batch["groups"].prompts[owner].ids)


# ---- rows that cannot move the policy ------------------------------------------------------------------------------------


def watch_tokens(model) -> list[int]:
    """Numbers of tokens that the backbone is called with, from now on."""
    seen = []
    model.model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True)
    return seen


def gradients(trainer, batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    return loss.detach(), {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in trainer.model.named_parameters()
    }


@pytest.mark.parametrize("old", [True, False], ids=["off policy", "on policy"])
@pytest.mark.parametrize("zero", [range(4, 8), (0, 5, 6), range(16), ()], ids=["a group", "some rows", "all rows", "no row"])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "bnpo", "dr_grpo"])
def test_rows_without_an_advantage_are_left_out(make_trainer, loss_type, zero, old):
    trainer = make_trainer(skip_zero_advantage=True, loss_type=loss_type, due=False)
    batch = first_batch(trainer)
    draw = torch.Generator().manual_seed(0)
    if old:  # as if the policy had moved a little since
        batch["old_per_token_logps"] += 0.3 * torch.randn(batch["old_per_token_logps"].shape, generator=draw)
    else:
        batch.pop("old_per_token_logps")
    batch["advantages"] = torch.randn(16, generator=draw)
    batch["advantages"][list(zero)] = 0
    tokens = watch_tokens(trainer.model)
    loss, skipping = gradients(trainer, batch)
    seen = sum(tokens)

    moving = [row for row in range(16) if row not in zero]
    groups, lengths = batch["groups"], batch["completion_mask"].sum(1).tolist()
    needed = {groups.prompt_of_row[row] for row in moving}
    assert seen == sum(len(groups.prompts[n].ids) - 1 for n in needed) + sum(lengths[row] for row in moving)

    metrics = trainer._metrics["train"]
    assert metrics["skipped_rows"] == [pytest.approx(len(zero) / 16)]
    assert all(math.isfinite(value) for values in metrics.values() for value in values)

    trainer.args.skip_zero_advantage = False
    tokens.clear()
    same_loss, full = gradients(trainer, batch)
    assert len(metrics["skipped_rows"]) == 1
    assert seen < sum(tokens) or not len(zero)
    torch.testing.assert_close(loss, same_loss, atol=CLOSE, rtol=CLOSE)
    assert any(value.abs().max() > 1e-3 for value in full.values()) or len(zero) == 16
    for name, value in full.items():
        torch.testing.assert_close(skipping[name], value, atol=CLOSE, rtol=CLOSE, msg=lambda text, name=name: f"{name}: {text}")


def half_constant(completions, **kwargs) -> list[float]:
    """Every other group of four gets one reward for all, so that its advantages are zero."""
    return [1.0 if row // 4 % 2 else reward for row, reward in enumerate(letters(completions))]


@pytest.mark.parametrize("size", [8, 6, 2])
def test_leaving_rows_out_gives_the_same_training(train, size):
    settings = {"reward": half_constant, "advantage_estimator": "group", "advantage_filter": "none"}
    settings |= {"per_device_train_batch_size": size, "steps_per_generation": {8: 2, 6: 2, 2: 8}[size], "max_steps": 16}
    skipping, full = (train(True, skip_zero_advantage=skip, **settings) for skip in (True, False))
    shares = [row.pop("skipped_rows") for row in skipping[0].state.log_history if "skipped_rows" in row]
    assert sum(shares) / len(shares) >= (1 / 2 if size != 6 else 1 / 3)
    for row in skipping[0].state.log_history + full[0].state.log_history:
        for name in [name for name in row if name == "entropy" or name.startswith(("clip_ratio", "log_ratio", "pre_clip"))]:
            assert math.isfinite(row.pop(name))  # these leave rows out, or count them as unmoved
    assert_same_training(skipping, full)


def test_nothing_moves_where_all_advantages_are_zero(make_trainer):
    trainer = make_trainer(reward=lambda completions, **kw: [1.0] * len(completions), skip_zero_advantage=True)
    start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert [row["skipped_rows"] for row in trainer.state.log_history if "loss" in row] == [1.0] * 4
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, start[name])


@pytest.mark.filterwarnings("ignore::r1reward.trainer.config.SettingHasNoEffect")
def test_rows_are_left_out_with_a_kl_penalty_in_the_reward(train):
    """Its advantages are per token; the filter takes whole sets of tokens, rarely a whole row."""
    settings = {"kl_in_reward": 0.5, "advantage_filter": "paper", "filter_threshold": 0.5}
    skipping, full = (train(True, skip_zero_advantage=skip, **settings) for skip in (True, False))
    shares = [row.pop("skipped_rows") for row in skipping[0].state.log_history if "skipped_rows" in row]
    assert any(share > 0 for share in shares)
    for row in skipping[0].state.log_history + full[0].state.log_history:
        for name in [name for name in row if name == "entropy" or name.startswith(("clip_ratio", "log_ratio", "pre_clip"))]:
            assert math.isfinite(row.pop(name))
    assert_same_training(skipping, full)


@pytest.mark.parametrize("frozen", [False, True])
def test_autocast(make_trainer, load, frozen):
    """In bfloat16 both ways round differently; they agree as far as its 8 bits go, and rows can be left out."""
    outcomes = {}
    for share in (False, True):
        model = load(torch.float32)
        model.model.visual.requires_grad_(not frozen)
        trainer = make_trainer(model=model, share_prefix=share, bf16=True)
        batch = first_batch(trainer)
        if share:
            batch["completion_ids"], batch["completion_mask"] = (
                outcomes[False][2][key] for key in ("completion_ids", "completion_mask")
            )
        batch["old_per_token_logps"] = trainer._current_log_probs(batch)
        batch["advantages"] = torch.linspace(-1, 1, 16) * (torch.arange(16) % 3 > 0)
        outcomes[share] = (*gradients(trainer, batch), batch)
    (_, plain, batch), (loss, shared, same) = outcomes[False], outcomes[True]
    mask = batch["completion_mask"]
    assert loss.dtype == torch.float32
    old, shared_old = batch["old_per_token_logps"] * mask, same["old_per_token_logps"] * mask
    torch.testing.assert_close(shared_old, old, atol=0.1, rtol=0)
    trainer.args.skip_zero_advantage = True
    _, skipping = gradients(trainer, same)
    flat = [torch.cat([value.flatten() for value in grads.values()]) for grads in (plain, shared, skipping)]
    assert (flat[1] - flat[0]).norm() < 0.05 * flat[0].norm()
    assert (flat[2] - flat[1]).norm() < 0.05 * flat[0].norm()


@pytest.mark.gpu
def test_rows_are_left_out_on_a_gpu(train):
    settings = {"reward": half_constant, "advantage_estimator": "group", "advantage_filter": "none", "use_cpu": False}
    skipping, full = (train(True, skip_zero_advantage=skip, **settings) for skip in (True, False))
    for name, value in full[0].model.state_dict().items():
        torch.testing.assert_close(skipping[0].model.state_dict()[name], value, atol=1e-5, rtol=0)


# ---- several processes ---------------------------------------------------------------------------------------------------


def one_process(rank: int, port: int, folder: str, processor, data, changes: dict):
    """One of two processes that train together; the rewards of the second one are constant in its second group."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    from transformers import Qwen2_5_VLForConditionalGeneration

    def reward(completions, **kwargs):
        return [1.0 if rank and row // 4 == 1 else value for row, value in enumerate(letters(completions))]

    arguments = StableReinforceConfig(
        output_dir=f"{folder}/checkpoints",
        generation_kwargs={"sequence_bias": [[[processor.tokenizer.eos_token_id], 4.5]]},
        **{"num_generations": 4, "steps_per_generation": 2, "gradient_accumulation_steps": 1, "max_steps": 4},
        **{"advantage_estimator": "group", "advantage_filter": "none", "max_completion_length": 8, "top_k": 0},
        **{"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "logging_steps": 1},
        **{"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True},
        **{"save_strategy": "no", "report_to": "none"},
        **changes,
    )
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float64)
    trainer = StableReinforceTrainer(
        model=model, reward_funcs=reward, args=arguments, train_dataset=data, processing_class=processor
    )
    trainer.train()
    torch.save((history(trainer), model.state_dict()), f"{folder}/outcome-{rank}")


@pytest.fixture
def train_in_two_processes(load, processor, dataset, tmp_path):
    def train(**changes):
        load()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = (port, str(tmp_path / "model"), processor, dataset, changes)
        processes = torch.multiprocessing.spawn(one_process, arguments, nprocs=2, join=False)
        deadline = time.monotonic() + 60
        try:
            while not processes.join(timeout=5):
                assert time.monotonic() < deadline, "the processes wait for each other"
        finally:
            for process in processes.processes:
                process.kill()
        return [torch.load(tmp_path / "model" / f"outcome-{rank}") for rank in (0, 1)]

    return train


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 6])
def test_two_processes_share_as_well(train_in_two_processes, size):
    """With 12 rows per process and groups of 4, or with 8."""
    (shared, _), (plain, _) = (
        train_in_two_processes(per_device_train_batch_size=size, share_prefix=share) for share in (True, False)
    )
    assert_same_history(shared[0], plain[0])
    for name, value in plain[1].items():
        torch.testing.assert_close(shared[1][name], value, atol=CLOSE_WEIGHTS, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [8, 4], ids=["some rows of one process", "all rows of one process"])
def test_two_processes_leave_rows_out(train_in_two_processes, size):
    (skipping, other), (full, _) = (
        train_in_two_processes(per_device_train_batch_size=size, skip_zero_advantage=skip) for skip in (True, False)
    )
    assert any(row.get("skipped_rows") for row in other[0])
    for name, value in full[1].items():
        torch.testing.assert_close(skipping[1][name], value, atol=CLOSE_WEIGHTS, rtol=0)


# ---- micro-batches -------------------------------------------------------------------------------------------------------


def rollout_batch(rows: int, group: int, with_groups: bool) -> dict:
    """A rollout batch in which every value names its row: row r has r % 3 images of r + 1 patches each."""
    number = torch.arange(rows)
    images = [row for row in range(rows) for _ in range(row % 3)]
    batch = {
        "completion_ids": number[:, None].expand(-1, 2),
        "advantages": number.float(),
        "ref_per_token_logps": None,
        "num_items_in_batch": torch.tensor(77),
    }
    if with_groups:
        return batch | {"groups": Groups([f"prompt {n}" for n in range(-(-rows // group))], [r // group for r in range(rows)])}
    return batch | {
        "pixel_values": torch.tensor([[float(row)] for row in images for _ in range(row + 1)]),
        "image_grid_thw": torch.tensor([[1, 1, row + 1] for row in images]),
        "num_images": [row % 3 for row in range(rows)],
    }


@pytest.mark.parametrize("with_groups", [True, False])
@pytest.mark.parametrize(
    ("rows", "count", "group"), [(16, 2, 4), (16, 4, 4), (16, 8, 4), (12, 2, 4), (16, 1, 4), (10, 2, 4), (16, 16, 1)]
)
def test_micro_batches_are_cut_from_whole_groups(rows, count, group, with_groups):
    torch.manual_seed(0)
    batches = micro_batches(rollout_batch(rows, group, with_groups), count, group)
    assert [len(batch["advantages"]) for batch in batches] == [rows // count] * count
    order = [int(row) for batch in batches for row in batch["advantages"]]
    assert sorted(order) == list(range(rows))
    groups = [row // group for row in order]
    changes = sum(a != b for a, b in zip(groups, groups[1:], strict=False))
    assert changes == -(-rows // group) - 1  # each group is one run of rows
    for batch in batches:
        numbers = batch["advantages"].int().tolist()
        assert batch["completion_ids"].tolist() == [[row, row] for row in numbers]
        assert batch["ref_per_token_logps"] is None
        assert batch["num_items_in_batch"] == 77
        if with_groups:
            prompts, owners = batch["groups"].prompts, batch["groups"].prompt_of_row
            assert [prompts[owner] for owner in owners] == [f"prompt {row // group}" for row in numbers]
            assert prompts is batches[0]["groups"].prompts
        else:
            assert "groups" not in batch
            images = [row for row in numbers for _ in range(row % 3)]
            assert batch["num_images"] == [row % 3 for row in numbers]
            assert batch["image_grid_thw"].tolist() == [[1, 1, row + 1] for row in images]
            assert batch["pixel_values"][:, 0].tolist() == [row for row in images for _ in range(row + 1)]


def test_groups_are_shuffled():
    batch = rollout_batch(16, 4, True)
    orders = {tuple(int(row) for part in micro_batches(batch, 2, 4) for row in part["advantages"]) for _ in range(20)}
    assert len(orders) > 5


def test_rows_are_shuffled_as_by_trl_on_request(make_trainer):
    """`keep_groups_together=False` is TRL's own way; groups then lie scattered."""
    trainer = make_trainer(share_prefix=False, keep_groups_together=False)
    trainer.model.train()
    rows = next(iter(trainer.get_train_dataloader()))
    trainer._prepare_inputs(rows)
    prompts = [tuple(row) for batch in trainer._buffered_inputs for row in batch["prompt_ids"].tolist()]
    assert len(set(prompts)) == PROMPTS
    assert sum(a != b for a, b in zip(prompts, prompts[1:], strict=False)) > PROMPTS - 1


def test_each_row_of_a_rollout_batch_is_read_once(make_model, make_arguments, processor, dataset):
    """TRL's sampler names each of 4 prompts 4 times, and all of them again for the second micro-batch."""
    trainer = StableReinforceTrainer(
        model=make_model(), reward_funcs=letters, args=make_arguments(), train_dataset=dataset, processing_class=processor
    )
    loader = trainer.get_train_dataloader()
    source, reads = loader.dataset.dataset, []

    class Counting:
        def __getitem__(self, index):
            reads.append(index)
            return source[index]

    loader.dataset.dataset = Counting()
    batches = iter(loader)
    first, second = next(batches), next(batches)
    assert len(first) == 16 and first == second
    # The loader may look one batch ahead, which belongs to the next rollout batch.
    assert sorted(reads[:4]) == sorted(set(reads[:4])) and len(reads) in (4, 8)
