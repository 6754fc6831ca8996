"""A prompt as the model sees it: tokens without padding, M-RoPE positions, images.

Shapes: P prompt tokens, I images of a prompt, A image patches before merging.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

from r1reward.models.forward import names_argument

FEATURES = "mm_encoder_outputs"  # the argument by which a forward pass takes image features in the place of pixels


@dataclass
class ImageFeatures(ModelOutput):
    """Features of several images as a model of transformers reads them from its vision tower: a list of (tokens, D) each."""

    pooler_output: list[torch.Tensor] | None = None
    deepstack_features: list[list[torch.Tensor]] | None = None


@dataclass
class Prompt:
    """One prompt, made once and used for sampling, old policy, reference and update.

    Attributes:
        ids: (P,) tokens; the last one is text.
        positions: (3, P) M-RoPE positions (time, height, width), in tokens.
        pixels: (A, patch values) what the image processor made of its images, or None.
        grid: (I, 3) patches of each image in time, height and width, or None.
        features: What the vision tower made of `pixels`, where that may be used instead (see `encode_images`): the fields of
            its output, one entry per image (`deepstack_features`: per layer and image).
    """

    ids: torch.Tensor
    positions: torch.Tensor
    pixels: torch.Tensor | None = None
    grid: torch.Tensor | None = None
    features: dict[str, list] | None = None


def make_prompts(backbone, ids: Sequence[Sequence[int]], pixels, grids, images_per_prompt: Sequence[int]) -> list[Prompt]:
    """Prompts from what a Qwen-VL processor returns for them.

    Args:
        backbone: The model without its head; it knows the positions (`get_rope_index`).
        ids: Tokens of each prompt, without padding.
        pixels: (patches of all images, patch values), or None where no prompt has an image.
        grids: (all images, 3), or None.
        images_per_prompt: Number of images of each prompt, in order.

    Raises:
        ValueError: For a prompt of fewer than two tokens or one that ends with an image.
    """
    device = next(backbone.parameters()).device
    image_token = backbone.config.image_token_id
    prompts, image, patch = [], 0, 0
    for tokens, count in zip(ids, images_per_prompt, strict=True):
        if len(tokens) < 2 or tokens[-1] == image_token:
            raise ValueError("a prompt needs at least two tokens, and text after its last image")
        tokens = torch.as_tensor(tokens, device=device)
        if not count:
            positions = torch.arange(len(tokens), device=device).expand(3, -1)
            prompts.append(Prompt(tokens, positions))
            continue
        grid = grids[image : image + count].to(device)
        patches = int(grid.prod(-1).sum())
        positions, _ = backbone.get_rope_index(
            tokens[None], image_grid_thw=grid, mm_token_type_ids=(tokens == image_token).int()[None]
        )
        prompts.append(Prompt(tokens, positions[:, 0], pixels[patch : patch + patches].to(device), grid))
        image, patch = image + count, patch + patches
    return prompts


@torch.no_grad()
def encode_images(backbone, prompts: Sequence[Prompt]):
    """Run the vision tower once over the images of all prompts and keep the features with them.

    The features carry no gradient: they serve for sampling and the old policy, and for reference and update where the tower is
    frozen. A model whose forward pass does not take features (transformers before 5.18) gets none, and its pixels serve.
    """
    with_images = [prompt for prompt in prompts if prompt.grid is not None]
    if not with_images or not names_argument(backbone, FEATURES):
        return
    pixels, grids = torch.cat([p.pixels for p in with_images]), torch.cat([p.grid for p in with_images])
    output = backbone.get_image_features(pixels, grids, return_dict=True)
    image = 0
    for prompt in with_images:
        part = slice(image, image + len(prompt.grid))
        prompt.features = {"pooler_output": list(output.pooler_output[part])}
        if hasattr(output, "deepstack_features"):
            prompt.features["deepstack_features"] = [list(layer[part]) for layer in output.deepstack_features]
        image = part.stop


def image_arguments(prompts: Sequence[Prompt], use_features: bool) -> dict:
    """The images of several prompts as arguments of the model: their features where they are there and wanted, else pixels."""
    with_images = [prompt for prompt in prompts if prompt.grid is not None]
    if not with_images:
        return {}
    features = [prompt.features for prompt in with_images]
    if not use_features or any(x is None for x in features):
        return {
            "pixel_values": torch.cat([p.pixels for p in with_images]),
            "image_grid_thw": torch.cat([p.grid for p in with_images]),
        }
    fields = {"pooler_output": [image for x in features for image in x["pooler_output"]]}
    if "deepstack_features" in features[0]:
        layers = zip(*(x["deepstack_features"] for x in features), strict=True)
        fields["deepstack_features"] = [[image for part in layer for image in part] for layer in layers]
    return {FEATURES: {"image": ImageFeatures(**fields)}}
