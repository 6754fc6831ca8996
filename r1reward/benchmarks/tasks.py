"""Evaluation of referring expressions and detections: read, score, report. What the numbers mean is said in `grounding` and
`detection`.
"""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from r1reward.benchmarks import coco_files, detection, grounding
from r1reward.benchmarks.settings import BenchmarkSettings, EvaluateSettings
from r1reward.benchmarks.verdicts import Vote
from r1reward.data.images import upright_size
from r1reward.data.rows import TaskRow
from r1reward.data.templates import apply_templates, check_templates, fill_in
from r1reward.data.vlm_r1_jsonl import read as read_vlm_r1
from r1reward.rewards.grounding import ToPixels

TASKS = {"referring": "rec", "detection": "ovd"}
READINGS = {"referring": grounding.READINGS, "detection": detection.READINGS}


def read_rows(settings: BenchmarkSettings, templates: Mapping[str, str] | None = None) -> list[TaskRow]:
    """The rows of a file in one of VLM-R1's formats or of COCO annotations.

    Args:
        settings: Where the rows come from.
        templates: By task, the text around the question (`r1reward.data.templates`); for COCO annotations, instead of the
            instructions of `coco_files.PROMPTS`.

    Raises:
        ValueError: With file, row, field and remedy.
    """
    if settings.path is None:
        kinds = "rows in VLM-R1's formats, or COCO annotations"
        raise ValueError(f"benchmark.path is not set: give the file for {settings.name} ({kinds})")
    templates, task = templates or {}, TASKS[settings.name]
    check_templates(templates)
    if templates and task not in templates:
        raise ValueError(f"template has no effect: it is for {', '.join(templates)}, and {settings.name} asks for {task}")
    if not coco_files.is_coco(settings.path):
        rows = read_vlm_r1(
            settings.path, task, settings.image_root, settings.limit, num_frames=settings.num_frames,
            box_space=settings.box_space,
        )  # fmt: skip
        return apply_templates([row for row in rows if row.task == task], templates)
    if settings.box_space is not None:
        raise ValueError("benchmark.box_space has no effect on COCO annotations, whose boxes are in pixels; leave it null")
    if settings.image_root is None:
        raise ValueError("benchmark.image_root is not set: give the folder of the images of the COCO annotations")
    return coco_files.read(
        settings.path,
        settings.image_root,
        task=task,
        prompt=_coco_prompt(task, templates),
        num_absent=settings.num_absent,
        seed=settings.seed,
        max_boxes_per_category=settings.max_boxes_per_category,
        limit=settings.limit,
    ).rows


def _coco_prompt(task: str, templates: Mapping[str, str]) -> str | None:
    """The prompt with {labels} in it, whose first line is the question; None where there is no template."""
    return fill_in(templates[task], coco_files.PROMPTS[task].splitlines()[0]) if templates else None


def task_results(settings: EvaluateSettings, rows: list[TaskRow], votes: list[Vote]) -> dict:
    """All numbers of a referring or detection evaluation, JSON-able."""
    said = {vote.item: vote for vote in votes}
    texts, to_pixels = [said[row.id].text for row in rows], _to_pixels(settings, rows)
    reading = settings.benchmark.reading
    if settings.benchmark.name == "referring":
        numbers = grounding.summarise(rows, texts, to_pixels, reading)
    else:
        asked = [detection.asked_labels(row.prompt) for row in rows]
        numbers = detection.summarise(rows, texts, to_pixels, asked if all(asked) else None, reading)
    tokens = [vote.tokens for vote in votes]
    return {"benchmark": settings.benchmark.name, "mean_tokens": sum(tokens) / len(tokens)} | numbers


def write_task_report(folder: Path, model_name: str, results: dict) -> None:
    """Write row.md: the main numbers as a Markdown table."""
    names, values = zip(*_headline(results), strict=True)
    lines = [["Model", *names], ["---", *["---:"] * len(names)], [f"**{model_name}**", *values]]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    (folder / "row.md").write_text(text + "\n", encoding="utf-8")


def print_task_results(results: dict, folder: str | Path) -> None:
    """Print the main numbers."""
    table = Table(box=None)
    for name in ("", "value [95 % interval]"):
        table.add_column(name)
    for name, value in _headline(results):
        table.add_row(name, value)
    Console().print(table, f"results.json, row.md and verdicts.jsonl are in {folder}", sep="\n")


def _headline(results: dict) -> list[tuple[str, str]]:
    """The main numbers by name."""
    if results["benchmark"] == "referring":
        overall = results["overall"]
        present, absent = overall["with_object"], overall["without_object"]
        rows = [
            ("rows", str(overall["n"])),
            (f"accuracy at {results['hit']}", _percent(present["accuracy"])),
            ("mean IoU", _percent(present["mean_iou"])),
            ("unreadable", _percent(overall["unreadable_rate"])),
        ]
        return rows + ([("no object: said so", _percent(absent["accuracy"]))] if absent["n"] else [])
    names = {"mAP": "map", "AP50": "ap50", "precision": "precision", "recall": "recall", "unreadable": "unreadable_rate"}
    counts = [("rows", str(results["n"])), ("boxes said / there", f"{results['predicted_boxes']} / {results['true_boxes']}")]
    return counts + [(name, _percent(results[key])) for name, key in names.items()]


def _percent(value: dict | float | None) -> str:
    if value is None:
        return "-"
    if not isinstance(value, dict):
        return f"{100 * value:.1f} %"
    return f"{100 * value['mean']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}] %"


def _to_pixels(settings: EvaluateSettings, rows: list[TaskRow]) -> list[ToPixels | None]:
    """For each row, from a box as the model writes it to pixels of the row's first image."""
    from functools import partial

    from r1reward.models.coordinates import coordinates_of
    from r1reward.models.loading import load_config, load_processor

    model = settings.model
    if model.coordinates == "pixels":
        return [None] * len(rows)
    if settings.backend.kind == "openai":
        if model.coordinates in (None, "resized_pixels"):
            raise ValueError(
                "a model behind a server, whose processor is not here: set model.coordinates to the way in which it writes "
                "boxes, one of pixels, thousand, thousand_y_first, unit"
            )
        coordinates = coordinates_of("", None, model.coordinates)
    else:
        config = load_config(model)
        coordinates = coordinates_of(config.model_type, load_processor(model), model.coordinates, model.family)
    return [partial(coordinates.to_pixels, image_size=upright_size(row.images[0])) if row.images else None for row in rows]
