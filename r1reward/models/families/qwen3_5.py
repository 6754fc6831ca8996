"""Qwen3.5 and its mixture of experts."""

from r1reward.models.families import Family
from r1reward.models.families.qwen2_vl import limits, resize

FAMILY = Family(
    model_types=("qwen3_5", "qwen3_5_moe"),
    vision=("visual",),
    projector=("visual.merger",),
    source="github.com/QwenLM/Qwen3.8-Flash-Next, a maintainer in issue 4: still relative, 0 to 1000",
    space="thousand",
    resize=resize,
    limits=limits,
)
