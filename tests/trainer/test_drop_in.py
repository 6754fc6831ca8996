"""Swapped in for TRL's `GRPOTrainer`: its constructor, its settings, its forms of data and of rewards."""

import os
import warnings

import pytest
import torch
from datasets import Dataset, IterableDataset
from PIL import Image
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer
from trl.generation import vllm_generation

from r1reward.rewards.judges.rule import RuleJudge
from r1reward.rewards.preference import PreferenceReward
from r1reward.rewards.tasks import TaskReward, Term
from r1reward.trainer.config import SettingHasNoEffect, StableReinforceConfig
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.quiet import QUIET
from tests.trainer.conftest import letters

OWN = {
    "per_device_train_batch_size": 8,
    "steps_per_generation": 2,
    "num_generations": 4,
    "max_completion_length": 4,
    "max_steps": 2,
    "learning_rate": 1e-2,
    **QUIET,
}


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (56, 56), (40 * number % 256, 90, 200))


def in_columns(images: list) -> Dataset:
    prompts = [[{"role": "user", "content": f"Question {n}?"}] for n in range(len(images))]
    name = "images" if isinstance(images[0], list) else "image"
    return Dataset.from_dict({"prompt": prompts, name: images})


def of_text() -> Dataset:
    return Dataset.from_dict({"prompt": [f"Question {n}?" for n in range(8)]})


def conversations() -> Dataset:
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": f"Question {n}?"}] for n in range(8)]})


def lengths(completions, **columns) -> list[float]:
    """Of conversations and of texts."""
    return [float(sum(map(ord, str(completion))) % 7) for completion in completions]


def second(completions, prompts, **columns) -> list[float]:
    return [float(len(str(prompt)) % 3) for prompt in prompts]


async def later(completions, **columns) -> list[float]:
    return lengths(completions)


def trained(trainer) -> list[dict]:
    """Its history, after the weights have moved."""
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert any(not torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    return [row for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        (in_columns([[picture(n)] for n in range(8)]), {}),
        (in_columns([[picture(n), picture(n + 1)] for n in range(8)]), {}),
        (in_columns([[picture(n)] * (n % 3) for n in range(8)]), {}),  # none, one or two
        (in_columns([picture(n) for n in range(8)]), {}),
        (in_columns([picture(n) for n in range(8)]), {"share_prefix": False}),
        (in_columns([[picture(n), picture(n + 1)] for n in range(8)]).to_iterable_dataset(), {}),
        (in_columns([picture(n) for n in range(8)]).to_iterable_dataset(), {"num_iterations": 2}),
        (conversations().to_iterable_dataset(), {"share_prefix": False}),
        (conversations(), {}),
        (of_text(), {}),
        (of_text().to_iterable_dataset(), {}),
    ],
    ids=["images", "two images", "0-2 images", "image", "unshared", "stream", "stream twice", "stream texts", "chat", "text",
         "text stream"],
)  # fmt: skip
def test_trls_forms_of_data(make_model, processor, tmp_path, data, settings):
    args = StableReinforceConfig(str(tmp_path), **OWN, **settings)
    trainer = StableReinforceTrainer(
        make_model(), reward_funcs=lengths, args=args, train_dataset=data, processing_class=processor
    )
    assert len(trained(trainer)) == 2


def test_images_in_the_messages_themselves(make_model, processor, tmp_path):
    def rows():
        for n in range(8):
            content = [{"type": "image", "image": picture(n)}, {"type": "text", "text": "Which?"}]
            yield {"prompt": [{"role": "user", "content": content}]}

    args = StableReinforceConfig(str(tmp_path), **OWN)
    data = IterableDataset.from_generator(rows)
    trained(StableReinforceTrainer(make_model(), lengths, args, data, processing_class=processor))


@pytest.mark.parametrize(
    "reward_funcs",
    [lengths, [lengths], [lengths, second], [lengths, later], PreferenceReward(judge=RuleJudge()),
     [PreferenceReward(judge=RuleJudge())], [PreferenceReward(judge=RuleJudge()), lengths],
     [TaskReward([Term("a", lengths)]), second]],
    ids=["one", "list of one", "two", "async", "composite", "composite in a list", "composite beside another", "task reward"],
)  # fmt: skip
def test_reward_funcs_as_grpo_trainer_takes_them(make_model, processor, dataset, tmp_path, reward_funcs):
    args = StableReinforceConfig(str(tmp_path), **(OWN | {"max_steps": 1}))
    trainer = StableReinforceTrainer(make_model(), reward_funcs, args, dataset, None, processor)  # by position
    trainer.train()
    logged = trainer.state.log_history[0]
    assert isinstance(logged["reward"], float)
    if isinstance(reward_funcs, list) and len(reward_funcs) > 1:
        assert len(trainer.reward_funcs) == len(reward_funcs)


def test_it_works_without_args(make_model, processor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    trainer = StableReinforceTrainer(make_model(), lengths, train_dataset=conversations(), processing_class=processor)
    assert isinstance(trainer.args, StableReinforceConfig) and trainer.args.pre_clip
    assert trainer.args.generation_batch_size == 16
    assert os.path.basename(trainer.args.output_dir).endswith("-StableReinforce")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scale_rewards": False},
        {"scale_rewards": "none", "loss_type": "dr_grpo"},
        {"beta": 0.04, "steps_per_generation": 1, "per_device_train_batch_size": 4},
        {"reward_weights": [0.5], "num_iterations": 2},
    ],
    ids=str,
)
def test_a_grpo_config_trains_as_it_does_with_grpo_trainer(make_model, processor, tmp_path, changes):
    """The same losses: of a group's advantages, without filter and Pre-CLIP."""
    path = tmp_path / "model"
    make_model().save_pretrained(path)
    load = type(make_model()).from_pretrained
    histories = []
    for cls in (GRPOTrainer, StableReinforceTrainer):
        args = GRPOConfig(str(tmp_path / cls.__name__), **(OWN | changes))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer = cls(load(path), lengths, args, conversations(), processing_class=processor)
        said = [one for one in caught if issubclass(one.category, SettingHasNoEffect) and "GRPOConfig" in str(one.message)]
        assert len(said) == (cls is StableReinforceTrainer)
        if cls is StableReinforceTrainer:
            trainer.args.share_prefix = trainer.args.keep_groups_together = trainer._shares = False
        histories.append([(row["loss"], row.get("reward"), row["grad_norm"]) for row in trained(trainer)])
    assert histories[0] == histories[1]


def test_what_a_grpo_config_cannot_mean_here_is_refused(make_model, processor, tmp_path):
    for changes in ({"scale_rewards": "batch"}, {"multi_objective_aggregation": "normalize_then_sum"}):
        (name,) = changes
        with pytest.raises(ValueError, match=name):
            StableReinforceTrainer(
                make_model(),
                lengths,
                GRPOConfig(str(tmp_path), **OWN, **changes),
                conversations(),
                processing_class=processor,
            )


def test_a_grpo_config_keeps_the_checkpoints_that_it_says(make_model, processor, tmp_path):
    for limit, kept in ((None, [1, 2, 3]), (1, [3])):
        args = GRPOConfig(str(tmp_path / str(limit)), **(OWN | {"max_steps": 3, "save_strategy": "steps", "save_steps": 1}))
        args.save_total_limit = limit
        trainer = StableReinforceTrainer(make_model(), lengths, args, conversations(), processing_class=processor)
        trainer.train()
        assert trainer.checkpoints.steps() == kept


def test_without_vllm_its_absence_is_what_trl_says(make_model, processor, tmp_path, monkeypatch):
    monkeypatch.delattr(vllm_generation, "LLM", raising=False)
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: False)
    args = GRPOConfig(str(tmp_path), use_vllm=True, **OWN)
    with pytest.raises(ImportError, match="(?i)vllm"):
        StableReinforceTrainer(make_model(), lengths, args, conversations(), processing_class=processor)


def test_the_users_settings_stay_theirs(make_model, processor, dataset, tmp_path):
    args = StableReinforceConfig(str(tmp_path), **OWN)
    for _ in range(2):
        StableReinforceTrainer(make_model(), PreferenceReward(judge=RuleJudge()), args, dataset, processing_class=processor)
        assert args.reward_weights is None
    args.reward_weights = [2.0]
    with pytest.raises(ValueError, match="reward_weights"):
        StableReinforceTrainer(make_model(), PreferenceReward(judge=RuleJudge()), args, dataset, processing_class=processor)


@pytest.mark.parametrize("data", [conversations(), of_text()], ids=["chat", "text"])
@pytest.mark.parametrize("reward", [lengths, PreferenceReward(consistency_weight=0)], ids=["function", "composite"])
def test_a_language_model_without_images(processor, tmp_path, data, reward):
    tokenizer = type(processor.tokenizer).from_pretrained(_saved(processor.tokenizer, tmp_path / "tokenizer"))
    tokenizer.padding_side = "right"  # as TRL's own tests have it: it pads by itself
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}A: {% endif %}"
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, eos_token_id=tokenizer.eos_token_id, initializer_range=0.2,
        )
    )  # fmt: skip
    data = data.add_column("label", [1] * len(data))
    args = StableReinforceConfig(str(tmp_path), **OWN, share_prefix=False)
    trainer = StableReinforceTrainer(model, reward, args, data, processing_class=tokenizer)
    trainer.train()
    assert trainer.state.global_step == 2


def _saved(tokenizer, folder) -> str:
    tokenizer.save_pretrained(folder)
    return str(folder)


# ---- the preference reward as a function ---------------------------------------------------------------------------------

RIGHT = "<think>Response 1 names the red square. So response 1 is better.</think><answer>1</answer>"
INCONSISTENT = "<think>So response 2 is better.</think><answer>1</answer>"
WRONG = "<think>So response 2 is better.</think><answer>2</answer>"


@pytest.mark.parametrize("as_text", [False, True])
def test_the_preference_reward_is_a_function_with_the_product_formula(as_text):
    """1 * (1 + 0.5) + 0.5, then without consistency, a wrong one with its format alone, and one that is no verdict."""
    texts, logged = [RIGHT, INCONSISTENT, WRONG, "none"], {}
    completions = texts if as_text else [[{"role": "assistant", "content": text}] for text in texts]
    reward = PreferenceReward(judge=RuleJudge())
    values = reward(completions=completions, label=[1] * 4, log_metric=lambda name, value: logged.__setitem__(name, value))
    assert values == [2.0, 1.5, 0.5, 0.0]
    assert logged["preference/result"] == 0.5 and logged["preference/format"] == 0.75


def test_the_preference_reward_serves_trls_own_trainer(make_model, processor, tmp_path):
    args = GRPOConfig(str(tmp_path), **(OWN | {"max_steps": 1}))
    data = conversations().add_column("label", [1, 2] * 4)
    trainer = GRPOTrainer(make_model(), PreferenceReward(judge=RuleJudge()), args, data, processing_class=processor)
    trainer.train()
    assert "rewards/preference/mean" in trainer.state.log_history[0]
    assert "preference/format" in trainer.state.log_history[0]


def test_a_reward_beside_others_is_its_total(make_model, processor, dataset, tmp_path):
    """A composite reward in a list adds its product, and the terms are among the metrics."""
    args = StableReinforceConfig(str(tmp_path), **(OWN | {"max_steps": 1}))
    rewards = [PreferenceReward(judge=RuleJudge()), letters]
    trainer = StableReinforceTrainer(make_model(), rewards, args, dataset, processing_class=processor)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["reward"] == pytest.approx(logged["rewards/preference/mean"] + logged["rewards/letters/mean"])
