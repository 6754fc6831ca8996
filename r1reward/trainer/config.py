"""Arguments of `StableReinforceTrainer`: TRL's `GRPOConfig` with the method's own settings and every trap set on purpose."""

import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from trl import GRPOConfig

from r1reward.algorithm.advantage import ESTIMATORS, OVER_BATCH, STATISTICS_OVER
from r1reward.algorithm.filter import FILTERS, largest_reachable_z

GROUP_ESTIMATORS = ("group", "leave_one_out", "reinforce_plus_plus_baseline")


class SettingHasNoEffect(UserWarning):
    """A setting was given that cannot act in this run; the message names the remedy."""


_NAMES: ContextVar[Mapping[str, str]] = ContextVar("names of settings", default=MappingProxyType({}))


@contextmanager
def named(names: Mapping[str, str]) -> Iterator[None]:
    """While it lasts, messages call the fields of `StableReinforceConfig` by these names: a config's user knows no others."""
    token = _NAMES.set(names)
    try:
        yield
    finally:
        _NAMES.reset(token)


def _name(field: str) -> str:
    """What the user calls a field, or a remedy such as "pre_clip=False"."""
    return _NAMES.get().get(field, field)


@dataclass
class StableReinforceConfig(GRPOConfig):
    """Settings of StableReinforce (arXiv 2505.02835) on top of `GRPOConfig`.

    Unlike `GRPOConfig`, `num_generations=1` is allowed (Reinforce++ draws one rollout per prompt; the rollout batch must then
    be even), the loss is the paper's per-sequence token mean (`loss_type="grpo"`), the KL term is the textbook one, and NaN
    losses are shown, not hidden.

    Attributes:
        advantage_estimator: `batch` (Reinforce++), `group` (GRPO), `leave_one_out` (RLOO) or `reinforce_plus_plus_baseline`.
        steps_per_generation: With Pre-CLIP on, two optimiser steps per rollout batch where it is not set, for in the first
            one the ratio is 1.
        scale_advantages: Whether `group` divides by the group's deviation (False: Dr. GRPO).
        statistics_over: What `batch` and `reinforce_plus_plus_baseline` standardise over: `rows`, which all count the same (the
            paper), or `tokens`, so that a row counts as often as its completion has tokens (the released code). The filter
            `paper` follows; `released` always counts tokens.
        advantage_filter: `paper` (zero |z| > threshold over the global batch), `released` (the released code's bounds) or
            `none`.
        filter_threshold: Threshold of the filter, in standard deviations.
        pre_clip: Whether the per-token log-ratio is clamped before it is exponentiated.
        delta_min, delta_max: Bounds of the ratio for Pre-CLIP (dimensionless; the log-ratio is clamped to their logarithms).
        kl_in_reward: Coefficient of the per-token k1 KL penalty inside the reward, in reward per nat (Reinforce++). The k3
            KL in the loss is `beta`; at most one of the two is non-zero.
        share_prefix: Whether each distinct prompt, with its images, is encoded once per group (`r1reward.shared_prefix`).
        keep_groups_together: Whether a micro-batch is cut from whole groups; False shuffles rows as TRL does, and needs
            `share_prefix` off.
        skip_zero_advantage: Whether rows whose advantages are all zero get no forward and backward pass. Gradients stay the
            same; the update's metrics leave these rows out (entropy) or count them as unmoved (ratio, clip fractions).
        vllm_engine_kwargs: Further arguments of vLLM's engine in this process (`vllm.LLM`), such as `dtype` or
            `enforce_eager`.
        keep_last: So many of the latest checkpoints stay.
        keep_best: So many of the checkpoints with the highest score (`ResumableTrainer.score`) stay besides.
    """

    advantage_estimator: str = "batch"
    scale_advantages: bool = True
    statistics_over: str = "rows"
    advantage_filter: str = "paper"
    filter_threshold: float = 3.0
    pre_clip: bool = True
    delta_min: float = 1e-3
    delta_max: float = 1e3
    kl_in_reward: float = 0.0
    share_prefix: bool = True
    keep_groups_together: bool = True
    skip_zero_advantage: bool = False
    vllm_engine_kwargs: dict | None = None
    keep_last: int = 2
    keep_best: int = 0

    loss_type: str = field(default="grpo")
    use_bias_correction_kl: bool = field(default=False)
    logging_nan_inf_filter: bool = field(default=False)
    log_multimodal: bool = field(default=False)
    vllm_importance_sampling_correction: bool = field(default=False)

    def __post_init__(self):
        generations = self.num_generations
        if (
            self.pre_clip
            and self.num_iterations == 1
            and self.steps_per_generation is None
            and self.generation_batch_size is None
        ):
            self.steps_per_generation = 2 * self.gradient_accumulation_steps
        if generations == 1:  # refused by GRPOConfig, whose advantages need a group; ours need none
            self.num_generations = 2
        super().__post_init__()
        self.num_generations = generations
        self._check_own_settings()
        for message in settings_without_effect(self):
            warnings.warn(message, SettingHasNoEffect, stacklevel=2)

    @classmethod
    def of(cls, args: GRPOConfig) -> "StableReinforceConfig":
        """The same training in our words: GRPO as `args` says it, without StableReinforce's own parts.

        Raises:
            ValueError: For a setting of GRPO that has no counterpart here.
        """
        config = cls.__new__(cls)  # `args` is resolved: its batch sizes, devices and DeepSpeed's plugin stay as they are
        own = {f.name: f.default for f in fields(cls) if f.name not in GRPOConfig.__dataclass_fields__}
        config.__dict__.update(own | vars(args))
        config.advantage_estimator, config.advantage_filter, config.pre_clip = "group", "none", False
        config.scale_advantages = args.scale_rewards != "none"
        if args.scale_rewards == "none":
            config.scale_rewards = "group"
        config.keep_last = sys.maxsize if args.save_total_limit is None else args.save_total_limit  # None keeps all there
        config.save_total_limit = None
        config._check_own_settings()
        return config

    @property
    def updates_per_rollout(self) -> int:
        """Optimiser steps taken on one rollout batch: how far off-policy the last of them is."""
        return max(1, self.steps_per_generation * self.num_iterations // self.gradient_accumulation_steps)

    @property
    def ratio_is_one(self) -> bool:
        """True where policy and old policy are the same at every update, so that no clip can act."""
        return self.gradient_accumulation_steps % (self.steps_per_generation * self.num_iterations) == 0

    def _check_own_settings(self):
        if self.advantage_estimator not in ESTIMATORS:
            raise ValueError(f"unknown advantage estimator {self.advantage_estimator!r}; choose one of {sorted(ESTIMATORS)}")
        if self.advantage_filter not in FILTERS:
            raise ValueError(f"unknown advantage filter {self.advantage_filter!r}; choose one of {sorted(FILTERS)}")
        if self.advantage_estimator in GROUP_ESTIMATORS and self.num_generations < 2:
            raise ValueError(
                f"the estimator {self.advantage_estimator!r} compares rollouts of one prompt: num_generations >= 2, got "
                f"{self.num_generations}. Raise {_name('num_generations')}, or use {_name('advantage_estimator')}=batch."
            )
        if not self.scale_advantages and self.advantage_estimator != "group":
            raise ValueError(
                f"{_name('scale_advantages')}=false has no effect: only the estimator 'group' divides by a deviation of its own"
            )
        if self.scale_rewards != "group":
            remedy = {"none": "scale_advantages=False", "batch": "advantage_estimator='reinforce_plus_plus_baseline'"}
            raise ValueError(
                f"scale_rewards={self.scale_rewards!r} has no effect: advantages come from advantage_estimator. Set "
                f"{remedy.get(self.scale_rewards, 'advantage_estimator')} of StableReinforceConfig instead"
            )
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                f"multi_objective_aggregation={self.multi_objective_aggregation!r} has no effect: rewards are summed, and "
                "advantage_estimator normalises the sum. Leave it out, or use TRL's GRPOTrainer"
            )
        if self.statistics_over not in STATISTICS_OVER:
            choices = ", ".join(STATISTICS_OVER)
            raise ValueError(f"{_name('statistics_over')}={self.statistics_over}: choose one of {choices}")
        if self.statistics_over == "tokens" and self.advantage_estimator not in OVER_BATCH:
            raise ValueError(
                f"{_name('statistics_over')}=tokens has no effect: over the batch only the estimators "
                f"{' and '.join(OVER_BATCH)} take statistics, not {self.advantage_estimator}. Set it to rows"
            )
        if not 0 < self.delta_min < 1 < self.delta_max:
            raise ValueError(f"Pre-CLIP needs 0 < delta_min < 1 < delta_max, got {self.delta_min} and {self.delta_max}")
        if not (math.isfinite(self.filter_threshold) and self.filter_threshold > 0):
            raise ValueError(f"the filter threshold must be a positive number, got {self.filter_threshold}")
        if self.loss_type == "cispo" and (self.epsilon_high or 0) < 1:
            raise ValueError(
                f"with loss_type=cispo epsilon_high caps the ratio itself, so {self.epsilon_high} would bind everywhere; set "
                f"{_name('epsilon_high=5')}, or {_name('epsilon_high')} of at least 1"
            )
        if self.kl_in_reward and self.beta:
            raise ValueError("KL is either in the reward (k1) or in the loss (k3), not in both: set one coefficient to 0")
        if self.kl_in_reward and self.advantage_estimator not in OVER_BATCH:
            raise ValueError(
                f"a KL penalty in the reward makes advantages per token, which {self.advantage_estimator!r} does not define; "
                f"set {_name('beta instead')}"
            )
        if self.share_prefix and not self.keep_groups_together:
            raise ValueError(f"share_prefix needs whole groups: set {_name('share_prefix')}=false to shuffle rows as TRL does")
        if self.skip_zero_advantage:
            self._check_skipping()
        if self.load_best_model_at_end:
            raise ValueError(
                "load_best_model_at_end reloads weights by a path that leaves Qwen2.5-VL at its base weights; evaluate the "
                "saved checkpoints instead"
            )
        if self.save_total_limit is not None:
            raise ValueError("save_total_limit has no effect: set keep_last and keep_best")
        if self.keep_last < 1 or self.keep_best < 0:
            raise ValueError(f"keep_last must be at least 1, keep_best at least 0; got {self.keep_last} and {self.keep_best}")
        reachable = largest_reachable_z(self.generation_batch_size)
        over_rows = self.statistics_over == "rows"  # over tokens, a short row among long ones has no such bound
        if self.advantage_filter == "paper" and over_rows and self.filter_threshold >= reachable:
            raise ValueError(
                f"the advantage filter cannot act: among {self.generation_batch_size} rollouts no |z| exceeds "
                f"{reachable:.2f}, and the threshold is {self.filter_threshold:g}. Raise {_name('steps_per_generation')}, "
                f"lower {_name('filter_threshold')}, or set advantage_filter=none."
            )
        if self.pre_clip and self.ratio_is_one:
            raise ValueError(
                "Pre-CLIP cannot act: each rollout batch gives one update, so the ratio is always 1. Set "
                f"{_name('gradient_accumulation_steps')} below {_name('steps_per_generation')}, or {_name('num_iterations')} "
                f"above 1, or {_name('pre_clip=False')}."
            )

    def _check_skipping(self):
        entropy = self.entropy_coef or self.use_adaptive_entropy or self.top_entropy_quantile < 1.0
        for wrong, why in (
            (
                not self.share_prefix or self.num_generations == 1,
                f"it needs {_name('share_prefix')} and num_generations above 1",
            ),
            (self.beta, "the KL term in the loss moves rows without an advantage too"),
            (entropy, "the entropy settings look at rows without an advantage too"),
        ):
            if wrong:
                raise ValueError(f"{_name('skip_zero_advantage')}=true cannot be used: {why}")


def settings_without_effect(args: StableReinforceConfig) -> list[str]:
    """Messages about settings that cannot act in this run but are harmless; those that defeat their purpose raise."""
    messages = []
    ppo_clip = math.isfinite(args.epsilon) and args.loss_type not in ("cispo", "sapo", "vespo")
    if ppo_clip and args.ratio_is_one:
        messages.append(
            "The PPO clip has no effect: each rollout batch gives one update, so the ratio is always 1. For off-policy "
            f"updates set {_name('gradient_accumulation_steps')} below {_name('steps_per_generation')}, or "
            f"{_name('num_iterations')} above 1."
        )
    if args.vllm_engine_kwargs and not (args.use_vllm and args.vllm_mode == "colocate"):
        messages.append(
            f"{_name('vllm_engine_kwargs')} has no effect: no vLLM engine is in this process. Set {_name('use_vllm')}=true and "
            f"{_name('vllm_mode')}=colocate for one."
        )
    if args.pre_clip and ppo_clip and args.importance_sampling_level == "sequence":
        messages.append("With a sequence-level ratio, Pre-CLIP clamps the tokens before they are averaged.")
    if args.delta is not None and args.pre_clip and args.delta >= args.delta_max:
        messages.append(f"delta={args.delta:g} has no effect: Pre-CLIP already bounds the ratio by {args.delta_max:g}.")
    return messages
