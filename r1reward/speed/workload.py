"""What is measured: models of the real classes with random weights, and prompts of a given length.

Shapes: P prompt tokens (image included), R completion tokens, G completions per prompt.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from r1reward.models.tiny import build_processor, tokenizer_corpus

CELL = 28  # pixels of a visual token's side
WORDS = ("the", "left", "picture", "shows", "a", "small", "red", "cube", "beside", "two", "green", "balls", "and", "counts")


@dataclass(frozen=True)
class Shape:
    """Sizes of one measurement.

    Attributes:
        prompt: P, tokens of a prompt; two fifths of them are the image's.
        completion: R, tokens of a completion; all completions have this length.
        generations: G.
        prompts: Prompts in a rollout batch.
    """

    prompt: int
    completion: int
    generations: int
    prompts: int = 2

    @property
    def side(self) -> int:
        """Side of the square image in visual tokens."""
        return round((0.4 * self.prompt) ** 0.5)

    def __str__(self) -> str:
        return f"P{self.prompt}-R{self.completion}-G{self.generations}"


LANGUAGE = {
    # hidden size, feed-forward size, layers, heads, key/value heads, vocabulary (None: the tokenizer's), tied
    "small": (256, 768, 6, 8, 8, None, True),
    "3b": (2048, 11008, 36, 16, 2, 151936, True),
    "7b": (3584, 18944, 28, 28, 4, 152064, False),
}
VISION = {  # hidden size, feed-forward size, depth, heads, blocks with full attention
    "small": (128, 384, 7, 4, range(7)),
    "3b": (1280, 3420, 32, 16, (7, 15, 23, 31)),
    "7b": (1280, 3420, 32, 16, (7, 15, 23, 31)),
}


def processor():
    """A processor of the real class, its tokenizer learnt from the shapes world, without a limit on the image's size."""
    result = build_processor(tokenizer_corpus(num_rows=200))
    result.image_processor.size = {"shortest_edge": CELL**2, "longest_edge": 4096 * CELL**2}
    return result


def model(size: str, processor, device: str, dtype: torch.dtype) -> Qwen2_5_VLForConditionalGeneration:
    """A Qwen2.5-VL with random weights: `small` (7.3 million parameters) or of the shape of the 3B or 7B model."""
    hidden, feed_forward, layers, heads, kv_heads, vocabulary, tied = LANGUAGE[size]
    vision_hidden, vision_feed_forward, depth, vision_heads, full = VISION[size]
    tokenizer, head = processor.tokenizer, hidden // heads
    token = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": vocabulary or len(tokenizer),
            "hidden_size": hidden,
            "intermediate_size": feed_forward,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "max_position_embeddings": 32768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [head // 8, 3 * head // 16, 3 * head // 16],
            },
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "initializer_range": 0.02 if hidden > 1000 else 0.06,
            "tie_word_embeddings": tied,
        },
        vision_config={
            "hidden_size": vision_hidden,
            "intermediate_size": vision_feed_forward,
            "depth": depth,
            "num_heads": vision_heads,
            "fullatt_block_indexes": list(full),
            "out_hidden_size": hidden,
            "window_size": 112,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    with torch.device(device):
        result = Qwen2_5_VLForConditionalGeneration(config).to(dtype)
    result.generation_config.eos_token_id = tokenizer.eos_token_id
    result.generation_config.pad_token_id = tokenizer.pad_token_id
    return result


def prompts(shape: Shape, processor, folder: Path, count: int, seed: int = 0) -> list[dict]:
    """Training rows with one image file each and a text that fills the prompt to exactly P tokens."""
    rng, words = np.random.default_rng(seed), random.Random(seed)
    rows = []
    for index in range(count):
        path = folder / f"{shape}-{seed}-{index}.png"
        pixels = rng.integers(0, 255, (shape.side * 4, shape.side * 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((shape.side * CELL, shape.side * CELL)).save(path)
        text = _fill(shape.prompt - shape.side**2, processor, words)
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
        rows.append({"prompt": [message], "images": [{"path": str(path), "bytes": None}]})
    return rows


def _fill(tokens: int, processor, words: random.Random) -> str:
    """Words that bring a prompt with an image of one token to `tokens` + 1 tokens, template included."""

    def length(text: str) -> int:
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
        whole = processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        return len(processor.tokenizer(whole)["input_ids"]) - 1

    text = ""
    while length(text) < tokens:
        text += " " + words.choice(WORDS)
    while length(text) > tokens:
        text = text[:-1]
    while length(text) < tokens:
        text += "."
    return text
