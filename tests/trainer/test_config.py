"""Settings that cannot act raise or warn with the remedy; one rollout per prompt is allowed."""

import warnings

import pytest

from r1reward.configs import compose_settings
from r1reward.trainer.arguments import trainer_arguments
from r1reward.trainer.config import SettingHasNoEffect, StableReinforceConfig
from tests.quiet import QUIET
from tests.reference_config import composed


def test_one_rollout_per_prompt_is_allowed(make_arguments):
    arguments = make_arguments(num_generations=1)
    assert arguments.num_generations == 1
    assert arguments.generation_batch_size == 16
    assert arguments.updates_per_rollout == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"steps_per_generation": 1, "advantage_filter": "none"},
            "Pre-CLIP cannot act.*gradient_accumulation_steps below steps_per_generation",
        ),
        ({"filter_threshold": 3.9}, r"no \|z\| exceeds 3.87.*Raise steps_per_generation"),
        ({"advantage_estimator": "group", "num_generations": 1}, "compares rollouts of one prompt: num_generations >= 2"),
        ({"advantage_estimator": "gae"}, "unknown advantage estimator 'gae'; choose one of"),
        ({"advantage_filter": "sigma"}, "unknown advantage filter 'sigma'; choose one of"),
        ({"delta_min": 2.0}, "0 < delta_min < 1 < delta_max"),
        ({"kl_in_reward": 0.1, "beta": 0.1}, "not in both"),
        ({"kl_in_reward": 0.1, "advantage_estimator": "group"}, "set beta instead"),
        ({"scale_advantages": False}, "has no effect"),
        ({"statistics_over": "tokens", "advantage_estimator": "group"}, "statistics_over=tokens has no effect"),
        ({"statistics_over": "tokens", "advantage_estimator": "leave_one_out"}, "statistics_over=tokens has no effect"),
        ({"statistics_over": "words"}, "statistics_over=words: choose one of rows, tokens"),
        ({"load_best_model_at_end": True, "eval_strategy": "no"}, "load_best_model_at_end"),
        ({"keep_groups_together": False}, "share_prefix needs whole groups: set share_prefix=false"),
        ({"skip_zero_advantage": True, "beta": 0.04}, "the KL term in the loss moves rows"),
        ({"skip_zero_advantage": True, "entropy_coef": 0.01}, "the entropy settings look at rows"),
        ({"skip_zero_advantage": True, "top_entropy_quantile": 0.5}, "the entropy settings look at rows"),
        ({"skip_zero_advantage": True, "use_adaptive_entropy": True}, "the entropy settings look at rows"),
        ({"skip_zero_advantage": True, "share_prefix": False}, "needs share_prefix and num_generations above 1"),
        ({"skip_zero_advantage": True, "num_generations": 1}, "needs share_prefix and num_generations above 1"),
        ({"scale_rewards": False}, "scale_advantages=False"),
        ({"scale_rewards": "none", "advantage_estimator": "group"}, "scale_advantages=False"),
        ({"scale_rewards": "batch", "advantage_estimator": "group"}, "reinforce_plus_plus_baseline"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "multi_objective_aggregation"),
    ],
)
def test_settings_that_defeat_their_purpose_raise(make_arguments, changes, message):
    with pytest.raises(ValueError, match=message):
        make_arguments(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"steps_per_generation": 1, "pre_clip": False, "advantage_filter": "none"},
            "The PPO clip has no effect.* num_iterations above 1",
        ),
        ({"importance_sampling_level": "sequence"}, "clamps the tokens before they are averaged"),
        ({"delta": 2000.0}, "delta=2000 has no effect"),
        ({"vllm_engine_kwargs": {"dtype": "float16"}}, "vllm_engine_kwargs has no effect"),
    ],
)
def test_settings_without_effect_warn(make_arguments, changes, message):
    with pytest.warns(SettingHasNoEffect, match=message):
        make_arguments(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"skip_zero_advantage": True},
        {"statistics_over": "tokens", "filter_threshold": 3.9},
        {"share_prefix": False},
        {"share_prefix": False, "keep_groups_together": False},
    ],
)
def test_sound_settings_do_not_warn(make_arguments, changes):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SettingHasNoEffect)
        make_arguments(**changes)


def test_skipping_goes_with_a_kl_penalty_in_the_reward(make_arguments):
    """That one is part of the advantages."""
    assert make_arguments(skip_zero_advantage=True, kl_in_reward=0.1).skip_zero_advantage


@pytest.mark.parametrize(
    ("environment", "overrides", "refused"),
    [
        ({"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, ["adapter=lora"], "adapter"),
        ({"ACCELERATE_USE_FSDP": "true"}, ["adapter=lora"], "adapter"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}, [], "save_model"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, [], "save_model"),  # its default
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, ["trainer.save_model=false"], None),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}, [], None),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "full_state_dict"}, [], None),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_STATE_DICT_TYPE": "1"}, [], None),  # as torch numbers them
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_STATE_DICT_TYPE": "3"}, [], "save_model"),
        ({}, ["+trainer.extra.deepspeed=z3.json"], "deepspeed"),  # which accelerate's environment would not show
        ({}, ["+trainer.extra.fsdp=full_shard"], "fsdp"),
        ({"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, ["adapter=lora"], None),
        ({"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, [], None),
    ],
    ids=str,
)
def test_what_sharded_weights_cannot_do_is_refused_first(monkeypatch, tmp_path, environment, overrides, refused):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = composed("trainer.evaluate=false", *overrides)
    config.arm = "test"
    settings = compose_settings(config)
    if refused is None:
        trainer_arguments(settings, tmp_path)
        return
    with pytest.raises(ValueError, match=refused):
        trainer_arguments(settings, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        (["model.max_pixels=5000", "model.freeze=[vision]"], "model.max_pixels"),
        ([], "model.freeze"),
        (["model.freeze=[projector]"], "model.freeze"),
        (["model.freeze=[vision]"], None),
        (["trainer.use_vllm=false"], None),
        (["+trainer.extra.vllm_mode=colocate"], None),
        (["stage=sft"], None),  # which samples nothing
    ],
    ids=str,
)
def test_what_a_vllm_server_would_see_otherwise_is_refused_first(tmp_path, overrides, refused):
    mode = [] if any("vllm_mode" in override for override in overrides) else ["+trainer.extra.vllm_mode=server"]
    config = composed("trainer.use_vllm=true", *mode, *overrides)
    config.arm = "test"
    if refused is None:
        trainer_arguments(compose_settings(config), tmp_path)
        return
    with pytest.raises(ValueError, match=refused):
        trainer_arguments(compose_settings(config), tmp_path)


def test_the_zero_stage_is_found_in_a_file_of_deepspeeds_too(monkeypatch, tmp_path):
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 3}}')
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(tmp_path / "zero.json"))
    config = composed("trainer.evaluate=false", "adapter=lora")
    config.arm = "test"
    with pytest.raises(ValueError, match="adapter"):
        trainer_arguments(compose_settings(config), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["clip=cispo"], "clip.loss_type=cispo.*algorithm=cispo"),
        (["algorithm=grpo", "clip=cispo"], "clip.loss_type=cispo.*algorithm=cispo"),
        (["algorithm=gspo", "clip=cispo"], "clip.loss_type=cispo"),
        (["algorithm=dapo", "clip=cispo", "clip.epsilon_low=null", "clip.epsilon_high=null"], "clip.loss_type=cispo"),
        (["clip=gspo"], "clip.importance_sampling_level=sequence.*algorithm=gspo"),
        (["algorithm=rloo", "clip=gspo"], "clip.importance_sampling_level=sequence"),
        (["algorithm=cispo", "clip=gspo"], "clip.importance_sampling_level=sequence"),
        (["algorithm=gspo", "algorithm.importance_sampling_level=token"], "clip.importance_sampling_level=sequence"),
        (["algorithm=cispo", "algorithm.loss_type=sapo"], "clip.loss_type=cispo"),
        (["algorithm=cispo"], None),
        (["algorithm=gspo"], None),
        (["algorithm=gspo", "clip=ppo"], None),
        (["algorithm=dapo", "clip=clip_higher", "algorithm.importance_sampling_level=sequence", "clip=gspo"], None),
    ],
    ids=str,
)
def test_bounds_made_for_one_algorithm_are_refused_beside_another(tmp_path, overrides, names):
    config = composed(*overrides)
    config.arm = "test"
    settings = compose_settings(config)
    if names is None:
        assert trainer_arguments(settings, tmp_path).output_dir
        return
    with pytest.raises(ValueError, match=names):
        trainer_arguments(settings, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (
            ["trainer.train_batch_size=64", "trainer.rollout_batch_size=64"],
            "trainer.train_batch_size below trainer.rollout_batch",
        ),
        (["algorithm=grpo", "algorithm.num_generations=1"], "Raise algorithm.num_generations"),
        (["+algorithm.scale_advantages=false"], "^algorithm.scale_advantages"),
        (["trainer.skip_zero_advantage=true", "trainer.share_prefix=false"], "^trainer.skip_zero_advantage"),
        (
            ["algorithm.kl.placement=reward", "algorithm.kl.coefficient=0.1", "algorithm=grpo"],
            "algorithm.kl.placement",
        ),
        (["advantage_filter.threshold=99"], "trainer.rollout_batch_size, lower advantage_filter.threshold"),
    ],
    ids=str,
)
def test_errors_of_a_config_name_its_settings(tmp_path, overrides, names):
    config = composed(*overrides)
    config.arm = "test"
    with pytest.raises(ValueError, match=names):
        trainer_arguments(compose_settings(config), tmp_path)


def test_without_sizes_two_updates_follow_each_rollout_batch_so_that_pre_clip_can_act(tmp_path):
    arguments = StableReinforceConfig(str(tmp_path), gradient_accumulation_steps=2, **QUIET)
    assert arguments.updates_per_rollout == 2 and not arguments.ratio_is_one
    assert StableReinforceConfig(str(tmp_path), pre_clip=False, advantage_filter="none", **QUIET).updates_per_rollout == 1
