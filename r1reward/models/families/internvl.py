"""InternVL 2.5 to 3.5: `internvl` are the checkpoints that transformers loads itself (`-HF`), `internvl_chat` those that bring
code, of which only the coordinates are known here.

An image is stretched over a grid of tiles of one size, and the whole image is one tile more.
"""

from math import ceil

from r1reward.models.families import Family


def limits(image_processor, least: int | None, most: int | None) -> dict:
    """The number of tiles in the grid; the tile with the whole image does not count."""
    tile = image_processor.size["height"] * image_processor.size["width"]
    tiles = {
        "min_patches": image_processor.min_patches if least is None else ceil(least / tile),
        "max_patches": image_processor.max_patches if most is None else most // tile,
    }
    if not tiles["max_patches"]:
        raise ValueError(f"the smallest image has {tile} pixels, one tile")
    if tiles["min_patches"] > tiles["max_patches"]:
        raise ValueError(
            f"an image has between {tiles['min_patches']} and {tiles['max_patches']} tiles of {tile} pixels, which is none"
        )
    return tiles


FAMILY = Family(
    model_types=("internvl", "internvl_chat"),
    vision=("vision_tower",),
    projector=("multi_modal_projector",),
    source=(
        "internvl.readthedocs.io, chat data format, grounding: round(x / width * 1000); its RefCOCO evaluation divides by 1000"
    ),
    space="thousand",
    limits=limits,
)
