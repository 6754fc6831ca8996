"""`GRPOTrainer` that encodes each prompt once per group: a layer between TRL's trainer and `StableReinforceTrainer`.

What each hook adds:

- `_get_dataloader`: reads each row of a rollout batch once;
- `_tokenize_prompts`: processes each distinct prompt and its images once, lets rows lie beside others that have no image, and
  tells vLLM how the chat template writes them;
- `_generate_single_turn`: samples with the prompt's keys and values shared by its group, and keeps the sampled tokens'
  log-probabilities;
- `_get_per_token_logps_and_entropies`: log-probabilities of packed groups (old policy, reference, update), and of families
  and batches whose images TRL does not give to their rows;
- `_generate_and_score_completions`: keeps the prompts with the rollout batch instead of a copy of the pixels for each row;
- `_prepare_inputs`: cuts the rollout batch into micro-batches of whole groups;
- `_compute_loss`: says which prompts the micro-batch's rows belong to, and leaves out rows that cannot move the policy.

Shapes: N prompts, B rows on this process, T completion tokens.
"""

import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from datasets import IterableDataset
from trl import GRPOTrainer
from trl.data_utils import prepare_multimodal_messages
from trl.trainer.utils import pad, split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from r1reward.data.read_once import ReadOnce
from r1reward.inference.sampled_log_probs import SampledLogProbs
from r1reward.models.forward import base_model
from r1reward.models.image_check import image_tokens
from r1reward.shared_prefix.generation import sample
from r1reward.shared_prefix.packing import pack
from r1reward.shared_prefix.prompts import Prompt, encode_images, make_prompts
from r1reward.shared_prefix.register import enable, why_not
from r1reward.trainer.config import SettingHasNoEffect
from r1reward.trainer.vllm_rollouts import VllmRollouts, engine_arguments

IMAGE_KEYS = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")  # of the families that share prompts
FURTHER_IMAGE_KEYS = (
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "image_position_ids",
)
TOKEN_KINDS = ("mm_token_type_ids", "token_type_ids")  # of these, those that rows without images have too


@dataclass
class Groups:
    """Which rows of a batch answer which prompt: `prompt_of_row` has one entry per row, ascending, into `prompts`."""

    prompts: list[Prompt]
    prompt_of_row: list[int]


class SharedPrefixTrainer(GRPOTrainer):
    """`GRPOTrainer` with shared prompts; with `args.share_prefix=False` it computes what `GRPOTrainer` does."""

    def __init__(self, model, reward_funcs, args, *positional, **kwargs):
        with engine_arguments(**(args.vllm_engine_kwargs or {})) if args.use_vllm else nullcontext():
            super().__init__(model, reward_funcs, args, *positional, **kwargs)
        vision = getattr(self._backbone(), "visual", None)
        self._vision_is_frozen = vision is not None and not any(p.requires_grad for p in vision.parameters())
        if self.use_vllm:
            self.vllm_generation = VllmRollouts(self.vllm_generation, image_tokens(self._backbone().config))
            if self._is_vlm and self.vllm_mode == "server" and not self._vision_is_frozen:
                raise ValueError(
                    "a vLLM server keeps the images that it encoded with the vision tower of the start, and this tower is "
                    "trained: freeze it, or set vllm_mode='colocate'"
                )
        self._groups: Groups | None = None  # of the rollout batch or micro-batch at work
        self._loss_inputs: dict | None = None  # the micro-batch, while its loss is computed
        self._moving_rows: torch.Tensor | None = None  # its rows that can move the policy; None for all
        self._shares = self.args.share_prefix and self._can_share()
        if self._shares:
            for model in (self.model, self.ref_model):
                if model is not None:
                    enable(self.accelerator.unwrap_model(model))

    def _can_share(self) -> bool:
        reason = why_not(self.accelerator.unwrap_model(self.model))
        if self.tools or self.environment_factories is not None or self.rollout_func is not None:
            reason = "tools, environments and rollout functions make prompts of their own"
        if reason:
            warnings.warn(f"share_prefix has no effect: {reason}.", SettingHasNoEffect, stacklevel=3)
        return reason is None

    def _backbone(self):
        return base_model(self.accelerator.unwrap_model(self.model)).base_model

    @property
    def _shares_log_probs(self) -> bool:
        """Packing groups of one saves nothing; their log-probabilities are computed as TRL does."""
        return self._shares and (self.num_generations if self.model.training else self.num_generations_eval) > 1

    def _get_dataloader(self, dataset, *args, **kwargs):
        if self._shares and not isinstance(dataset, IterableDataset):  # a stream is read once anyway
            dataset = ReadOnce(dataset)
        return super()._get_dataloader(dataset, *args, **kwargs)

    # ---- rollouts ------------------------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs):
        processor = self.processing_class
        if self._shares:
            self.processing_class = _ProcessedOnce(self)
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self.processing_class = processor
            groups, self._groups = self._groups, None
        _count_rows_of_tiles(batch)
        if groups is not None and self._shares_log_probs:
            for key in IMAGE_KEYS:
                batch.pop(key, None)
            for prompt in groups.prompts:
                if not self._vision_is_frozen:
                    prompt.features = None  # of the old policy
            batch["groups"] = groups
        return batch

    def _tokenize_prompts(self, prompts):
        if isinstance(prompts[0], str):
            return super()._tokenize_prompts(prompts)
        if self.use_vllm:
            self.vllm_generation.expect([self._written(row, prompt) for row, prompt in enumerate(prompts)])
        if not self._shares:
            ids, images, fields = super()._tokenize_prompts(prompts)
            # TRL hands the images on to the processor, which takes an empty list for a row without any, and no None.
            return ids, None if images is None else [x or [] for x in images], fields
        distinct, prompt_of_row = [], []
        for prompt in prompts:
            # The rows of a group lie side by side. A group of one stays apart: its pixels go with its row.
            if not (distinct and self._shares_log_probs and _same(prompt, distinct[-1])):
                distinct.append(prompt)
            prompt_of_row.append(len(distinct) - 1)
        ids, images, fields = super()._tokenize_prompts(distinct)
        fields = {name: torch.as_tensor(x) if name in IMAGE_KEYS[:2] else x for name, x in fields.items()}
        counts = [len(x or ()) for x in images] if images is not None else [0] * len(distinct)
        self._groups = Groups(
            make_prompts(self._backbone(), ids, fields.get("pixel_values"), fields.get("image_grid_thw"), counts),
            prompt_of_row,
        )
        self.processing_class.fields = fields
        return (
            [ids[n] for n in prompt_of_row],
            [images[n] for n in prompt_of_row] if images is not None else None,
            fields,
        )

    def _written(self, row: int, prompt: list[dict]) -> list[int]:
        """The prompt's tokens as the chat template writes them: one mark per image."""
        tools = self.tools if self.environment_factories is None else self._env_tools[self._batch_environments[row]]
        text = self.processing_class.apply_chat_template(
            prepare_multimodal_messages(prompt) if self._is_vlm else prompt,
            tools=tools or None,
            tokenize=False,
            add_generation_prompt=True,
            chat_template=self.chat_template,
            **self.chat_template_kwargs,
        )
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs):
        groups, own = self._groups, super()._generate_single_turn
        if self.use_vllm:
            if self._shares_log_probs and groups is not None:
                self._encode_images(groups)
            images = None if images is None else [x or None for x in images]  # as vLLM wants them
            return own(prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs)
        with self._sampling(groups) as record:
            fields = multimodal_fields if groups is None else {}
            completions, log_probs = own(prompt_ids, images, fields, num_generations, *args, **kwargs)
        return completions, record.of_rows(completions) if record.recorded else log_probs

    @contextmanager
    def _sampling(self, groups: Groups | None):
        """While it lasts, the policy's `generate` records what it samples, computes with the precision of the passes that are
        trained, and shares the prompts of `groups`."""
        model, record = self.accelerator.unwrap_model(self.model), SampledLogProbs(self.temperature)
        plain = model.generate

        def generate(**kwargs):
            if groups is not None:
                self._encode_images(groups)
                owner = torch.tensor(groups.prompt_of_row, device=kwargs["input_ids"].device)
                kwargs["custom_generate"] = partial(sample, prompts=groups.prompts, prompt_of_row=owner)
            with self.accelerator.autocast():
                return plain(**kwargs, **record.arguments())

        model.generate = generate
        try:
            yield record
        finally:
            del model.generate

    def _encode_images(self, groups: Groups):
        with self.accelerator.autocast():  # as in the passes that may use the features again
            encode_images(self._backbone(), groups.prompts)
        if self._vision_is_frozen and self._shares_log_probs:
            for prompt in groups.prompts:
                if prompt.features is not None:
                    prompt.pixels = None

    # ---- log-probabilities ---------------------------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, *args, **kwargs
    ):
        if self._groups is None or not self._shares_log_probs:
            return self._log_probs_of_padded_rows(model, input_ids, attention_mask, logits_to_keep, batch_size, *args, **kwargs)
        completions, mask = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]
        rows = torch.arange(len(input_ids), device=input_ids.device) if self._moving_rows is None else self._moving_rows
        if not len(rows) and self.accelerator.num_processes > 1:
            rows = rows.new_zeros(1)  # the others wait for this process's gradients; see `_with_rows_left_out`
        log_probs, entropies = [], []
        for part in rows.split(batch_size or len(input_ids)) if len(rows) else ():
            owner = [self._groups.prompt_of_row[row] for row in part.tolist()]
            packed = pack(self._groups.prompts, owner, completions[part], mask[part], use_features=self._features_serve(model))
            with self.accelerator.autocast():
                output = model(**packed.arguments, shift_labels=packed.labels, fused_lm_head=True)
            log_probs.append(packed.spread(output.log_probs, logits_to_keep))
            if output.entropy is not None:
                entropies.append(packed.spread(output.entropy, logits_to_keep))
        if self._moving_rows is not None:
            return *self._with_rows_left_out(model, rows, log_probs, entropies, mask), None
        return torch.cat(log_probs), torch.cat(entropies) if entropies else None, None

    def _log_probs_of_padded_rows(self, model, input_ids, attention_mask, logits_to_keep, batch_size, *args, **kwargs):
        """TRL's way, but with the images of one part of the rows at a time where TRL cannot pick them out itself: it calls the
        vision tower for a part without images too, and leaves out LLaVA-OneVision's `batch_num_images`."""
        compute = super()._get_per_token_logps_and_entropies
        kwargs.pop("batch_num_images", None)  # the same as `num_images`, which the update has too
        images = {key: kwargs[key] for key in IMAGE_KEYS + FURTHER_IMAGE_KEYS if kwargs.get(key) is not None}
        if "pixel_values" not in images:
            return compute(model, input_ids, attention_mask, logits_to_keep, batch_size, *args, **kwargs)
        has_images = (input_ids == self._backbone().config.image_token_id).any(1)
        wants_counts = "batch_num_images" in self.processing_class.image_processor.model_input_names
        if has_images.all() and not wants_counts:
            return compute(model, input_ids, attention_mask, logits_to_keep, batch_size, *args, **kwargs)
        _count_rows_of_tiles(images)
        images, outcomes, size = split_pixel_values_by_grid(images), [], batch_size or len(input_ids)
        for start in range(0, len(input_ids), size):
            part, policy = slice(start, start + size), model
            own = unsplit_pixel_values_by_grid({key: value[part] for key, value in images.items()})
            if not has_images[part].any():
                own |= dict.fromkeys(own.keys() - set(TOKEN_KINDS))
            elif wants_counts:
                policy = partial(model, batch_num_images=[count for count in own["num_images"] if count])
            outcomes.append(
                compute(policy, input_ids[part], attention_mask[part], logits_to_keep, None, *args, **(kwargs | own))
            )
        log_probs, entropies, router = zip(*outcomes, strict=True)
        return (
            torch.cat(log_probs),
            torch.cat(entropies) if entropies[0] is not None else None,
            torch.stack(router).mean() if router[0] is not None else None,
        )

    def _with_rows_left_out(self, model, rows, log_probs, entropies, mask) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies (B, T) of all rows: those left out count as unmoved and as of mean entropy.

        Args:
            rows: The rows that were computed: those that move, or one in their place where none does.
        """
        old = self._loss_inputs.get("old_per_token_logps")
        every = mask.new_zeros(mask.shape, dtype=torch.float32) if old is None else old
        if not len(self._moving_rows):  # a loss of zero that still has a graph
            graph = torch.cat(log_probs) if log_probs else next(p for p in model.parameters() if p.requires_grad).flatten()[:1]
            mean = self._mean_over_processes(every.new_zeros(()), every.new_zeros(()))
            return every + 0.0 * graph.sum(), mean.expand(mask.shape)
        entropies = torch.cat(entropies)
        mean = self._mean_over_processes(entropies.detach().sum(), mask[rows].sum())
        return every.index_copy(0, rows, torch.cat(log_probs)), mean.expand(mask.shape).index_copy(0, rows, entropies)

    def _mean_over_processes(self, total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """`total / count`, each summed over all processes first; 0 where there is nothing to count."""
        total, count = self.accelerator.reduce(torch.stack([total.float(), count.float()]), reduction="sum")
        return total / count.clamp(min=1)

    def _features_serve(self, model) -> bool:
        """Whether the features that the vision tower gave for sampling are what `model` would compute, gradients aside."""
        if self._vision_is_frozen:
            return True
        return model is self.model and not torch.is_grad_enabled() and not hasattr(model, "peft_config")

    # ---- update --------------------------------------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch):
        whole = self.args.keep_groups_together and self.num_generations > 1 and self.model.training
        if not whole:
            return super()._prepare_inputs(generation_batch)
        if self._step % (self.args.steps_per_generation * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = micro_batches(batch, self.args.steps_per_generation, self.num_generations)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _compute_loss(self, model, inputs):
        self._loss_inputs, self._groups = inputs, inputs.get("groups")
        if self.args.skip_zero_advantage:
            advantages = inputs["advantages"]
            moving = advantages != 0 if advantages.dim() == 1 else (advantages != 0).any(1)
            self._moving_rows = moving.nonzero()[:, 0]
            share = self._mean_over_processes((~moving).sum(), moving.new_full((), len(moving), dtype=torch.float32))
            self._metrics["train" if self.model.training else "eval"]["skipped_rows"].append(share.item())
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self._loss_inputs = self._groups = self._moving_rows = None


class _ProcessedOnce:
    """The processor while a rollout batch is made: TRL's second pass over texts and images gets what the first one gave."""

    def __init__(self, trainer: SharedPrefixTrainer):
        self._processor = trainer.processing_class
        self._packs = trainer._shares_log_probs
        self.fields: dict | None = None

    def __getattr__(self, name):
        return getattr(self._processor, name)

    def __call__(self, *args, **kwargs):
        if self.fields is None:
            return self._processor(*args, **kwargs)
        if self._packs:  # the pixels lie with the prompts
            return {"pixel_values": torch.empty(0, 0)}
        kinds = [torch.as_tensor(row) for row in self.fields["mm_token_type_ids"]]
        return self.fields | {"mm_token_type_ids": pad(kinds, padding_value=0, padding_side="left")}


def micro_batches(batch: dict, count: int, group: int) -> list[dict]:
    """A rollout batch in `count` micro-batches: groups in random order, none cut unless it lies across a border.

    Args:
        batch: The rollout batch, rows of a group side by side.
        count: Number of micro-batches, of equal size.
        group: Rows per group.
    """
    groups = batch.get("groups")
    batch = split_pixel_values_by_grid({key: value for key, value in batch.items() if key != "groups"})
    rows = len(batch["completion_ids"])
    order = [row for g in torch.randperm(-(-rows // group)).tolist() for row in range(g * group, min((g + 1) * group, rows))]
    size, result = rows // count, []
    for start in range(0, size * count, size):
        part = order[start : start + size]
        micro = unsplit_pixel_values_by_grid({key: _select(value, part) for key, value in batch.items()})
        if groups is not None:
            micro["groups"] = Groups(groups.prompts, [groups.prompt_of_row[row] for row in part])
        result.append(micro)
    return result


def _count_rows_of_tiles(fields: dict):
    """Families that give a mask of pixels (SmolVLM) pad the tiles to one entry per row; TRL believes in one per image where
    there are as many images as rows, though some rows have two and others none."""
    if "pixel_attention_mask" in fields and "spatial_shapes" not in fields:
        fields["num_images"] = [1] * len(fields["pixel_values"])


def _select(value, rows: list[int]):
    if isinstance(value, list):
        return [value[row] for row in rows]
    return value if value is None or value.dim() == 0 else value[rows]


def _same(prompt: list[dict], other: list[dict]) -> bool:
    """Whether two conversations are the same, images included."""
    return len(prompt) == len(other) and all(
        a.keys() == b.keys() and all(_same_value(a[key], b[key]) for key in a) for a, b in zip(prompt, other, strict=True)
    )


def _same_value(value, other) -> bool:
    if isinstance(value, list) and isinstance(other, list):
        return _same(value, other)
    return value is other or value == other
