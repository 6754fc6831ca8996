"""VL-RewardBench (Li et al., CVPR 2025, arXiv 2411.17451): 1,250 pairs on general questions, hallucination and reasoning.

Two layouts are read. The published dataset `MMInstruction/VL-RewardBench` is parquet with the images inside: id, query, image,
response (two), human_ranking (lower is better), query_source and more. R1-Reward ships JSONL with id, prompt, chosen,
rejected and image, a path.

Categories follow the official scorer (`get_dataset_from_id` in vl-rewardbench/VL_RewardBench, cal.py, since its correction of
8 May 2025): what stands before the first "-" or "_" of an id names the source, and anything unknown counts as VLFeedback, so
as general. R1-Reward's released scorer instead looks for lower-case words in the id; it misses "RLAIF-V" and "RLHF-V" and so
counts 301 hallucination pairs as general.
"""

from pathlib import Path

from r1reward.benchmarks.items import Parsed, Source, image_of, text_of
from r1reward.data.jsonl import checked_text
from r1reward.data.records import Problem

CATEGORY_OF_PREFIX = {
    "hallucination": "hallucination",  # POVID
    "RLAIF": "hallucination",
    "RLHF": "hallucination",
    "mathverse": "reasoning",
    "mmmu": "reasoning",
    "wildvision": "general",
    # VLFeedback keeps the ids of the sets that it was collected from.
    "jailbreak": "general",
    "LRVInstruction": "general",
    "politics": "general",
    "svit": "general",
}
CATEGORY_OF_SOURCE = {
    "povid": "hallucination",
    "rlaif-v": "hallucination",
    "rlhf-v": "hallucination",
    "reasoning_tasks": "reasoning",
    "vlfeedback": "general",
    "wildvision-battle": "general",
}
EDITIONS = {
    "1,250 pairs, as in the paper": {"general": 183, "hallucination": 749, "reasoning": 318},
    # The hub's dataset was uploaded anew in 2025 with 1,247 rows.
    "1,247 pairs, the hub's later edition": {"general": 181, "hallucination": 749, "reasoning": 317},
}
FETCH = (
    "VL-RewardBench, images included: hf download MMInstruction/VL-RewardBench --repo-type dataset --local-dir vl_rewardbench, "
    "then path=vl_rewardbench. R1-Reward's data.jsonl (git clone https://github.com/yfzhang114/r1_reward, folder "
    "inference/VL-Reward-Bench) names its photographs as vl_reward/img/image_<n>.jpg but does not come with them."
)


def official_category(id: str, query_source: str | None = None) -> tuple[str, bool]:
    """(category, whether the id or its source is known); an unknown one counts as general, as in the official scorer."""
    prefix = id.replace("_", "-").split("-")[0]
    if prefix in CATEGORY_OF_PREFIX:
        return CATEGORY_OF_PREFIX[prefix], True
    if isinstance(query_source, str) and query_source.lower() in CATEGORY_OF_SOURCE:
        return CATEGORY_OF_SOURCE[query_source.lower()], True
    return "general", False


def released_category(id: str) -> str:
    """Where R1-Reward's released scorer counts the id: 484 general, 448 hallucination and 318 reasoning of 1,250."""
    if "mmmu" in id or "mathverse" in id:
        return "reasoning"
    return "hallucination" if any(word in id for word in ("hallucination", "rlhf", "rlaif")) else "general"


def _parse(record: dict, root: Path) -> Parsed:
    id = text_of(record, "id")
    category, known = official_category(id, record.get("query_source"))
    if "response" in record:
        question, responses, label = text_of(record, "query"), _responses(record), _label(record)
    else:
        question, label = text_of(record, "prompt"), 1
        responses = (text_of(record, "chosen", may_be_empty=True), text_of(record, "rejected", may_be_empty=True))
    return Parsed(
        id=id,
        images=(image_of(record.get("image"), "image", root),),
        question=question.replace("<image>\n", ""),  # as the official script does: the image is not part of the text
        responses=responses,
        label=label,
        category=category,
        released_category=released_category(id),
        notes=() if known else ("unknown_sources_as_general",),
    )


def _responses(record: dict) -> tuple[str, str]:
    responses = record["response"]
    if not isinstance(responses, list) or len(responses) != 2 or not all(isinstance(text, str) for text in responses):
        raise Problem("response", f"must be two texts, got {responses!r:.60}; download the file again")
    return checked_text(responses[0], "response"), checked_text(responses[1], "response")


def _label(record: dict) -> int | None:
    ranking = record.get("human_ranking")
    if not isinstance(ranking, list) or len(ranking) != 2 or not all(type(rank) is int for rank in ranking):
        raise Problem("human_ranking", f"must be two ranks such as [0, 1], the lower the better, got {ranking!r:.60}")
    if ranking[0] == ranking[1]:
        return None
    return 1 if ranking[0] < ranking[1] else 2


SOURCE = Source(
    name="vl_rewardbench",
    # Some editions also hold the same rows as a "train" split, and the authors' own model outputs as JSON.
    patterns=("**/test*.parquet", "**/test/*.parquet", "**/*.parquet", "data.jsonl", "*.jsonl"),
    parse=_parse,
    editions=EDITIONS,
    fetch=FETCH,
)
