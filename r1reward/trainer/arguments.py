"""From settings in the words of the config to the arguments of TRL's trainer."""

import json
import math
import os
from pathlib import Path

import torch

from r1reward.settings import KlSettings, TrainerSettings, TrainSettings
from r1reward.trainer.config import StableReinforceConfig, named

AT_LEAST_ONE = (
    "rollout_batch_size",
    "train_batch_size",
    "micro_batch_size",
    "num_iterations",
    "max_skipped_steps",
    "keep_last",
    "samples_every",
    "eval_batch_size",
)
# Arguments of TRL that a setting of another name decides.
ELSEWHERE = {
    "num_generations": "algorithm.num_generations",
    "loss_type": "algorithm.loss_type",
    "importance_sampling_level": "algorithm.importance_sampling_level",
    "mask_truncated_completions": "algorithm.mask_truncated_completions",
    "advantage_estimator": "algorithm.estimator",
    "scale_advantages": "algorithm.scale_advantages",
    "statistics_over": "algorithm.statistics_over",
    "scale_rewards": "algorithm.estimator",
    "beta": "algorithm.kl.coefficient",
    "sync_ref_model": "algorithm.kl.sync_steps",
    "ref_model_sync_steps": "algorithm.kl.sync_steps",
    "ref_model_mixup_alpha": "algorithm.kl.sync_mixup",
    "kl_in_reward": "algorithm.kl.coefficient",
    "epsilon": "clip.epsilon_low",
    "epsilon_high": "clip.epsilon_high",
    "pre_clip": "clip.pre_clip",
    "delta_min": "clip.delta_min",
    "delta_max": "clip.delta_max",
    "advantage_filter": "advantage_filter.kind",
    "filter_threshold": "advantage_filter.threshold",
    "per_device_train_batch_size": "trainer.micro_batch_size",
    "gradient_accumulation_steps": "trainer.train_batch_size",
    "steps_per_generation": "trainer.rollout_batch_size",
    "generation_batch_size": "trainer.rollout_batch_size",
    "seed": "seed",
    "data_seed": "seed",
    "output_dir": "hydra.run.dir",
    "report_to": "logger",
    "save_total_limit": "trainer.keep_last",
    "eval_steps": "trainer.eval_steps",
}
# How messages of `StableReinforceConfig` call its fields, where they are not settings of the group trainer.
NAMES = ELSEWHERE | {
    **{name: f"trainer.{name}" for name in ("num_iterations", "share_prefix", "skip_zero_advantage", "use_vllm")},
    **{name: f"trainer.extra.{name}" for name in ("vllm_engine_kwargs", "vllm_mode")},
    "epsilon_high=5": "clip=cispo",
    "pre_clip=False": "clip=none",
    "beta instead": "algorithm.kl.placement=loss",
}
OVERRULED = {
    "num_train_epochs": "trainer.max_steps decides when training ends",
    "reward_weights": "the reward's terms are combined by the group reward",
    "multi_objective_aggregation": "advantages come from algorithm.estimator",
    **dict.fromkeys(
        ("save_only_model", "ignore_data_skip", "enable_jit_checkpoint", "restore_callback_states_from_checkpoint"),
        "checkpoints restore everything",
    ),
    **dict.fromkeys(("logging_steps", "logging_strategy", "disable_tqdm"), "every step is recorded, and the bar is ours"),
    "save_strategy": "trainer.save_steps decides",
    **dict.fromkeys(
        ("deepspeed", "fsdp", "fsdp_config"), "accelerate's config says how weights are sharded (accelerate config)"
    ),
    **dict.fromkeys(("resume_from_checkpoint", "overwrite_output_dir"), "the run folder decides where a run goes on"),
    **dict.fromkeys(
        ("eval_strategy", "eval_on_start", "eval_delay", "metric_for_best_model", "greater_is_better"),
        "trainer.eval_steps and trainer.keep_best decide when and by what the model is evaluated",
    ),
    **dict.fromkeys(
        ("push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "save_on_each_node"), "the run folder is on this machine"
    ),
}
# In supervised training nothing is sampled, estimated, filtered, clipped or compared with a reference.
SUPERVISED = {
    "num_generations": 1,
    "advantage_estimator": "batch",
    "advantage_filter": "none",
    "pre_clip": False,
    "epsilon": math.inf,
    "beta": 0.0,
    "skip_zero_advantage": False,
    "use_vllm": False,
}


def trainer_arguments(settings: TrainSettings, folder: str | Path) -> StableReinforceConfig:
    """The trainer's arguments; batch sizes over all processes become TRL's steps per generation and accumulation.

    Raises:
        ValueError: For settings that contradict each other or cannot act, with the remedy.
    """
    t = settings.trainer
    for name in AT_LEAST_ONE:
        if getattr(t, name) < 1:
            raise ValueError(f"trainer.{name} must be at least 1, got {getattr(t, name)}")
    for name in ("max_steps", "save_steps", "keep_best", "eval_steps"):
        if getattr(t, name) < 0:
            raise ValueError(f"trainer.{name} must not be negative, got {getattr(t, name)}")
    _check_best(t)
    _check_sharded(settings)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    sizes = _sizes(settings, processes)
    if settings.stage == "rl":
        method = _method(settings)
    else:
        sizes, method = _sizes_of_targets(settings, processes), SUPERVISED
    arguments = dict(
        output_dir=str(Path(folder) / "checkpoints"),
        seed=settings.seed,
        data_seed=settings.seed,
        **method,
        # sizes and schedule
        max_steps=t.max_steps if t.max_steps > 0 else -1,
        **sizes,
        num_iterations=t.num_iterations,
        learning_rate=t.learning_rate,
        lr_scheduler_type=t.lr_scheduler_type,
        warmup_steps=t.warmup_steps,
        weight_decay=t.weight_decay,
        adam_beta1=t.adam_beta1,
        adam_beta2=t.adam_beta2,
        max_grad_norm=t.max_grad_norm,
        max_completion_length=t.max_completion_length,
        temperature=t.temperature if settings.stage == "rl" else 1.0,  # TRL divides the logits of every pass by it
        top_p=t.top_p,
        top_k=t.top_k,
        bf16=t.bf16,
        gradient_checkpointing=t.gradient_checkpointing,
        share_prefix=t.share_prefix,
        # record
        logging_steps=1,
        logging_strategy="steps",
        save_strategy="steps" if t.save_steps else "no",
        save_steps=t.save_steps or 500,
        keep_last=t.keep_last,
        keep_best=t.keep_best,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        # Told nothing, accelerate lets each of several processes without a GPU believe that it is alone.
        use_cpu=not torch.accelerator.is_available(),
    )
    _check_extra(t.extra, arguments)
    with named(NAMES):
        config = StableReinforceConfig(**arguments, **t.extra)
    _check_server(settings, config)
    return config


def _sizes(settings: TrainSettings, processes: int) -> dict:
    """Batch sizes as TRL has them: per process, per optimiser step, per rollout batch."""
    t = settings.trainer
    micro = t.micro_batch_size * processes
    if t.train_batch_size % micro or t.rollout_batch_size % t.train_batch_size:
        raise ValueError(
            "trainer: micro_batch_size x processes must divide train_batch_size, which must divide rollout_batch_size; got "
            f"{t.micro_batch_size} x {processes}, {t.train_batch_size}, {t.rollout_batch_size}"
        )
    if t.rollout_batch_size % settings.algorithm.num_generations:
        raise ValueError(
            f"trainer.rollout_batch_size={t.rollout_batch_size} must be a multiple of algorithm.num_generations="
            f"{settings.algorithm.num_generations}: prompts are sampled in whole groups"
        )
    return _as_trl_has_them(t.rollout_batch_size, t.train_batch_size, t.micro_batch_size, processes)


def _sizes_of_targets(settings: TrainSettings, processes: int) -> dict:
    """The same with one target in the place of each group of rollouts; a micro-batch holds at least one."""
    t, group = settings.trainer, settings.algorithm.num_generations
    rollout, train = t.rollout_batch_size // group, t.train_batch_size // group
    problem = None
    if t.train_batch_size % group:
        problem = f"trainer.train_batch_size={t.train_batch_size} must be a multiple of algorithm.num_generations={group}"
    elif train % processes:
        problem = f"an optimiser step of {train} targets cannot be shared by {processes} processes: start fewer"
    elif rollout % 2:
        problem = f"trainer.rollout_batch_size={t.rollout_batch_size} must be an even number of groups of {group}"
    if problem:
        raise ValueError(f"stage=sft: one target takes the place of a prompt's rollouts, and {problem}")
    # Where the group's size does not divide it, the micro-batch shrinks to one that fills the step.
    return _as_trl_has_them(rollout, train, math.gcd(train // processes, max(1, t.micro_batch_size // group)), processes)


def _as_trl_has_them(rollout: int, train: int, micro: int, processes: int) -> dict:
    return {
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": train // (micro * processes),
        "steps_per_generation": rollout // (micro * processes),
    }


def _method(settings: TrainSettings) -> dict:
    """How completions are sampled, rewards become advantages, and advantages a loss."""
    algorithm, clip, kl = settings.algorithm, settings.clip, settings.algorithm.kl
    if clip.epsilon_low is None and clip.epsilon_high is not None:
        raise ValueError("clip.epsilon_high has no effect without clip.epsilon_low: set both, or neither")
    for name in ("loss_type", "importance_sampling_level"):
        meant, chosen = getattr(clip, name), getattr(algorithm, name)
        if meant is not None and meant != chosen:
            preset = "cispo" if name == "loss_type" else "gspo"
            raise ValueError(
                f"clip.{name}={meant}: these bounds (epsilon_low={clip.epsilon_low}, epsilon_high={clip.epsilon_high}) are for "
                f"algorithm.{name}={meant}, and mean something else beside {chosen} (algorithm={algorithm.name}). Set "
                f"algorithm={preset} beside clip={preset}, or a clip for {algorithm.name}, such as clip=ppo"
            )
    _check_sync(settings)
    return dict(
        advantage_estimator=algorithm.estimator,
        scale_advantages=algorithm.scale_advantages,
        statistics_over=algorithm.statistics_over,
        num_generations=algorithm.num_generations,
        loss_type=algorithm.loss_type,
        importance_sampling_level=algorithm.importance_sampling_level,
        mask_truncated_completions=algorithm.mask_truncated_completions,
        advantage_filter=settings.advantage_filter.kind,
        filter_threshold=settings.advantage_filter.threshold,
        pre_clip=clip.pre_clip,
        delta_min=clip.delta_min,
        delta_max=clip.delta_max,
        epsilon=math.inf if clip.epsilon_low is None else clip.epsilon_low,
        epsilon_high=clip.epsilon_high,
        beta=kl.coefficient if kl.placement == "loss" else 0.0,
        kl_in_reward=kl.coefficient if kl.placement == "reward" else 0.0,
        sync_ref_model=kl.sync_steps is not None,
        ref_model_sync_steps=kl.sync_steps or 1,
        ref_model_mixup_alpha=kl.sync_mixup,
        skip_zero_advantage=settings.trainer.skip_zero_advantage,
        use_vllm=settings.trainer.use_vllm,
    )


def _check_sync(settings: TrainSettings):
    """A reference model that moves must be there, and move."""
    kl = settings.algorithm.kl
    if kl.sync_steps is None:
        if kl.sync_mixup != KlSettings.sync_mixup:
            raise ValueError("algorithm.kl.sync_mixup has no effect without algorithm.kl.sync_steps: set both, or neither")
        return
    if kl.sync_steps < 1:
        raise ValueError(f"algorithm.kl.sync_steps must be at least 1, or null, got {kl.sync_steps}")
    if not 0 < kl.sync_mixup <= 1:
        raise ValueError(f"algorithm.kl.sync_mixup must be above 0 and at most 1, got {kl.sync_mixup}")
    if not kl.coefficient:
        raise ValueError(
            "algorithm.kl.sync_steps has no effect: with algorithm.kl.coefficient=0 there is no reference model to move. Raise "
            "the coefficient, or set algorithm.kl.sync_steps=null"
        )
    if settings.adapter.kind != "none":
        raise ValueError(
            f"algorithm.kl.sync_steps cannot be used with adapter={settings.adapter.kind}, whose reference is the base model "
            "itself. Set algorithm.kl.sync_steps=null, or adapter=none"
        )


def _check_sharded(settings: TrainSettings):
    """What does not work with sharded weights: generating outside of training and merging adapters, where the processes would
    wait for each other, and saving a model of which each process writes its own part."""
    t, fsdp = settings.trainer, os.environ.get("ACCELERATE_USE_FSDP") == "true"
    zero_3 = _zero_stage() == 3
    if (zero_3 or fsdp) and settings.adapter.kind != "none":
        raise ValueError(
            f"adapter={settings.adapter.kind} cannot be used with sharded weights (DeepSpeed ZeRO-3, FSDP): merging adapters "
            "into the saved model needs whole ones. Shard with ZeRO-2, or set adapter=none"
        )
    default = "SHARDED_STATE_DICT" if os.environ.get("FSDP_VERSION") == "2" else "FULL_STATE_DICT"  # as accelerate has it
    kind = os.environ.get("FSDP_STATE_DICT_TYPE", default).upper()
    if fsdp and t.save_model and kind not in ("FULL_STATE_DICT", "1"):  # the number is torch's
        raise ValueError(
            "FSDP saves no whole model with sharded state dicts: set fsdp_state_dict_type: FULL_STATE_DICT in accelerate's "
            "config, or trainer.save_model=false"
        )
    if (zero_3 or fsdp) and (t.evaluate or t.eval_steps):
        raise ValueError(
            "sharded weights (DeepSpeed ZeRO-3, FSDP) cannot be evaluated in a run: set trainer.evaluate=false "
            "trainer.eval_steps=0, and evaluate the model with python -m r1reward.evaluate; or shard with ZeRO-2"
        )


def _check_server(settings: TrainSettings, arguments: StableReinforceConfig):
    """A vLLM server encodes images by its own processor, and keeps what it encoded when weights change."""
    if not arguments.use_vllm or arguments.vllm_mode != "server":
        return
    if settings.model.min_pixels or settings.model.max_pixels:
        raise ValueError(
            "model.min_pixels and model.max_pixels do not reach a vLLM server, whose processor would see other images: set "
            "trainer.extra.vllm_mode=colocate, or leave them out and give the server's model its limits"
        )
    if settings.adapter.kind == "none" and "vision" not in settings.model.freeze:
        raise ValueError(
            "a vLLM server keeps the images that it encoded before the vision tower was trained: set model.freeze=[vision], "
            "or trainer.extra.vllm_mode=colocate"
        )


def _zero_stage() -> int:
    """DeepSpeed's stage as accelerate launches it, in its own words or in a file of DeepSpeed's; 0 without DeepSpeed."""
    if file := os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE"):
        return json.loads(Path(file).read_text(encoding="utf-8")).get("zero_optimization", {}).get("stage", 0)
    return int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", 0))


def _check_best(t: TrainerSettings):
    """`keep_best` compares checkpoints that were evaluated."""
    if t.eval_steps and not t.evaluate:
        raise ValueError("trainer.eval_steps has no effect with trainer.evaluate=false")
    if t.keep_best and not (t.eval_steps and t.save_steps and t.save_steps % t.eval_steps == 0):
        raise ValueError(
            "trainer.keep_best keeps the checkpoints with the highest held-out accuracy: set trainer.save_steps to a multiple "
            f"of trainer.eval_steps, both above 0; got {t.save_steps} and {t.eval_steps}"
        )


def _check_extra(extra: dict, arguments: dict):
    """`trainer.extra` adds arguments; one that a named setting decides, or that the trainer overrules, is refused."""
    for name in extra:
        if name in OVERRULED:
            raise ValueError(f"trainer.extra.{name} has no effect: {OVERRULED[name]}")
        if name in arguments or name in ELSEWHERE:
            raise ValueError(f"trainer.extra.{name}: set {ELSEWHERE.get(name, f'trainer.{name}')} instead")
        if name not in StableReinforceConfig.__dataclass_fields__:
            raise ValueError(f"trainer.extra.{name}: GRPOConfig of TRL has no such argument")
