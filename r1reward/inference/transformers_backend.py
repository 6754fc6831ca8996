"""A reward model of transformers in this process: each prompt and image is encoded once for all its completions."""

from contextlib import contextmanager

import torch

from r1reward.data.images import DEFAULT_LIMITS, ImageLimits, open_image
from r1reward.data.rows import Row
from r1reward.inference.backend import Completion, Sampling
from r1reward.inference.sampled_log_probs import SampledLogProbs
from r1reward.models.forward import base_model
from r1reward.models.image_check import TOKENS, check, image_tokens, is_half, plain_log_probs
from r1reward.rewards.written import opening
from r1reward.shared_prefix.generation import generate
from r1reward.shared_prefix.prompts import encode_images, make_prompts
from r1reward.shared_prefix.register import enable, why_not


class TransformersBackend:
    """Any image-text-to-text model of transformers; families that `r1reward.shared_prefix` knows are several times faster.

    Args:
        model: The model.
        processor: Its processor, padding on the left.
        limits: Images beyond them are refused.
        autocast: Data type in which the model computes; null: that of its weights.
    """

    def __init__(self, model, processor, limits: ImageLimits = DEFAULT_LIMITS, autocast: torch.dtype | None = None):
        self.model = model
        self.limits = limits
        self.processor = processor
        self._autocast = autocast
        self._opening = opening(processor)
        self._encodes_once = why_not(model) is None
        if self._encodes_once:
            enable(model)

    def complete(self, rows: list[Row], votes: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """See `Backend`. The global random state is left as it was."""
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with self._evaluating(), torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            ids = self._generate(rows, votes, sampling)
        tokenizer = self.processor.tokenizer
        lengths = (ids != tokenizer.pad_token_id).sum(1).tolist()
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        drawn = [Completion(self._opening + text, length) for text, length in zip(texts, lengths, strict=True)]
        return [drawn[start : start + votes] for start in range(0, len(drawn), votes)]

    def check_images(self, row: Row):
        """See `Backend`: the log-probabilities of a short greedy completion against those of plain passes."""
        record = SampledLogProbs(temperature=1.0)
        with self._evaluating():
            (ids,) = self._generate([row], 1, Sampling(TOKENS), **record.arguments())
            images = [open_image(source, self.limits) for source in row.images]
            never = image_tokens(self.model.config)
            expected = plain_log_probs(self.model, self.processor, row.messages(), images, ids, suppressed=never)
        (found,) = record.of_rows([ids.tolist()])
        half = is_half(self.model, self._autocast)
        check("the model that evaluates", torch.tensor(found), expected, half, sampler=True)

    @contextmanager
    def _evaluating(self):
        """Evaluation mode, without gradients, in the precision asked for; then as it was."""
        was_training, device = self.model.training, self.model.device.type
        self.model.eval()
        try:
            with torch.inference_mode(), torch.autocast(device, self._autocast, enabled=self._autocast is not None):
                yield
        finally:
            self.model.train(was_training)

    def _generate(self, rows: list[Row], votes: int, sampling: Sampling, **more) -> torch.Tensor:
        """Tokens (rows x votes, T), those of a row side by side; `more` goes to `generate`."""
        texts = [self.processor.apply_chat_template(row.messages(), tokenize=False, add_generation_prompt=True) for row in rows]
        decoded = {source: open_image(source, self.limits) for row in rows for source in row.images}
        images = [[decoded[source] for source in row.images] for row in rows]
        inputs = self.processor(text=texts, images=images if decoded else None, padding=True, return_tensors="pt").to(
            self.model.device
        )
        options = self._options(sampling) | more
        if not self._encodes_once:
            return self.model.generate(**inputs, **options, num_return_sequences=votes)[:, inputs["input_ids"].shape[1] :]
        ids = [row[kept].tolist() for row, kept in zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True)]
        backbone = base_model(self.model).base_model
        counts = [len(row.images) for row in rows]
        prompts = make_prompts(backbone, ids, inputs.get("pixel_values"), inputs.get("image_grid_thw"), counts)
        # Both orders of a pair lie side by side here: their images pass through the vision tower once.
        first = {}
        for row, prompt in zip(rows, prompts, strict=True):
            first.setdefault(row.images, prompt)
        encode_images(backbone, list(first.values()))
        for row, prompt in zip(rows, prompts, strict=True):
            prompt.features = first[row.images].features
        return generate(self.model, prompts, [n for n in range(len(rows)) for _ in range(votes)], **options)

    def _options(self, sampling: Sampling) -> dict:
        """For `generate`; hub checkpoints bring sampling habits of their own, so every one of them is set."""
        drawn = sampling.temperature > 0
        return {
            "max_new_tokens": sampling.max_new_tokens,
            "do_sample": drawn,
            "num_beams": 1,
            "repetition_penalty": 1.0,
            "temperature": sampling.temperature if drawn else None,
            "top_p": sampling.top_p if drawn else None,
            "top_k": sampling.top_k if drawn else None,
            "pad_token_id": self.processor.tokenizer.pad_token_id,
            "suppress_tokens": image_tokens(self.model.config) or None,  # an image has no place in a completion
        }
