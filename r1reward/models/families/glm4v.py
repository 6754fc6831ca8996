"""GLM-4.1V, GLM-4.5V and GLM-4.6V (arXiv 2507.01006). The vision tower ends in a convolution that brings its features to the
width of the language model."""

from r1reward.models.families import Family, Size
from r1reward.models.families.qwen2_vl import limits as limits_of_frames


def resize(image_processor, image_size: Size) -> Size:
    """As Qwen's, but the limits count a still image as `temporal_patch_size` frames."""
    from transformers.models.glm4v.image_processing_glm4v import smart_resize

    width, height = image_size
    frames, factor = image_processor.temporal_patch_size, image_processor.patch_size * image_processor.merge_size
    least, most = image_processor.size["shortest_edge"], image_processor.size["longest_edge"]
    height, width = smart_resize(frames, height, width, frames, factor, min_pixels=least, max_pixels=most)
    return width, height


def limits(image_processor, least: int | None, most: int | None) -> dict:
    """Of all frames together."""
    return limits_of_frames(image_processor, least, most, image_processor.temporal_patch_size)


FAMILY = Family(
    model_types=("glm4v", "glm4v_moe", "glm46v"),
    vision=("visual",),
    projector=("visual.downsample", "visual.merger"),
    source=(
        "github.com/zai-org/GLM-V, README: normalised by width or height and scaled by 1000 (its GUI prompts say 0-999); "
        "github.com/zai-org/GLM-skills, glmv-grounding: round(x / width * 1000)"
    ),
    space="thousand",
    resize=resize,
    limits=limits,
)
