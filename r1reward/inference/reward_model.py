"""The reward model at work: it judges rows and returns parsed verdicts."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from r1reward.data.images import open_image
from r1reward.data.rows import PreferenceRow
from r1reward.rewards.verdict import Verdict, parse
from r1reward.shared_prefix.generation import generate
from r1reward.shared_prefix.prompts import encode_images, make_prompts
from r1reward.shared_prefix.register import base_model, enable, why_not


@dataclass(frozen=True)
class Judgement:
    """One verdict on one row in one order of its responses.

    Attributes:
        text: What the reward model wrote.
        verdict: The parsed text.
        tokens: Its length in tokens, the end token included.
    """

    text: str
    verdict: Verdict
    tokens: int


class RewardModel:
    """A vision-language model that compares two responses.

    Args:
        model: Any image-text-to-text model of transformers.
        processor: Its processor, padding on the left.
        pattern: How a verdict is parsed, `strict` or `released` (`r1reward.rewards.verdict`).
    """

    def __init__(self, model, processor, pattern: str = "strict"):
        self.model = model
        self.processor = processor
        self.pattern = pattern
        self._encodes_once = why_not(model) is None
        if self._encodes_once:
            enable(model)

    @torch.inference_mode()
    def judge(
        self,
        rows: list[PreferenceRow],
        batch_size: int = 64,
        max_new_tokens: int = 1024,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> list[Judgement]:
        """Judge each row once, greedily, with the responses in the order that the row gives.

        Args:
            rows: The rows.
            batch_size: Rows per generated batch; rows are sorted by length first, so that little is padded.
            max_new_tokens: Longest completion in tokens.
            on_progress: Called with the number of rows just judged.

        Returns:
            One judgement per row, in the order of `rows`.
        """
        was_training = self.model.training
        self.model.eval()
        judgements: list[Judgement | None] = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].text()))
        try:
            for start in range(0, len(order), batch_size):
                indices = order[start : start + batch_size]
                for index, judgement in zip(indices, self._generate([rows[i] for i in indices], max_new_tokens), strict=True):
                    judgements[index] = judgement
                on_progress(len(indices))
        finally:
            self.model.train(was_training)
        return judgements

    def _generate(self, rows: list[PreferenceRow], max_new_tokens: int) -> list[Judgement]:
        texts = [self.processor.apply_chat_template(row.messages(), tokenize=False, add_generation_prompt=True) for row in rows]
        decoded = {source: open_image(source) for row in rows for source in row.images}
        images = [[decoded[source] for source in row.images] for row in rows]
        inputs = self.processor(text=texts, images=images if decoded else None, padding=True, return_tensors="pt").to(
            self.model.device
        )
        tokenizer = self.processor.tokenizer
        suppressed = getattr(self.model.config, "image_token_id", None)
        options = {
            "max_new_tokens": max_new_tokens,
            "do_sample": False,
            "num_beams": 1,
            "repetition_penalty": 1.0,  # hub checkpoints bring sampling habits of their own; greedy means greedy
            "temperature": None,
            "top_p": None,
            "top_k": None,
            "pad_token_id": tokenizer.pad_token_id,
            "suppress_tokens": None if suppressed is None else [suppressed],
        }
        if self._encodes_once:
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
            completions = generate(self.model, prompts, range(len(rows)), **options)
        else:
            completions = self.model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
        lengths = (completions != tokenizer.pad_token_id).sum(1).tolist()
        texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
        return [Judgement(text, parse(text, self.pattern), length) for text, length in zip(texts, lengths, strict=True)]
