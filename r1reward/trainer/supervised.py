"""Supervised training on the solutions of the same rows, as the baseline of RL: RL's trainer whose rollouts are the targets.

Rows, their order, images, checkpoints, exact resume, several processes, step guard and metrics are those of RL, and so the two
are compared after equal steps on equal data. One target takes the place of a prompt's group of rollouts, so batch sizes are
those of RL divided by the group's size (`r1reward.trainer.arguments`).

Loss, in nats per token: the mean negative log-likelihood of each target's tokens, end token included, then the mean over the
targets. So every prompt weighs the same, as it does in RL with `loss_type=grpo`; a mean over all tokens would let long lists of
boxes outweigh single ones.

The rewards in the metrics are those of the targets. They show what the reward makes of right answers: a mean below 1 where the
answer is right means that a target was not written as its reward reads it.

What each hook adds:

- `_generate_single_turn`: the targets' tokens instead of samples;
- `_get_per_token_logps_and_entropies`: no passes of an old policy or a reference, for nothing is compared with them;
- `_advantages`: each target's weight in the loss, 0 where its image turned bad;
- `_compute_loss`: the loss above.

Shapes: B rows on this process, T target tokens.
"""

from collections.abc import Callable

import torch

from r1reward.rewards.written import after_opening
from r1reward.trainer.stable_reinforce import StableReinforceTrainer


class SupervisedTrainer(StableReinforceTrainer):
    """Trains a policy on the targets of its rows.

    Args:
        target: From a row, its images decoded, to the text of its target (`r1reward.trainer.targets.Targets`), which is taken
            whole.
        args: With one generation per prompt and without vLLM; what shapes advantages, ratios and KL has no effect.
        kwargs: Passed to `StableReinforceTrainer`.
    """

    _tag_names = ["trl", "sft", "r1reward"]

    def __init__(self, *args, target: Callable[[dict], str], **kwargs):
        super().__init__(*args, **kwargs)
        self._target = target
        self._end = end_of_turn(self.processing_class, self.eos_token_ids)

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs):
        texts = [after_opening(self._target(row), self._opening) for row in self._rows]
        return [[*ids, self._end] for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]], None

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        if self._rows:  # a batch is being made
            return None, None, None
        return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    def _advantages(self, batch: dict) -> torch.Tensor:
        inputs, completions, rewards_per_term = self._scored
        weights = torch.ones(len(rewards_per_term), device=rewards_per_term.device)
        if self._bad_rows is not None:
            weights[self._bad_rows] = 0.0
        self._metrics["train"].pop("frac_reward_zero_std", None)  # of groups of one
        rewards, local = self._rewards(rewards_per_term), self._local(inputs)
        if self.on_rollouts is not None and self.accelerator.is_main_process:
            self.on_rollouts(self._rollouts(inputs, completions, rewards_per_term, rewards, weights, weights > 0, local))
        return weights[local]

    def _compute_loss(self, model, inputs):
        self._loss_inputs = inputs
        try:
            log_probs, entropies, _ = self.log_probs_and_entropies(model, inputs, compute_entropy=True)
        finally:
            self._loss_inputs = self._log_probs = None
        mask = inputs["completion_mask"]
        losses = -(log_probs * mask).sum(1) / mask.sum(1)
        loss = (losses * inputs["advantages"]).mean()
        mean = self._mean_over_processes((entropies.detach() * mask).sum(), mask.sum())
        self._metrics["train"]["entropy"].append(mean.item())  # nats per token
        loss = loss / self.current_gradient_accumulation_steps
        self._saw_loss(inputs, log_probs.detach(), loss)
        return loss


def end_of_turn(processor, eos_token_ids: list[int]) -> int:
    """The token with which the chat template ends an assistant's turn, the one that a finished completion ends with.

    For some families it is not the tokenizer's end token (Gemma 3 ends a turn with <end_of_turn>); that is the fallback where
    the template writes none.

    Args:
        processor: Of the policy.
        eos_token_ids: The tokens that end a completion.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    turns = [("user", "question"), ("assistant", "answer")]
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    _, _, after = processor.apply_chat_template(messages, tokenize=False).rpartition("answer")
    ends = [token for token in tokenizer(after, add_special_tokens=False)["input_ids"] if token in eos_token_ids]
    return ends[0] if ends else tokenizer.eos_token_id
