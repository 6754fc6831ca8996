"""StableReinforce as a subclass of TRL's `GRPOTrainer` that overrides a few named hooks and copies none of their bodies.

Between the two stand `SharedPrefixTrainer`, which makes the same computation faster, and `ResumableTrainer`, which goes on
where it was stopped.

What each hook adds:

- `_generate_and_score_completions`: decodes each image once, samples without dropout, then replaces the advantages by the
  chosen estimator's and filters them (`r1reward.algorithm.advantage`, `.filter`), and has sampler and passes checked
  (`r1reward.trainer.rollout_checks`);
- `_generate`: counts what the chat template opens as written (`r1reward.rewards.written`), and lets the judges of a composite
  reward begin, while the old policy's and the reference's passes run;
- `_calculate_rewards`: fills the total of a composite reward from its terms, after they were gathered, and takes the reward of
  rows whose images turned bad (`r1reward.data.images.BadImages`);
- `_get_per_token_logps_and_entropies`: Pre-CLIP, by clamping the log-probabilities around the old ones, which equals clamping
  the log-ratio (`r1reward.algorithm.clipping`);
- `_compute_loss`: keeps the KL penalty out of the loss where the reward has it already, and shows the micro-batch to the
  checks and to the step guard (`r1reward.trainer.step_guard`);
- `training_step`: shows the gradients to the step guard, before they are clipped.

With Pre-CLIP and filter off and the estimator `group`, loss and gradients equal stock `GRPOTrainer` bit for bit.

Shapes: N rows of the global rollout batch, B rows on this process, T completion tokens.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import ProcessorMixin
from trl import GRPOConfig

from r1reward.algorithm.advantage import estimate, row_returns, statistics_weights, token_returns
from r1reward.algorithm.clipping import pre_clip, pre_clip_statistics
from r1reward.algorithm.filter import keep_mask
from r1reward.algorithm.kl import k1
from r1reward.data.images import BadImages
from r1reward.data.rows import PREFERENCE
from r1reward.inference.unreadable import UnreadableWatch, rejection_of
from r1reward.rewards.tasks import CompositeReward
from r1reward.rewards.written import REASONING, opening, opening_of_text, texts_of
from r1reward.trainer.config import SettingHasNoEffect, StableReinforceConfig
from r1reward.trainer.resumable import ResumableTrainer
from r1reward.trainer.rollout_checks import RolloutChecks, without_dropout
from r1reward.trainer.sampler_mismatch import SAMPLED
from r1reward.trainer.shared_prefix import FURTHER_IMAGE_KEYS, IMAGE_KEYS
from r1reward.trainer.step_guard import StepGuard


@dataclass
class Rollouts:
    """What one process sampled and how it was scored, for the run folder. All lists have B entries;
    `right` is None for rewards that are no `CompositeReward`."""

    step: int
    rows: list[dict]
    completions: list[str]
    terms: dict[str, list[float]]
    rewards: list[float]
    advantages: list[float]
    kept: list[bool]
    right: list[bool] | None


class StableReinforceTrainer(ResumableTrainer):
    """Trains a multimodal policy with StableReinforce, or with any of its relatives by `StableReinforceConfig` alone.

    Args:
        model: A loaded model; load it with `r1reward.models.loading`, which sets the data type on purpose.
        reward_funcs: A composite reward, or what `GRPOTrainer` takes: a reward function, a model, or a list of those (then
            summed by `args.reward_weights`); composite rewards in a longer list count with their total.
        args: Settings of the method and of the run; None: those of `StableReinforceConfig`. A plain `GRPOConfig` trains what it
            says, which is GRPO (`StableReinforceConfig.of`).
        positional: Passed to `GRPOTrainer`, as are `kwargs`.
        on_rollouts: Called once per rollout batch on the main process with what it sampled.
        step_guard: Skips optimiser steps whose loss or gradient is not finite; None: such a step reaches the weights.
        bad_images: What happens to images that cannot be decoded; by default they end the run.
        kwargs: Of `GRPOTrainer` (`train_dataset`, `processing_class`, `callbacks`, `peft_config`, ...).

    Raises:
        ValueError: If the processor pads on the right, which misaligns Qwen's M-RoPE positions without a message.
    """

    _tag_names = ["trl", "stable-reinforce", "r1reward"]

    def __init__(
        self,
        model,
        reward_funcs: CompositeReward | Callable | list | None = None,
        args: GRPOConfig | None = None,
        *positional,
        on_rollouts: Callable[[Rollouts], None] | None = None,
        step_guard: StepGuard | None = None,
        bad_images: BadImages | None = None,
        **kwargs,
    ):
        args = _settings(args, model)
        if isinstance(reward_funcs, list):
            reward_funcs = reward_funcs[0] if len(reward_funcs) == 1 else list(reward_funcs)
        self.composite_reward = reward_funcs if hasattr(reward_funcs, "reward_functions") else None
        if self.composite_reward is not None:
            if args.reward_weights not in (None, [1.0]):
                raise ValueError(
                    f"reward_weights={args.reward_weights} has no effect: {type(reward_funcs).__name__} combines its own terms"
                )
            terms = reward_funcs.reward_functions()
            args.reward_weights = [0.0] * len(terms) + [1.0]
            reward_funcs = [*terms, total]
        self.on_rollouts = on_rollouts
        self._scored = None
        self._rows: list[dict] = []  # of the rollout batch that is being made
        # The reference model exists only where GRPOTrainer believes that the loss needs it; `_compute_loss` undoes this.
        self._kl_in_reward = args.kl_in_reward
        if self._kl_in_reward:
            args.beta = self._kl_in_reward
        super().__init__(model, reward_funcs, args, *positional, **kwargs)
        if isinstance(self.processing_class, ProcessorMixin) and self._tokenizer.padding_side != "left":
            raise ValueError(
                "the tokenizer must pad on the left: set processor.tokenizer.padding_side = 'left' before training"
            )
        self._opening = opening(self.processing_class, self.chat_template, **self.chat_template_kwargs)
        self._first = UnreadableWatch("the policy's rollouts")
        self.bad_images = self.stateful["bad_images"] = bad_images or BadImages()
        self._bad_rows: torch.Tensor | None = None  # (N,) of the rollout batch that is being made, where they are skipped
        self.step_guard = step_guard
        self._log_probs: torch.Tensor | None = None  # of the micro-batch whose loss is computed, before Pre-CLIP
        self.checks = RolloutChecks(self)
        if step_guard is not None:
            step_guard.trainer = self
            self.stateful["step_guard"] = step_guard
            self.add_callback(step_guard)  # the last one: what it raises comes after the step's metrics are written

    # ---- rollouts: rewards, advantages, filter -------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs):
        self._rows, bad = self.bad_images.decode(inputs)
        inputs = self._rows
        if self.bad_images.policy == "skip":
            # Every process gathers and counts, so that all of them stop where one prompt too many is bad.
            marks = torch.tensor(bad, dtype=torch.int32, device=self.accelerator.device)
            self._bad_rows = self.accelerator.gather(marks).bool()
            group = self.num_generations if self.model.training else self.num_generations_eval
            self.bad_images.count(int(self._bad_rows.view(-1, group).any(1).sum()))
            self._metrics["train" if self.model.training else "eval"]["data/bad_images"].append(self.bad_images.skipped)
        with without_dropout(self.model):
            batch = super()._generate_and_score_completions(inputs)
            if self.model.training:
                batch["advantages"] = self._advantages(batch)
        if self.model.training:
            self.checks.saw_rollouts(inputs, batch)
            if not self.use_vllm and "sampling_per_token_logps" in batch:  # TRL takes them for those of another engine
                batch[SAMPLED] = batch.pop("sampling_per_token_logps")
            batch["row_index"] = torch.arange(len(inputs), device=batch["advantages"].device)
            self.rollout_ids = [str(row.get("id", n)) for n, row in enumerate(inputs)]
        self._scored, self._rows = None, []
        return batch

    def _generate(self, prompts):
        generated = super()._generate(prompts)
        completions = generated[3]
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            if isinstance(completion, str):
                if self.composite_reward is not None:  # TRL's own rewards put the prompt's text before it
                    completions[row] = opening_of_text(prompt) + completion
            elif self._opening and not any(completion[0].get(name) for name in REASONING):
                completion[0]["content"] = self._opening + (completion[0]["content"] or "")
        if self.composite_reward is not None and self._rows:
            columns = {name: [row[name] for row in self._rows] for name in self._rows[0] if name != "prompt"}
            self.composite_reward.start(texts_of(completions), prompts=prompts, **columns)
        return generated

    def _calculate_rewards(self, inputs, prompts, completions, *args, **kwargs):
        rewards = super()._calculate_rewards(inputs, prompts, completions, *args, **kwargs)  # (N, terms)
        if self.composite_reward is not None:
            rewards[:, -1] = self.composite_reward.total(*rewards[:, :-1].unbind(1))
        if self._bad_rows is not None:
            rewards[self._bad_rows] = torch.nan  # cannot be scored: no part in any mean or deviation, advantage 0
        self._scored = (inputs, completions, rewards)
        return rewards

    def _advantages(self, batch: dict) -> torch.Tensor:
        """Estimate, filter, log; (B,), or (B, T) with a KL penalty in the reward."""
        inputs, completions, rewards_per_term = self._scored
        rewards, local, args = self._rewards(rewards_per_term), self._local(inputs), self.args
        returns = row_returns(args.advantage_estimator, rewards, self.num_generations, args.scale_advantages)
        if self._kl_in_reward:
            returns, tokens = self._penalised_returns(batch, returns)
        else:
            tokens = self.accelerator.gather(batch["completion_mask"].sum(1))
        weights = statistics_weights(tokens, args.statistics_over)
        advantages = estimate(args.advantage_estimator, returns, weights)
        kept = keep_mask(advantages, returns, args.advantage_filter, args.filter_threshold, tokens, args.statistics_over)
        advantages = advantages * kept
        self._log_advantages(advantages, kept, rewards_per_term, weights)
        self._saw_texts(inputs, completions, rewards_per_term[local])
        if self.on_rollouts is not None and self.accelerator.is_main_process:
            self.on_rollouts(self._rollouts(inputs, completions, rewards_per_term, rewards, advantages, kept, local))
        if advantages.dim() == 2:  # rows were padded to the longest completion of all processes
            return advantages[local, : batch["completion_mask"].shape[1]]
        return advantages[local]

    def _saw_texts(self, inputs, completions, terms: torch.Tensor):
        """Say so where nearly none of the first rollouts can be read, by this process's rows and their terms (B, terms)."""
        if self.composite_reward is None or self._first.done or not self.accelerator.is_main_process:
            return
        right, pattern = self.composite_reward.right(*terms[:, :-1].unbind(1)), pattern_of(self.composite_reward)
        self._first.saw(
            (text, None if is_right else rejection_of(row.get("task", PREFERENCE), text, pattern))
            for row, text, is_right in zip(inputs, texts_of(completions), right.tolist(), strict=True)
        )

    def _rewards(self, rewards_per_term: torch.Tensor) -> torch.Tensor:
        """(N,) from (N, terms); NaN where no term applies."""
        rewards = (rewards_per_term * self.reward_weights.to(rewards_per_term.device)).nansum(1)
        rewards[rewards_per_term.isnan().all(1)] = torch.nan
        return rewards

    def _local(self, inputs: list[dict]) -> slice:
        """Where this process's rows are in the global rollout batch."""
        return slice(self.accelerator.process_index * len(inputs), (self.accelerator.process_index + 1) * len(inputs))

    def _penalised_returns(self, batch: dict, returns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From returns of rows (N,) to those of tokens (N, T), less the k1 KL penalty; and the mask (N, T) of real tokens."""
        if "old_per_token_logps" not in batch:
            batch["old_per_token_logps"] = self._current_log_probs(batch)
        mask = batch["completion_mask"]
        penalty = k1(batch["old_per_token_logps"], batch["ref_per_token_logps"])
        mean = self._mean_over_processes((penalty * mask).sum(), mask.sum())
        self._metrics["train"]["kl_in_reward"].append(mean.item())  # nats per token
        penalty, mask = (self.accelerator.gather(self.accelerator.pad_across_processes(x, dim=1)) for x in (penalty, mask))
        return token_returns(returns, penalty, mask, self._kl_in_reward), mask

    @torch.no_grad()
    def _current_log_probs(self, batch: dict) -> torch.Tensor:
        """Log-probabilities (B, T) of the sampled tokens under the present policy."""
        return self.log_probs_and_entropies(self.model, batch, batch_size=self.args.per_device_train_batch_size)[0]

    def log_probs_and_entropies(self, model, batch: dict, **kwargs):
        """What `_get_per_token_logps_and_entropies` returns for a batch's completions, images included."""
        self._groups = batch.get("groups")
        try:
            return self._get_per_token_logps_and_entropies(
                model,
                torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1),
                torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1),
                batch["completion_ids"].shape[1],
                **{key: batch[key] for key in IMAGE_KEYS + FURTHER_IMAGE_KEYS if key in batch},
                **kwargs,
            )
        finally:
            self._groups = None

    def _log_advantages(self, advantages, kept, rewards_per_term, weights):
        """Metrics over the global batch, counted as in its statistics: how much the filter took, and from whom."""
        metrics = self._metrics["train"]
        weights = weights.to(advantages.dtype).to(advantages.device)  # converted first: the device may have no float64
        scored = ~rewards_per_term.isnan().all(1)
        weight = weights * (scored if weights.dim() == 1 else scored.unsqueeze(1))
        dropped = (~kept).to(advantages.dtype) * weight
        metrics["advantage_filter/fraction"].append((dropped.sum() / weight.sum().clamp(min=1)).item())
        if self.composite_reward is not None:
            right = self.composite_reward.right(*rewards_per_term[:, :-1].unbind(1))
            for name, rows in (("right", right), ("wrong", ~right)):
                total_weight = weight[rows].sum()
                if total_weight > 0:
                    share = dropped[rows].sum() / total_weight
                    metrics[f"advantage_filter/fraction_{name}"].append(share.item())
        metrics["advantages/max_abs"].append(advantages.abs().max().item())
        metrics["advantages/fraction_zero"].append(((advantages == 0) * weight).sum().div(weight.sum().clamp(min=1)).item())
        if self.num_generations == 1:  # a group of one has no deviation to report
            metrics.pop("frac_reward_zero_std", None)
        # TRL's own table of completions was filled with its advantages; it must show those that train.
        rows = advantages if advantages.dim() == 1 else (advantages * weights).sum(1) / weights.sum(1).clamp(min=1)
        log = self._logs["advantages"]
        for _ in range(min(len(rows), len(log))):
            log.pop()
        log.extend(rows.tolist())

    def _rollouts(self, inputs, completions, rewards_per_term, rewards, advantages, kept, local) -> Rollouts:
        terms = rewards_per_term[local]
        if advantages.dim() == 2:
            advantages, kept = advantages[:, 0], kept.all(1)
        return Rollouts(
            step=self.state.global_step,
            rows=inputs,
            completions=texts_of(completions),
            terms={name: terms[:, i].tolist() for i, name in enumerate(self.reward_func_names) if name != "total"},
            rewards=rewards[local].tolist(),
            advantages=advantages[local].tolist(),
            kept=kept[local].tolist(),
            right=None if self.composite_reward is None else self.composite_reward.right(*terms[:, :-1].unbind(1)).tolist(),
        )

    # ---- update: Pre-CLIP ----------------------------------------------------------------------------------------------

    def _compute_loss(self, model, inputs):
        if self._kl_in_reward:
            self.beta = 0.0  # the penalty is in the advantages already
        try:
            loss = super()._compute_loss(model, inputs)
        finally:
            self.beta = self.args.beta
            log_probs, self._log_probs = self._log_probs, None
        if self.model.training:
            self._saw_loss(inputs, log_probs, loss)
        return loss

    def _saw_loss(self, inputs: dict, log_probs: torch.Tensor, loss: torch.Tensor):
        """Show the checks and the step guard a micro-batch, its log-probabilities (B, T) before Pre-CLIP, and its loss."""
        self.checks.saw_update(inputs, log_probs)
        if self.step_guard is not None:
            self.step_guard.saw_loss(inputs, log_probs, loss)

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        if self.step_guard is not None and self.accelerator.sync_gradients:
            self.step_guard.saw_gradients()
        return loss

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        log_probs, *rest = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if self._loss_inputs is not None:
            self._log_probs = log_probs.detach()
        old = None if self._loss_inputs is None else self._loss_inputs.get("old_per_token_logps")
        return (log_probs if old is None else self._pre_clip(log_probs, old), *rest)

    def _pre_clip(self, log_probs, old):
        """The log-probabilities, clamped around the old ones where Pre-CLIP is on; its metrics in any case."""
        self._log_ratio(log_probs.detach(), old)
        return pre_clip(log_probs, old, self.args.delta_min, self.args.delta_max) if self.args.pre_clip else log_probs

    def _log_ratio(self, log_probs, old):
        """Metrics of the log-ratio before any clip, over all processes."""
        mask = self._loss_inputs["completion_mask"]
        local = pre_clip_statistics(log_probs, old, mask, self.args.delta_min, self.args.delta_max)
        sums = self.accelerator.reduce(torch.stack([local["clamped"].float(), local["tokens"].float()]), reduction="sum")
        largest = self.accelerator.gather(local["max_abs_log_ratio"]).max()
        metrics = self._metrics["train" if self.model.training else "eval"]
        name = "pre_clip/fraction" if self.args.pre_clip else "log_ratio/fraction_beyond_pre_clip"
        metrics[name].append((sums[0] / sums[1].clamp(min=1)).item())
        metrics["log_ratio/max_abs"].append(largest.item())


def _settings(args: GRPOConfig | None, model) -> StableReinforceConfig:
    """Settings of the trainer's own, so that it can change them: from the user's, or from nothing."""
    if args is None:
        name = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "") or type(model).__name__
        folder = f"{name.split('/')[-1]}-StableReinforce"
        return StableReinforceConfig(folder, use_cpu=not torch.accelerator.is_available())
    if isinstance(args, StableReinforceConfig):
        return copy.copy(args)
    warnings.warn(
        "args is a GRPOConfig, so GRPO is trained: for the batch estimator, the advantage filter and Pre-CLIP give a "
        "StableReinforceConfig",
        SettingHasNoEffect,
        stacklevel=3,
    )
    return StableReinforceConfig.of(args)


def pattern_of(reward) -> str:
    """How the verdicts of a composite reward are parsed; "strict" where it judges none."""
    parts = (getattr(reward, "base", None), *getattr(reward, "rewards", {}).values())
    return getattr(reward, "pattern", None) or next((pattern_of(part) for part in parts if part is not None), "strict")


def total(completions, **kwargs) -> list[float]:
    """Placeholder column of a composite reward's total; the trainer fills it from the gathered terms."""
    return [0.0] * len(completions)
