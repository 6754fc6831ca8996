"""Qwen2.5-VL (arXiv 2502.13923)."""

from r1reward.models.families import Family
from r1reward.models.families.qwen2_vl import limits, resize

FAMILY = Family(
    model_types=("qwen2_5_vl",),
    vision=("visual",),
    projector=("visual.merger",),
    source=(
        "arXiv 2502.13923, section 2.2.1: absolute positions; "
        "github.com/QwenLM/Qwen3-VL, qwen-vl-finetune/tools/process_bbox.ipynb: of the resized image"
    ),
    space="resized_pixels",
    resize=resize,
    limits=limits,
    shares_prompts=("qwen2_5_vl",),
)
