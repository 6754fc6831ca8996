"""Multimodal RewardBench (Yasunaga et al. 2025, arXiv 2502.14191): 5,211 pairs, of which 4,711 can be had.

The official repository (facebookresearch/multimodal_rewardbench) holds pairs whose questions and images its script fetches
from third parties; the result is data/all_data.json, a list of ID, Text, Image, Output1, Output2, Better ("Output1" or
"Output2") and Category, with the images in data/images. Copies on the hub hold the same fields as parquet, images inside. The
500 pairs on Hateful Memes may not be redistributed and are missing in both.

Categories are those of the official scorer (scripts/2_get_accuracy.py), which splits reasoning and safety by the id.
R1-Reward's released scorer splits them in the same way.
"""

from pathlib import Path

from r1reward.benchmarks.items import Parsed, Source, image_of, read_records, text_of
from r1reward.data.jsonl import unique_ids
from r1reward.data.records import Problem, raise_problems

# The first five are the paper's table of data sets. Bias and VQA share the other 1,706; the leaderboard's overall scores, which
# are averages over pairs, leave 489 to 526 for bias.
_WITHOUT_MEMES = {
    "correctness": 623,
    "preference": 654,
    "knowledge": 630,
    "reasoning/math": 514,
    "reasoning/coding": 584,
    "safety/bias": 508,
    "vqa": 1198,
}
EDITIONS = {
    "4,711 pairs, without Hateful Memes": _WITHOUT_MEMES,
    "5,211 pairs, as in the paper": {**_WITHOUT_MEMES, "safety/toxicity": 500},
}
# Published names are such as "open_generation/correctness_task"; each holds exactly one of these words.
_WORDS = ("correctness", "preference", "knowledge", "reasoning", "safety", "vqa")
FETCH = (
    "Multimodal RewardBench: git clone https://github.com/facebookresearch/multimodal_rewardbench; cd multimodal_rewardbench; "
    "pip install datasets==3.1.0; python scripts/0_download_data.py, which makes data/all_data.json and data/images; then "
    "path=multimodal_rewardbench/data/all_data.json. Or a copy with the images inside: hf download "
    "syhuggingface/multimodal_rewardbench --repo-type dataset --local-dir multimodal_rewardbench."
)


def official_category(category: str, id: str) -> str:
    """The scorer's category of a published one; reasoning and safety are split by the id.

    Raises:
        Problem: The category is none of the benchmark's six.
    """
    found = [word for word in _WORDS if word in category.lower()]
    if len(found) != 1:
        raise Problem("Category", f"unknown category {category!r}; it should hold one of the words {list(_WORDS)}")
    if found == ["reasoning"]:
        return "reasoning/math" if id.lower().startswith("math") else "reasoning/coding"
    if found == ["safety"]:
        return "safety/bias" if id.lower().startswith("pairs") else "safety/toxicity"
    return found[0]


def read_outputs(path: str | Path) -> dict[str, int | None]:
    """The verdicts in a file of judge outputs in the official layout (ID, Label, output): id -> 1, 2 or None.

    "[[A]]" is 1 (Output1), "[[B]]" is 2; an output with both counts as A, as in the official scorer. An output with
    neither is None, where the official scorer draws at random. The second output of an id is named "id#2" as items are, so
    that a file in the order of the benchmark matches `Item.row.id`.
    """
    ids: list[str] = []
    choices: list[int | None] = []
    problems: list[str] = []
    for where, record, _ in read_records(SOURCE, path):
        try:
            if isinstance(record, Problem):
                raise record
            if "outputs" in record:
                raise Problem("outputs", "holds several samples; the score is defined for one text in the field output")
            output = text_of(record, "output", may_be_empty=True)
            ids.append(text_of(record, "ID"))
            choices.append(1 if "[[A]]" in output else 2 if "[[B]]" in output else None)
        except Problem as problem:
            problems.append(f"{where}, {problem}")
    raise_problems(path, problems)
    return dict(zip(unique_ids(ids), choices, strict=True))


def _parse(record: dict, root: Path) -> Parsed:
    id = text_of(record, "ID")
    meta = record.get("Meta")
    category = official_category(text_of(meta if isinstance(meta, dict) and "Category" in meta else record, "Category"), id)
    if not record.get("Text"):
        script = "python scripts/0_download_data.py writes it into data/all_data.json"
        raise Problem("Text", f"is missing: all_data_release.json holds no questions of third parties; {script}")
    return Parsed(
        id=id,
        images=(image_of(record.get("Image"), "Image", root),),
        question=text_of(record, "Text"),
        responses=(text_of(record, "Output1", may_be_empty=True), text_of(record, "Output2", may_be_empty=True)),
        label=_label(record),
        category=category,
        released_category=category,
    )


def _label(record: dict) -> int | None:
    better = text_of(record, "Better")
    if better.lower() == "tie":
        return None
    if better not in ("Output1", "Output2"):
        raise Problem("Better", f"must be Output1 or Output2, got {better!r}; download the file again")
    return 1 if better == "Output1" else 2


def _hint(missing: list[str]) -> str:
    if any("hateful" in path.lower() for path in missing):
        return "\nHateful Memes (facebook's challenge set) forbids derived copies; no script fetches it."
    return ""


SOURCE = Source(
    name="multimodal_rewardbench",
    patterns=("all_data.json", "data/all_data.json", "**/test*.parquet", "**/*.parquet", "*.jsonl"),
    parse=_parse,
    editions=EDITIONS,
    fetch=FETCH,
    hint=_hint,
)
