"""Whether a path through the model sees the images: measured against one plain forward pass of the model itself.

A completion's log-probabilities are computed three ways: by the path in question (a sampler, a packed pass, an engine), by one
plain call of the model with the row's own images, and by one with the same images in inverted colours. A path that sees agrees
with the second; a model that sees differs between the second and the third. The plain call shares nothing with the paths but
the model and its processor.

Shapes: P prompt tokens, T completion tokens. Log-probabilities are in nats, at the sampling temperature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps

from r1reward.models.forward import swallowed

TOKENS = 64  # of a completion, at most: enough to say what is seen, and little to compute
# Mean absolute difference in nats per token that precision alone explains.
ROUNDING = 1e-2
ROUNDING_HALF = 1e-1


class ImagesNotSeen(RuntimeError):
    """A path through the model does not see the images that it was given, or sees others."""


@dataclass(frozen=True)
class Plain:
    """Log-probabilities (T,) of one completion by plain calls of the model.

    Attributes:
        own: With the row's images.
        changed: With the same images in inverted colours; None for a row without images.
        sampled: As `own`, under a sampler that never draws an image token.
    """

    own: torch.Tensor
    changed: torch.Tensor | None
    sampled: torch.Tensor


def plain(
    model,
    processor,
    messages: list[dict],
    images: Sequence[Image.Image],
    completion,
    temperature: float = 1.0,
    never=(),
    template: Mapping | None = None,
) -> Plain:
    """One row by itself: no padding, no packing, no cache, no features from elsewhere.

    Args:
        model: Called as it is, with pixels.
        processor: Its processor.
        messages: The prompt, content in parts, one `image` part for each image.
        images: Of the prompt, in order.
        completion: (T,) tokens; `TOKENS` of them count.
        temperature: Divides the logits.
        never: Tokens that the sampler does not draw.
        template: Arguments of the chat template, such as `enable_thinking`.

    Raises:
        ImagesNotSeen: The model's forward pass does not know something that its processor hands it; or what it says does not
            depend on the images.
    """
    completion = torch.as_tensor(completion, device=model.device)[:TOKENS]
    template = template or {}
    logits = _logits(model, processor, messages, images, completion, template) / temperature
    own = _of_tokens(logits, completion)
    logits[:, list(never)] = -torch.inf
    sampled = _of_tokens(logits, completion)
    if not images:
        return Plain(own, None, sampled)
    others = _logits(model, processor, messages, inverted(images), completion, template)
    changed = _of_tokens(others / temperature, completion)
    if torch.equal(own, changed):
        raise ImagesNotSeen(
            f"{type(_unwrapped(model)).__name__} gives a completion the same log-probabilities whatever its images show: the "
            "processor or the model drops them. Check the versions of transformers and of the checkpoint."
        )
    return Plain(own, changed, sampled)


def check(path: str, found: torch.Tensor, expected: Plain, half_precision: bool = False, sampler: bool = False):
    """See that a path's log-probabilities are those of the plain model with the row's own images.

    Args:
        path: Its name, for the message.
        found: (T,) or longer, the path's log-probabilities of the same completion; NaN where it gave none.
        expected: Of the plain model.
        sampler: Whether the path drew the completion.
        half_precision: Whether one of the two computes with 16 bits. Then a quarter of what other images change is tolerated
            beside rounding.

    Raises:
        ImagesNotSeen: They are further away than precision explains.
    """
    own = expected.sampled if sampler else expected.own
    gap = (found[: len(own)].to(own) - own).abs().nanmean().item()
    effect = 0.0 if expected.changed is None else (expected.changed - expected.own).abs().mean().item()
    bound = max(ROUNDING_HALF, effect / 4) if half_precision else ROUNDING
    if gap <= bound:
        return
    raise ImagesNotSeen(
        f"{path}: the log-probabilities of a completion are {gap:.2g} nats per token from those of the plain model with the "
        f"same images (bound: {bound:.2g}; other images change them by {effect:.2g}), so it does not see these images, or not "
        "as they are. Check the versions of transformers, trl and vllm against the project's lock."
    )


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
    if dropped := swallowed(_unwrapped(model), inputs):
        raise ImagesNotSeen(
            f"the forward pass of {type(_unwrapped(model)).__name__} does not know {', '.join(dropped)}, which its processor "
            "hands it, and would drop it without a word. Check the version of transformers against the checkpoint."
        )
    inputs["input_ids"] = torch.cat([inputs["input_ids"], completion[None]], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    for kind in {"mm_token_type_ids", "token_type_ids"} & inputs.keys():
        inputs[kind] = torch.nn.functional.pad(inputs[kind], (0, len(completion)))
    return model(**inputs, use_cache=False, logits_to_keep=len(completion) + 1).logits[0, :-1].float()


def _of_tokens(logits: torch.Tensor, completion: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (T,) of a completion (T,) by logits (T, V)."""
    return logits.log_softmax(-1).gather(-1, completion[:, None])[:, 0]


def _unwrapped(model):
    """The model of transformers inside wrappers for several processes and for adapters."""
    while not hasattr(model, "base_model_prefix") and hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model
