"""Gemma 3 (arXiv 2503.19786)."""

from r1reward.models.families import Family, Size


def resize(image_processor, image_size: Size) -> Size:
    """Every image to one size. With pan and scan there are crops besides; the whole image is still the first."""
    return image_processor.size["width"], image_processor.size["height"]


def limits(image_processor, least: int | None, most: int | None) -> dict:
    """None can be set: the vision tower takes one size."""
    width, height = image_processor.size["width"], image_processor.size["height"]
    raise ValueError(f"every image is shown at {width} x {height} pixels, the one size of the vision tower; leave both null")


FAMILY = Family(
    model_types=("gemma3",),
    vision=("vision_tower",),
    projector=("multi_modal_projector",),
    source="huggingface.co/google/gemma-3-4b-it, discussion 38: not documented, perhaps as Gemini",
    resize=resize,
    limits=limits,
)
