"""SmolVLM (arXiv 2504.05299) and Idefics3 (arXiv 2408.12637).

The longer side of every image is brought to one length, then the image is stretched over a grid of square tiles; the whole
image is one tile more.
"""

from math import isqrt

from r1reward.models.families import Family


def limits(image_processor, least: int | None, most: int | None) -> dict:
    """The length of the longer side in tiles, so that a square image keeps to the limit."""
    if least is not None:
        raise ValueError("images have no smallest size: the longer side of all has one length; set model.max_pixels alone")
    if not (image_processor.do_image_splitting and image_processor.do_resize):
        raise ValueError("the processor's own settings show every image as one tile, of one size")
    tile = image_processor.max_image_size["longest_edge"]
    if most < tile**2:
        raise ValueError(f"the smallest image has {tile**2} pixels, one tile")
    return {"size": {"longest_edge": isqrt(most // tile**2) * tile}}


FAMILY = Family(
    model_types=("smolvlm", "idefics3"),
    vision=("vision_model",),
    projector=("connector",),
    source=(
        "huggingface.co/blog/smol2operator: SmolVLM has no grounding before fine-tuning, for which `unit` worked best; "
        "for Idefics3 no published convention was found"
    ),
    limits=limits,
)
