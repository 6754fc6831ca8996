"""Tiny random models of the three families, prompts of random tokens and images, and the two ways to score completions.

`stock_*` is what transformers does without this package: every prompt and its images copied for each of its completions, padded
on the left. `shared_*` is the package.
"""

import random
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from transformers.models.qwen2_vl import modeling_qwen2_vl
from transformers.models.qwen3_vl import modeling_qwen3_vl

from r1reward.shared_prefix.packing import pack
from r1reward.shared_prefix.prompts import Prompt, make_prompts
from r1reward.shared_prefix.register import enable
from tests.quiet import one_thread

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
VOCABULARY = 400
PAD, END, VISION_START, VISION_END, IMAGE, VIDEO = 0, 2, 3, 4, 5, 6  # as the processor of `r1reward.models.tiny` has them
FIRST_TEXT = 7  # tokens from here on are text
PATCH, MERGE, WIDTH = 4, 2, 32
PATCH_VALUES = 3 * 2 * PATCH * PATCH

CLASSES = {
    "qwen2_vl": (Qwen2VLConfig, Qwen2VLForConditionalGeneration),
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration),
}
# Qwen2-VL has a key head for each query head here; of the others two query heads share one. Qwen3-VL's heads are wider.
TEXT = {
    "qwen2_vl": {"num_key_value_heads": 4, "rope_parameters": {"rope_theta": 50.0, "mrope_section": [2, 1, 1]}},
    "qwen2_5_vl": {"num_key_value_heads": 2, "rope_parameters": {"rope_theta": 50.0, "mrope_section": [2, 1, 1]}},
    "qwen3_vl": {
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rope_parameters": {"rope_theta": 50.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True},
    },
}
VISION = {
    "qwen2_vl": {"embed_dim": 16, "hidden_size": WIDTH, "mlp_ratio": 2},
    # The first block attends within windows of 2 x 2 visual tokens.
    "qwen2_5_vl": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "out_hidden_size": WIDTH,
        "window_size": 2 * MERGE * PATCH,
        "fullatt_block_indexes": [1],
    },
    "qwen3_vl": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    },
}


_one_thread = pytest.fixture(scope="package", autouse=True)(one_thread)


def tiny_config(family: str, **text):
    """The configuration of a tiny model; `text` are settings of its language model."""
    config_class, _ = CLASSES[family]
    rope = {"rope_type": "default", **TEXT[family]["rope_parameters"]}
    return config_class(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 3,  # the last of two deepstack layers has one after it
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "bos_token_id": None,
            "eos_token_id": END,
            "pad_token_id": PAD,
            **TEXT[family],
            "rope_parameters": rope,
            **text,
        },
        vision_config={
            "num_heads": 2,
            "depth": 2,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            **VISION[family],
        },
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=family == "qwen2_5_vl",
    )


def build(family: str, seed: int = 0, dtype: torch.dtype = torch.float32, **text):
    """A tiny model all of whose parameters, biases and norms too, are random."""
    torch.manual_seed(seed)
    model = CLASSES[family][1](tiny_config(family, **text))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            start = 1.0 if "norm" in name and name.endswith("weight") or "ln_q.weight" in name else 0.0
            scale = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.normal_(start, 0.25 if "embed_tokens" in name else scale)
    model.generation_config.eos_token_id = END
    model.generation_config.pad_token_id = PAD
    return model.to(dtype).eval()


def enabled(family: str, seed: int = 0, dtype: torch.dtype = torch.float32, **text):
    """The same model as `build` gives, with `enable` called for it."""
    model = build(family, seed, dtype, **text)
    enable(model)
    return model


@cache
def both(family: str, dtype: torch.dtype = torch.float32) -> tuple:
    """A model as it comes and the same one with `enable` called for it; to be left as they are."""
    return build(family, 0, dtype), enabled(family, 0, dtype)


@dataclass(frozen=True)
class Case:
    """Prompts and completions.

    Attributes:
        prompts: The distinct prompts.
        owner: Which prompt each completion answers.
        completions: (B, T) tokens, padded on the right.
        mask: (B, T) 1 at real tokens.
    """

    prompts: list[Prompt]
    owner: list[int]
    completions: torch.Tensor
    mask: torch.Tensor


def random_prompts(model, shapes, seed: int = 0) -> list[Prompt]:
    """Prompts of random text and images.

    Args:
        model: The model that they are for.
        shapes: For each prompt the number of text tokens before, between and after its images, and the images' (height, width)
            in visual tokens.
        seed: Of the tokens and pixels.
    """
    draw = torch.Generator().manual_seed(seed)
    ids, grids = [], []
    for texts, images in shapes:
        tokens = []
        for length, image in zip(texts, [*images, None], strict=True):
            tokens += torch.randint(FIRST_TEXT, VOCABULARY, (length,), generator=draw).tolist()
            if image is not None:
                tokens += [VISION_START, *[IMAGE] * (image[0] * image[1]), VISION_END]
                grids.append([1, MERGE * image[0], MERGE * image[1]])
        ids.append(tokens)
    grid = torch.tensor(grids) if grids else None
    pixels = torch.randn(int(grid.prod(-1).sum()), PATCH_VALUES, generator=draw) if grids else None
    counts = [len(images) for _, images in shapes]
    prompts = make_prompts(model.base_model, ids, pixels, grid, counts)
    return [p if p.pixels is None else replace(p, pixels=p.pixels.to(model.dtype)) for p in prompts]


def random_case(model, shapes, lengths, seed: int = 0, shuffle: bool = False) -> Case:
    """Prompts with random completions: `lengths` holds, for each prompt, the lengths of its completions."""
    prompts = random_prompts(model, shapes, seed)
    rows = [(n, length) for n, group in enumerate(lengths) for length in group]
    if shuffle:
        random.Random(seed).shuffle(rows)
    length = torch.tensor([length for _, length in rows])
    mask = (torch.arange(int(length.max())) < length[:, None]).long()
    draw = torch.Generator().manual_seed(seed + 1)
    completions = torch.randint(FIRST_TEXT, VOCABULARY, mask.shape, generator=draw) * mask + PAD * (1 - mask)
    return Case(prompts, [n for n, _ in rows], completions, mask)


def left_padded(prompts: list[Prompt], owner) -> dict:
    """What a processor would give for one full copy of its prompt per row."""
    rows = [prompts[n] for n in owner]
    width = max(len(prompt.ids) for prompt in rows)
    ids = torch.stack([torch.nn.functional.pad(p.ids, (width - len(p.ids), 0), value=PAD) for p in rows])
    mask = torch.stack([torch.nn.functional.pad(torch.ones_like(p.ids), (width - len(p.ids), 0)) for p in rows])
    inputs = {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": (ids == IMAGE).int()}
    if images := [p for p in rows if p.grid is not None]:
        inputs["pixel_values"] = torch.cat([p.pixels for p in images])
        inputs["image_grid_thw"] = torch.cat([p.grid for p in images])
    return inputs


def stock_logits(model, prompts: list[Prompt], owner, completions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Logits (B, T, V) from which the completions' tokens are drawn, by a plain call of the model."""
    inputs = left_padded(prompts, owner)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], completions], 1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], mask], 1)
    kinds = torch.zeros_like(completions, dtype=inputs["mm_token_type_ids"].dtype)  # text
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], kinds], 1)
    return model(**inputs, use_cache=False).logits[:, -completions.shape[1] - 1 : -1]


def stock_log_probs(model, case: Case) -> torch.Tensor:
    """Log-probabilities (B, T) of the completions, zero at padding, by a plain call of the model."""
    logits = stock_logits(model, case.prompts, case.owner, case.completions, case.mask)
    return chosen(logits, case.completions) * case.mask


def shared_log_probs(model, case: Case, use_features: bool = False) -> torch.Tensor:
    """The same, with each prompt encoded once."""
    packed = pack(case.prompts, case.owner, case.completions, case.mask, use_features)
    logits = model(**packed.arguments).logits
    assert logits.shape[1] == packed.labels.shape[1]
    return packed.spread(chosen(logits, packed.labels), case.completions.shape[1]) * case.mask


def chosen(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of tokens."""
    at_least_single = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(at_least_single).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]


def gradients(model, log_probs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of a sum of log-probabilities in which every token has a weight of its own; the model's are none afterwards."""
    weights = torch.arange(1.0, 1 + log_probs.numel()).sin().view_as(log_probs).to(log_probs)
    model.zero_grad()
    (log_probs * weights).sum().backward()
    result = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return result


def worst_difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest distance between the gradients of a parameter, relative to the expected one.

    None is zero but for rounding, not even that of a key bias: rotated by its position, it is not the same for all keys.
    """
    assert found.keys() == expected.keys()
    return float(torch.stack([(found[name] - x).norm() / x.norm() for name, x in expected.items()]).max())


@contextmanager
def double_throughout(family: str):
    """While it lasts, a float64 model computes in float64 from end to end.

    Models of transformers fall back to float32 in places whatever their data type. Three of them leave differences of 1e-7
    between packed rows and padded copies, and are replaced here, with the same formulas:

    - the norms, and the rotation of queries and keys in the vision tower: a gradient that passes through the cast is rounded,
      for each copy by itself or once for the whole group;
    - the cosines of the language model: padding on the left moves a text-only prompt to other positions, where the rounded
      angles do not have quite the same differences.
    """
    module = {"qwen2_vl": modeling_qwen2_vl, "qwen2_5_vl": modeling_qwen2_5_vl, "qwen3_vl": modeling_qwen3_vl}[family]

    def norm(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    def rotate(query, key, cos, sin):
        cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
        return tuple(x * cos + module.rotate_half(x) * sin for x in (query, key))

    def cosines(self, x, position_ids):
        angle = position_ids.expand(3, -1, -1)[..., None].double() * self.inv_freq.double()
        return tuple(self.recomposition_frequencies(f() * self.attention_scaling) for f in (angle.cos, angle.sin))

    prefix = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VLText"}[family]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(getattr(module, f"{prefix}RMSNorm"), "forward", norm)
        patch.setattr(module, "apply_rotary_pos_emb_vision", rotate)
        patch.setattr(getattr(module, f"{prefix}RotaryEmbedding"), "forward", cosines)
        yield
