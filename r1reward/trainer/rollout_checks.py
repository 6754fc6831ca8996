"""What is checked while a run trains: that every path sees the images, and that the sampler is the policy that is trained.

- at the first rollout batch with images of every start (also after a resume) and the first update on it, one row of each
  process: sampler, old policy, reference and update against plain passes of the model (`r1reward.models.image_check`); again at
  the next ones, a few times, as long as other images would change too little to tell;
- at every rollout batch, all tokens: the sampler's log-probabilities against the trainer's
  (`r1reward.trainer.sampler_mismatch`).

Every process runs the same passes, whatever its rows hold, so that sharded weights stay in step.

Shapes: B rows on this process, T completion tokens.
"""

import warnings
from contextlib import contextmanager, nullcontext

import torch
from trl.data_utils import prepare_multimodal_messages
from trl.trainer.utils import use_adapter

from r1reward.models.image_check import HALF, PlainLogProbs, check, image_tokens, is_half, plain_log_probs
from r1reward.trainer.sampler_mismatch import SAMPLED, MismatchWarnings, difference

METRIC = "sampling/sampling_logp_difference"  # TRL's name, which it logs only where it corrects for the difference
TRIES = 5  # rollout batches with images that may leave open whether they are seen


class RolloutChecks:
    """The checks of one trainer.

    Args:
        trainer: A `StableReinforceTrainer`.

    Attributes:
        due: How many rollout batches with images may still be looked at; 0 as soon as one told that they are seen.
    """

    def __init__(self, trainer):
        self._trainer = trainer
        self._half = trainer.args.bf16 or trainer.args.fp16 or is_half(trainer.model)
        self._sampler_half = self._half or (trainer.use_vllm and _engine_dtype(trainer) in HALF)
        self._warnings = MismatchWarnings(self._sampler_half)
        self.due = TRIES if trainer._is_vlm else 0
        self._rows: list[dict] | None = None  # of that batch, until its first update

    def saw_rollouts(self, rows: list[dict], batch: dict):
        """A rollout batch was sampled and its log-probabilities computed.

        Args:
            rows: (B) with their images decoded.
            batch: TRL's, before it is shuffled.

        Raises:
            ImagesNotSeen: A path does not see them, at the first batches of a start.
        """
        sampled, old = batch.get("sampling_per_token_logps"), batch.get("old_per_token_logps")
        mask = own_tokens(batch)
        if sampled is not None and old is not None and self._samples_full_distribution:
            self._saw_difference(sampled, old, mask)
        if not self.due or isinstance(rows[0]["prompt"], str):  # texts by themselves have no images
            return
        computed = mask.any(1) & (mask == batch["completion_mask"]).all(1)
        row = self._choose(rows, computed)
        if not self._anywhere(bool(computed[row]) and bool(_shown(rows[row])[1])):
            return
        self._rows = rows
        expected, told = self._plain(self._trainer.model, rows[row], batch, row), True
        if computed[row]:  # else all were cut off, and are masked
            if sampled is not None and self._samples_full_distribution:
                name = "vLLM's rollouts" if self._trainer.use_vllm else "the rollouts"
                told &= check(name, sampled[row], expected, self._sampler_half, sampler=True)
            if old is not None:
                told &= check("the old policy's pass", old[row], expected, self._half)
        if (reference := batch.get("ref_per_token_logps")) is not None:
            with self._reference() as model:
                expected = self._plain(model, rows[row], batch, row)
            if computed[row]:
                check("the reference's pass", reference[row], expected, self._half)
        told = self._anywhere(told and bool(computed[row]) and expected.changed is not None)
        self.due = 0 if told else self.due - 1
        if not told and not self.due and self._trainer.accelerator.is_main_process:
            warnings.warn(
                f"in {TRIES} rollout batches other images would have changed a completion by no more than rounding does, so it "
                "cannot be told whether the images are seen. See whether the task needs them.",
                stacklevel=2,
            )

    def saw_update(self, inputs: dict, log_probs: torch.Tensor):
        """The loss of a micro-batch was computed, and its weights not yet moved.

        Args:
            inputs: The micro-batch.
            log_probs: (B, T) the policy's, without gradient and before Pre-CLIP.

        Raises:
            ImagesNotSeen: The pass does not see its images, at the first updates of a start.
        """
        sampled, mask = inputs.get("sampling_per_token_logps", inputs.get(SAMPLED)), own_tokens(inputs)
        computed = mask.any(1)
        if self._trainer.args.skip_zero_advantage:
            computed &= inputs["advantages"].reshape(len(mask), -1).any(1)
        if sampled is not None and "old_per_token_logps" not in inputs and self._samples_full_distribution:
            self._saw_difference(sampled, log_probs, mask * computed.unsqueeze(1))
        if self._rows is None:
            return
        computed &= (mask == inputs["completion_mask"]).all(1)
        rows, self._rows = [self._rows[n] for n in inputs["row_index"].tolist()], None
        row = self._choose(rows, computed)
        model = self._trainer.model
        if any(isinstance(module, torch.nn.Dropout) and module.p for module in model.modules()):
            with without_dropout(model), torch.no_grad():
                log_probs = self._trainer.log_probs_and_entropies(model, inputs)[0]
        expected = self._plain(model, rows[row], inputs, row)
        if computed[row]:
            check("the update's pass", log_probs[row], expected, self._half)

    @property
    def _samples_full_distribution(self) -> bool:
        """Whether the log-probabilities that the sampler gives are those of the policy itself: vLLM's come after truncation,
        those of transformers before it; a penalty acts on both, and arguments of generation may alter them anywhere."""
        t = self._trainer
        truncated = t.top_p != 1.0 or (t.top_k or 0) > 0 or t.min_p
        altered = set(t.args.generation_kwargs or ()) - {"n", "seed"}
        return not (truncated and t.use_vllm) and t.repetition_penalty == 1.0 and not altered

    def _anywhere(self, value: bool) -> bool:
        """Whether it is so on any process."""
        accelerator = self._trainer.accelerator
        return bool(accelerator.reduce(torch.tensor(float(value), device=accelerator.device), reduction="sum") > 0)

    def _choose(self, rows: list[dict], computed: torch.Tensor) -> int:
        """The row to look at: one that was computed, with images, if there is one.

        Args:
            rows: (B)
            computed: (B,) whether the row has tokens, and takes part.
        """
        return max(range(len(rows)), key=lambda n: (bool(computed[n]), bool(_shown(rows[n])[1])))

    def _plain(self, model, row: dict, batch: dict, n: int) -> PlainLogProbs:
        trainer = self._trainer
        completion = batch["completion_ids"][n][batch["completion_mask"][n].bool()]
        if not len(completion):  # a truncated one that is masked
            completion = batch["completion_ids"][n][:1]
        (messages, images), config = _shown(row), trainer.accelerator.unwrap_model(trainer.model).config
        suppressed = image_tokens(config) if trainer.use_vllm else [config.image_token_id]  # the latter by TRL
        template = dict(trainer.chat_template_kwargs)
        if trainer.chat_template is not None:
            template["chat_template"] = trainer.chat_template
        with trainer.accelerator.autocast(), without_dropout(model):
            return plain_log_probs(
                model,
                trainer.processing_class,
                messages,
                images,
                completion,
                trainer.temperature,
                suppressed,
                template,
            )

    @contextmanager
    def _reference(self):
        trainer = self._trainer
        if trainer.ref_model is not None:
            yield trainer.ref_model
            return
        model = trainer.accelerator.unwrap_model(trainer.model)
        adapters = getattr(model, "peft_config", None)  # a copy of a trained adapter is called "ref", as TRL has it
        with nullcontext() if adapters is None else use_adapter(model, "ref" if "ref" in adapters else None):
            yield trainer.model

    def _saw_difference(self, sampled, computed, mask):
        """Log and judge how far sampler and trainer are apart, over all processes."""
        trainer = self._trainer
        total, largest, tokens = difference(sampled, computed, mask)
        total, tokens = trainer.accelerator.reduce(torch.stack([total, tokens]), reduction="sum")
        mean = (total / tokens.clamp(min=1)).item()
        largest = trainer.accelerator.gather(largest).max().item()
        if not (trainer.use_vllm and trainer.vllm_importance_sampling_correction):
            trainer._metrics["train"][f"{METRIC}/mean"].append(mean)
            trainer._metrics["train"][f"{METRIC}/max"].append(largest)
        if trainer.accelerator.is_main_process:
            self._warnings.saw(mean, trainer.state.global_step)


def own_tokens(batch: dict) -> torch.Tensor:
    """(B, T) 1 at the tokens that the policy sampled, 0 at padding and at what tools answered."""
    mask, of_policy = batch["completion_mask"], batch.get("tool_mask")
    return mask if of_policy is None else mask * of_policy


def _shown(row: dict) -> tuple[list[dict], list]:
    """The prompt in parts and its images in order: of the row's column `images`, or in the parts themselves."""
    messages = prepare_multimodal_messages(row["prompt"], images=row.get("images"))
    parts = (part for message in messages for part in message["content"] or ())
    return messages, [part["image"] for part in parts if part["type"] == "image"]


@contextmanager
def without_dropout(model):
    """While it lasts, dropout (of adapters) does not act: the policy that samples, its old log-probabilities and the reference
    are those that are evaluated and served. In the update it acts.
    """
    modules = [module for module in model.modules() if isinstance(module, torch.nn.Dropout) and module.training]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module in modules:
            module.train()


def _engine_dtype(trainer) -> torch.dtype | None:
    """Data type of vLLM in this process; what a server computes with is not known, and counts as 16 bits."""
    if trainer.vllm_mode != "colocate":
        return torch.bfloat16
    return trainer.vllm_generation.llm.llm_engine.model_config.dtype
