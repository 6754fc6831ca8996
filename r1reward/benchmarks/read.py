"""Reading a reward benchmark, whichever of its published layouts it comes in (`r1reward.benchmarks.items`)."""

from collections import Counter
from pathlib import Path

from r1reward.benchmarks import mm_rlhf_rewardbench, multimodal_rewardbench, vl_rewardbench
from r1reward.benchmarks.items import (
    Benchmark,
    MissingFiles,
    Source,
    distance,
    is_there,
    parse_all,
    size_problems,
    to_benchmark,
)

NAMES = ("vl_rewardbench", "multimodal_rewardbench", "mm_rlhf_rewardbench")


def read_benchmark(
    name: str,
    path: str | Path,
    image_root: str | Path | None = None,
    prompt: str = "r1_reward",
    missing: str = "stop",
    num_frames: int = 32,
    check_sizes: bool = True,
) -> Benchmark:
    """Read one of the benchmarks in `NAMES`.

    Args:
        name: Which one.
        path: Its published dataset (a folder as `hf download` or `git clone` leaves it, one of its files, or its id on the
            hub, which is downloaded or taken from the cache) or the JSONL file that R1-Reward ships. The content decides.
        image_root: Folder that image paths start from; by default the folder of the file with the rows.
        prompt: Name of the judge prompt (`data.prompts`).
        missing: "stop" raises `MissingFiles`; "skip" leaves the items out and counts them. Files are looked for, not
            decoded: an unreadable one is an `ImageError` when it is first needed.
        num_frames: Frames sampled from a video.
        check_sizes: The rows must have the official sizes. Asked of the data as published, before items are left out.

    Raises:
        MissingFiles: With all paths that are missing.
        ValueError: Rows that cannot be read, or other sizes than the official ones.
    """
    if missing not in ("stop", "skip"):
        raise ValueError(f"missing must be stop or skip, got {missing!r}")
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1 frame, got {num_frames}")
    of = source(name, num_frames)
    parsed = parse_all(of, path, image_root)
    # A tie is left out in any case, so its images are not needed.
    lacking = [[image.path for image in row.images if row.label and not is_there(image)] for row in parsed]
    paths = [lost for row in lacking for lost in row]
    concerned = sum(bool(row) for row in lacking)
    if paths and (missing == "stop" or concerned == len(parsed)):
        remedy = of.fetch + of.hint(paths) + "\nimage_root names another folder for the images."
        if missing == "stop":
            remedy += ' missing="skip" leaves the items out.'
        raise MissingFiles(name, paths, remedy, f", of {concerned} of {len(parsed)} items")
    counts = Counter(row.category for row in parsed)
    edition, sizes = min(of.editions.items(), key=lambda sizes: distance(counts, sizes[1]))
    problems = size_problems(counts, sizes)
    if check_sizes and problems:
        raise ValueError(
            "\n  ".join([f"{name}: {path} is not the whole benchmark ({edition}):", *problems])
            + "\ncheck_sizes=False reads it all the same.\n"
            + of.fetch
        )
    return to_benchmark(name, parsed, lacking, prompt, sizes, edition)


def source(name: str, num_frames: int) -> Source:
    """How the benchmark of that name is read."""
    if name not in NAMES:
        raise ValueError(f"unknown benchmark {name!r}; choose one of {list(NAMES)}")
    if name == "mm_rlhf_rewardbench":
        return mm_rlhf_rewardbench.source(num_frames)
    return {"vl_rewardbench": vl_rewardbench, "multimodal_rewardbench": multimodal_rewardbench}[name].SOURCE
