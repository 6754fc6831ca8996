"""Qwen2-VL (arXiv 2409.12191). Its image processor, shared by the later Qwens, makes one image of any size into patches."""

from r1reward.models.families import Family, Size


def resize(image_processor, image_size: Size) -> Size:
    """To multiples of a merged patch within the pixel limits. The processor's own function, so that the two cannot differ."""
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    width, height = image_size
    factor = image_processor.patch_size * image_processor.merge_size
    least, most = image_processor.size["shortest_edge"], image_processor.size["longest_edge"]  # areas, whatever their names say
    height, width = smart_resize(height, width, factor, min_pixels=least, max_pixels=most)
    return width, height


def limits(image_processor, least: int | None, most: int | None, frames: int = 1) -> dict:
    """The limits are areas already; `frames` is as how many a still image counts."""
    patch = (image_processor.patch_size * image_processor.merge_size) ** 2
    if most is not None and most < patch:
        raise ValueError(f"the smallest image has {patch} pixels, one merged patch")
    size = {
        "shortest_edge": image_processor.size["shortest_edge"] if least is None else least * frames,
        "longest_edge": image_processor.size["longest_edge"] if most is None else most * frames,
    }
    if size["shortest_edge"] > size["longest_edge"]:
        least, most = size["shortest_edge"] // frames, size["longest_edge"] // frames
        raise ValueError(
            f"with the processor's own limit the smallest image has {least} pixels and the largest {most}; set both"
        )
    return {"size": size}


FAMILY = Family(
    model_types=("qwen2_vl",),
    vision=("visual",),
    projector=("visual.merger",),
    source="arXiv 2409.12191, section 2.2.1: normalised within [0, 1000)",
    space="thousand",
    resize=resize,
    limits=limits,
    shares_prompts=("qwen2_vl",),
)
