"""Qwen3-VL and its mixture of experts (arXiv 2511.21631): features of early layers of the vision tower have mergers of their
own (DeepStack)."""

from r1reward.models.families import Family
from r1reward.models.families.qwen2_vl import limits, resize

FAMILY = Family(
    model_types=("qwen3_vl", "qwen3_vl_moe"),
    vision=("visual",),
    projector=("visual.merger", "visual.deepstack_merger_list"),
    source="github.com/QwenLM/Qwen3-VL, cookbooks/2d_grounding.ipynb: relative, 0 to 1000",
    space="thousand",
    resize=resize,
    limits=limits,
    shares_prompts=("qwen3_vl",),
)
