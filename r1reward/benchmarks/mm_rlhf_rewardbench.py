"""MM-RLHF-RewardBench (Zhang et al. 2025, arXiv 2502.10391): 170 pairs of 46 questions on images and videos.

Pairs of one question share an id; Acc counts pairs, Acc+ questions of which all pairs are right. Rows are JSONL
(mm_reward_bench.jsonl, in the dataset and in R1-Reward's repository) or parquet with the same fields: id, prompt, chosen,
rejected and image or video, a path such as "mcq/073712.png" whose first folder is the category. A video is a folder of frames.
The dataset keeps all of them in images/, its videos without the folder "video".
"""

import os
from pathlib import Path

from r1reward.benchmarks.items import Parsed, Source, image_of, text_of
from r1reward.data.frames import extraction, frame_files, sample_frames
from r1reward.data.jsonl import path_below
from r1reward.data.records import Problem
from r1reward.data.rows import ImageSource

SIZES = {"mcq": 42, "long": 37, "short": 34, "safety": 32, "video": 25}
FETCH = (
    "MM-RLHF-RewardBench: hf download yifanzhang114/MM-RLHF-RewardBench --repo-type dataset --local-dir mm_rlhf_rewardbench, "
    "then path=mm_rlhf_rewardbench; its images/ holds the images and a folder of frames for each video."
)


def official_category(path: str) -> str:
    """The first folder of the path that names a category.

    Raises:
        Problem: None does.
    """
    for part in path.replace("\\", "/").split("/"):
        if part in SIZES:
            return part
    raise Problem("image or video", f"unknown category of {path!r}; its first folder should be one of {list(SIZES)}")


def released_category(path: str) -> str:
    """Where R1-Reward's released scorer counts the path: the first of the words that it contains anywhere."""
    return next(category for category in SIZES if category in path)


def source(num_frames: int) -> Source:
    """The benchmark with that many frames for each video."""

    def parse(record: dict, root: Path) -> Parsed:
        field = "video" if record.get("video") else "image"
        named = record.get(field)
        path = named.get("path") if isinstance(named, dict) else named
        if not isinstance(path, str):
            raise Problem(
                "image or video", f"must be a path such as mcq/073712.png, got {named!r:.60}; download the file again"
            )
        if field == "video":
            images, notes = _frames(path, root, num_frames)
        else:
            images, notes = (image_of(named, field, root, ("", "images")),), ()
        return Parsed(
            id=text_of(record, "id"),
            images=images,
            question=text_of(record, "prompt"),
            responses=(text_of(record, "chosen", may_be_empty=True), text_of(record, "rejected", may_be_empty=True)),
            label=1,
            category=official_category(path),
            released_category=released_category(path),
            notes=notes,
        )

    return Source(
        name="mm_rlhf_rewardbench",
        patterns=("mm_reward_bench.jsonl", "*.jsonl", "**/*.parquet"),
        parse=parse,
        editions={"170 pairs": SIZES},
        fetch=FETCH,
        hint=_hint,
    )


def _frames(path: str, root: Path, num_frames: int) -> tuple[tuple[ImageSource, ...], tuple[str, ...]]:
    """(The sampled frames, what to count); the folder itself, as a missing image, where there are none."""
    bare = path.removeprefix("video/")
    folders = [path_below(root, name, "video") for name in (path, f"images/{path}", f"images/{bare}")]
    for folder in filter(os.path.isdir, folders):
        if files := frame_files(folder):
            chosen = sample_frames(files, num_frames)
            return tuple(ImageSource(path=file) for file in chosen), ("short_videos",) if len(files) < num_frames else ()
    return (ImageSource(path=next(filter(os.path.exists, folders), folders[0])),), ()


def _hint(missing: list[str]) -> str:
    command = next(filter(None, map(extraction, missing)), None)
    return "" if command is None else f"\nVideos are read as folders of frames; extract them: {command}"
