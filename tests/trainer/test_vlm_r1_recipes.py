"""VLM-R1's recipes: each composes with the three sizes of model, reaches the trainer, and says what the paper says."""

import warnings
from dataclasses import replace

import pytest

from r1reward.configs import compose_settings
from r1reward.data.templates import check_templates
from r1reward.trainer.arguments import trainer_arguments
from r1reward.trainer.config import SettingHasNoEffect
from tests.reference_config import composed

MODELS = ("qwen2_5_vl_3b", "qwen2_5_vl_7b", "qwen2_5_vl_32b")
BY_SIZE = {  # what conf/trainer/vlm_r1.yaml says
    "qwen2_5_vl_3b": [],
    "qwen2_5_vl_7b": ["trainer.micro_batch_size=4", "trainer.evaluate=false", "trainer.eval_steps=0"],
    "qwen2_5_vl_32b": ["trainer.micro_batch_size=1", "adapter=lora", "model.dtype=bfloat16", "trainer.use_vllm=false"],
}


def settings_of(recipe: str, *overrides: str):
    config = composed(f"+experiment={recipe}", "data.path=rows.jsonl", *overrides)
    config.arm = "test"
    return compose_settings(config)


def arguments_of(settings, folder):
    """As on a GPU but for what only a GPU can build."""
    on_cpu = replace(settings, trainer=replace(settings.trainer, bf16=False, use_vllm=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error", SettingHasNoEffect)
        return trainer_arguments(on_cpu, folder)


@pytest.mark.parametrize("stage", ["rl", "sft"])
@pytest.mark.parametrize("recipe", ["vlm_r1_rec", "vlm_r1_ovd"])
def test_a_recipe_reaches_the_trainer_with_every_model(recipe, stage, tmp_path):
    for model in MODELS:
        settings = settings_of(recipe, f"model={model}", f"stage={stage}", *BY_SIZE[model])
        assert model.split("_")[-1].upper() in settings.model.path
        assert settings.data.reader == "vlm_r1_jsonl" and settings.data.task == recipe.split("_")[-1]
        assert settings.data.task in settings.template and settings.data.task in settings.reward.tasks
        check_templates(settings.template)
        arguments = arguments_of(settings, tmp_path)
        assert arguments.generation_batch_size == (128 if stage == "rl" else 16)  # 16 prompts
        assert 128 % (8 * settings.trainer.micro_batch_size) == 0  # on 8 GPUs


def test_what_the_paper_says(tmp_path):
    """Section 4.1: N = 8, temperature 0.9, one iteration, learning rate 1e-6, KL 0.04 (REC) and 0 (OVD)."""
    for recipe, beta in (("vlm_r1_rec", 0.04), ("vlm_r1_ovd", 0.0)):
        settings = settings_of(recipe)
        assert "3B" in settings.model.path and settings.model.freeze == []
        arguments = arguments_of(settings, tmp_path)
        assert (arguments.beta, arguments.kl_in_reward) == (beta, 0.0)
        assert (arguments.num_generations, arguments.temperature, arguments.num_iterations) == (8, 0.9, 1)
        assert (arguments.learning_rate, arguments.max_completion_length) == (1e-6, 2048)
        assert (arguments.advantage_estimator, arguments.loss_type, arguments.scale_advantages) == ("group", "grpo", True)
        assert (arguments.advantage_filter, arguments.pre_clip, arguments.ratio_is_one) == ("none", False, True)
        terms = settings.reward.tasks[settings.data.task].terms
        assert [term.function or name for name, term in terms.items()] == (
            ["iou", "box_format"] if beta else ["od_length", "detection_format"]
        )
    supervised = settings_of("vlm_r1_rec", "stage=sft")
    assert arguments_of(supervised, tmp_path).learning_rate == 1e-6
    assert arguments_of(supervised, tmp_path).max_steps == 600


def test_the_command_line_wins(tmp_path):
    settings = settings_of(
        "vlm_r1_rec", "template=answer_only", "clip=clip_higher", "trainer.num_iterations=2", "adapter=qlora"
    )
    arguments = arguments_of(settings, tmp_path)
    assert (arguments.epsilon, arguments.epsilon_high, arguments.num_iterations) == (0.2, 0.28, 2)
    assert settings.adapter.kind == "qlora"
    assert "think" not in settings.template["rec"]


@pytest.mark.parametrize(("name", "value"), [("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3"), ("ACCELERATE_USE_FSDP", "true")])
def test_sharded_weights_are_not_evaluated_in_a_run(name, value, monkeypatch, tmp_path):
    """On the embedded model's sizes: the refusal does not depend on them."""
    monkeypatch.setenv(name, value)
    config = composed("trainer.eval_steps=0")
    config.arm = "test"
    settings = compose_settings(config)
    with pytest.raises(ValueError, match="set trainer.evaluate=false"):
        trainer_arguments(settings, tmp_path)
