"""LLaVA-OneVision (arXiv 2408.03326): an image is fitted into one of a list of sizes and cut into tiles."""

from r1reward.models.families import Family


def limits(image_processor, least: int | None, most: int | None) -> dict:
    """None can be set: the model counts the tiles by its own copy of the list."""
    raise ValueError(
        "the sizes of images are a list that the model has too; leave both null, or take a copy of the model's folder and "
        "shorten image_grid_pinpoints there, in config.json and in the processor's configuration alike"
    )


FAMILY = Family(
    model_types=("llava_onevision",),
    vision=("vision_tower",),
    projector=("multi_modal_projector", "image_newline"),
    source="asked and not answered in github.com/EvolvingLMMs-Lab/LLaVA-OneVision-2 issues 39 and 63",
    limits=limits,
)
