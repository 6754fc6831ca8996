"""Whether a path through the model sees the images: measured against one plain forward pass of the model itself.

A completion's log-probabilities are computed three ways: by the path in question (a sampler, a packed pass, an engine), by one
plain call of the model with the row's own images, and by one with the same images in inverted colours. A path that sees agrees
with the second, and is nearer to it than to the third. The plain call shares nothing with the paths but the model and its
processor.

Shapes: P prompt tokens, T completion tokens. Log-probabilities are in nats, at the sampling temperature.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps

from r1reward.models.forward import base_model, swallowed

TOKENS = 64  # of a completion, at most: enough to say what is seen, and little to compute
# Mean absolute difference of one completion in nats per token that precision alone explains. Measured: 1e-7 to 1e-5 in float32,
# 1e-4 to 1e-3 where sampler or trainer computes with 16 bits; an order of magnitude is left for larger models.
ROUNDING = 1e-3
ROUNDING_HALF = 2e-2
HALF = (torch.bfloat16, torch.float16)


class ImagesNotSeen(RuntimeError):
    """A path through the model does not see the images that it was given, or sees others."""


@dataclass(frozen=True)
class PlainLogProbs:
    """Log-probabilities (T,) of one completion by plain calls of the model.

    Attributes:
        own: With the row's images.
        changed: With the same images in inverted colours; None for a row without images.
        sampled: As `own`, under a sampler that never draws an image token.
    """

    own: torch.Tensor
    changed: torch.Tensor | None
    sampled: torch.Tensor


def plain_log_probs(
    model,
    processor,
    messages: list[dict],
    images: Sequence[Image.Image],
    completion,
    temperature: float = 1.0,
    suppressed=(),
    template: Mapping | None = None,
) -> PlainLogProbs:
    """One row by itself: no padding, no packing, no cache, no features from elsewhere.

    Args:
        model: Called as it is, with pixels.
        processor: Its processor.
        messages: The prompt, content in parts, one `image` part for each image.
        images: Of the prompt, in order.
        completion: (T,) tokens; `TOKENS` of them count.
        temperature: Divides the logits.
        suppressed: Tokens that the sampler does not draw.
        template: Arguments of the chat template, such as `enable_thinking`.

    Raises:
        ImagesNotSeen: The model's forward pass does not know something that its processor hands it; or what it says does not
            depend on the images.
    """
    completion = torch.as_tensor(completion, device=model.device)[:TOKENS]
    template = template or {}
    logits = _logits(model, processor, messages, images, completion, template) / temperature
    own = _of_tokens(logits, completion)
    logits[:, list(suppressed)] = -torch.inf
    sampled = _of_tokens(logits, completion)
    # For a row without images as well: with sharded weights, all processes make the same number of passes.
    others = _logits(model, processor, messages, inverted(images), completion, template)
    if not images:
        return PlainLogProbs(own, None, sampled)
    changed = _of_tokens(others / temperature, completion)
    if torch.equal(own, changed):
        raise ImagesNotSeen(
            f"{type(base_model(_unwrapped(model))).__name__} gives a completion the same log-probabilities whatever its images "
            "show: the processor or the model drops them. Check the versions of transformers and of the checkpoint."
        )
    return PlainLogProbs(own, changed, sampled)


def check(path: str, found: torch.Tensor, expected: PlainLogProbs, half_precision: bool = False, sampler: bool = False) -> bool:
    """See that a path's log-probabilities are those of the plain model with the row's own images.

    Args:
        path: Its name, for the message.
        found: (T,) or longer, the path's log-probabilities of the same completion; NaN where it gave none.
        expected: Of the plain model.
        half_precision: Whether one of the two computes with 16 bits. Then a quarter of what other images change is tolerated
            beside rounding.
        sampler: Whether the path drew the completion.

    Returns:
        Whether this row tells: it has images, others would have changed it by more than rounding does, and there was something
        to compare.

    Raises:
        ImagesNotSeen: They are further away than precision explains, or nearer to those with other images.
    """
    own = expected.sampled if sampler else expected.own
    found = found[: len(own)].to(own)
    gap = (found - own).abs().nanmean().item()
    if math.isnan(gap):  # no log-probabilities to compare, or the model's output is not finite
        return False
    rounding = ROUNDING_HALF if half_precision else ROUNDING
    effect = other_gap = math.inf
    if expected.changed is not None:
        effect = (expected.changed - expected.own).abs().mean().item()
        other_gap = (found - expected.changed).abs().nanmean().item()
    bound = max(rounding, effect / 4) if half_precision and effect < math.inf else rounding
    if gap <= bound and gap <= 2 * other_gap:
        return rounding < effect < math.inf
    others = "" if expected.changed is None else f", {other_gap:.2g} with other images, which change them by {effect:.2g}"
    raise ImagesNotSeen(
        f"{path}: the log-probabilities of a completion are {gap:.2g} nats per token from those of the plain model with the "
        f"same prompt and images (bound: {bound:.2g}{others}): it does not see these, or not as they are. Check the versions "
        "of transformers, trl and vllm against the project's lock."
    )


def is_half(model, autocast: torch.dtype | None = None) -> bool:
    """Whether a model computes with 16 bits: its weights have them, or autocast says so."""
    return autocast in HALF or model.dtype in HALF


def inverted(images: Sequence[Image.Image]) -> list[Image.Image]:
    """The images in inverted colours: others of the same size."""
    return [ImageOps.invert(image.convert("RGB")) for image in images]


def processed(processor, messages: list[dict], images: Sequence[Image.Image], **template) -> dict:
    """What a processor makes of one prompt and its images: tensors with one row."""
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **template)
    return dict(processor(text=[text], images=[list(images)] if images else None, return_tensors="pt"))


def image_tokens(config) -> list[int]:
    """Ids of the tokens that stand for images and videos in a model's prompts."""
    ids = (getattr(config, f"{kind}_token_id", None) for kind in ("image", "video"))
    return [token for token in ids if token is not None]


@torch.no_grad()
def _logits(model, processor, messages, images, completion, template) -> torch.Tensor:
    """Logits (T, V), float32, from which each token of the completion (T,) would be drawn."""
    inputs = {name: value.to(model.device) for name, value in processed(processor, messages, images, **template).items()}
    policy = base_model(_unwrapped(model))
    if dropped := swallowed(policy, inputs):
        raise ImagesNotSeen(
            f"the forward pass of {type(policy).__name__} does not know {', '.join(dropped)}, which its processor "
            "hands it, and would drop it without a word. Check the version of transformers against the checkpoint."
        )
    inputs["input_ids"] = torch.cat([inputs["input_ids"], completion[None]], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    for kind in {"mm_token_type_ids", "token_type_ids"} & inputs.keys():
        inputs[kind] = torch.nn.functional.pad(inputs[kind], (0, len(completion)))
    # Some families know no `logits_to_keep`, and give all of them.
    logits = model(**inputs, use_cache=False, logits_to_keep=len(completion) + 1).logits
    return logits[0, -len(completion) - 1 : -1].float()


def _of_tokens(logits: torch.Tensor, completion: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (T,) of a completion (T,) by logits (T, V)."""
    return logits.log_softmax(-1).gather(-1, completion[:, None])[:, 0]


def _unwrapped(model):
    """The model inside wrappers for several processes."""
    while not hasattr(model, "base_model_prefix") and hasattr(model, "module"):
        model = model.module
    return model
