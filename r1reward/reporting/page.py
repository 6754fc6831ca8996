"""One self-contained HTML page about a comparison: table, plots, what differs, the runs, and judged samples.

Everything that comes from a run is escaped (prompts and completions hold tags such as <think>), and images are inlined,
so the page can be mailed or archived as one file. It loads nothing.
"""

import base64
import math
import os
import re
from pathlib import Path
from urllib.parse import quote

from r1reward.data.rows import PREFERENCE
from r1reward.reporting import table
from r1reward.reporting.runs import Run
from r1reward.reporting.summary import ArmSummary, Comparison

SAMPLES_PER_ARM = 4
LONGEST_TEXT = 3000  # characters of a prompt or completion; a collapsed policy writes far more and says no more
MOST_IMAGES = 4


def write_page(
    comparison: Comparison,
    output: Path,
    figures: dict[str, Path],
    title: str | None = None,
    question: str | None = None,
) -> Path:
    """Renders `index.html` into `output` with the figures "accuracy" and "curves" inlined, and returns its path."""
    import jinja2

    # autoescape=True, not select_autoescape: that goes by the file's ending, and ours is .j2.
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((Path(__file__).parent / "page.html.j2").read_text(encoding="utf-8"))
    categories = sorted({category for arm in comparison.arms for category in arm.by_category})
    categories = [] if categories == [""] else categories  # then they have none, and it would say what the table says
    text = template.render(
        title=title or default_title(comparison),
        question=question or default_question(comparison),
        comparison=comparison,
        runs=len(comparison.runs),
        columns=table.columns(comparison),
        rows=table.rows(comparison),
        notes=table.footnotes(comparison),
        categories=categories,
        category_rows=[
            (arm.arm, [table.share(arm.by_category.get(category), len(arm.runs)) for category in categories])
            for arm in comparison.arms
        ],
        task_columns=table.TASK_COLUMNS,
        task_rows=table.task_rows(comparison),
        figures={name: data_uri(path) for name, path in figures.items()},
        arms=[_arm(arm, comparison, output) for arm in comparison.arms],
        unfinished=[_link(run, output) for run in comparison.unfinished],
        replaced=[_link(run, output) for run in comparison.replaced],
    )
    path = output / "index.html"
    path.write_text(text, encoding="utf-8")
    return path


def default_title(comparison: Comparison) -> str:
    studies = sorted({run.study for run in comparison.runs if run.study})
    if studies:
        return ", ".join(studies)
    return f"Comparison of {len(comparison.arms)} arms"


def default_question(comparison: Comparison) -> str:
    split = comparison.split.replace("_", "-")
    others = [arm.arm for arm in comparison.arms if arm.arm != comparison.baseline]
    what = f"judge {split} pairs" if comparison.tasks == [PREFERENCE] else f"answer {split} rows"
    if not others:
        return f"How accurately does {comparison.baseline} {what} before and after training?"
    return f"After training, how accurately do {', '.join(others)} {what}, next to {comparison.baseline}?"


def choose_samples(samples: list[dict], count: int = SAMPLES_PER_ARM) -> list[dict]:
    """A few samples that show different things: right, wrong, without a verdict, filtered out; the latest of each kind.

    What is left of `count` is filled with the latest others. In the order of their steps.
    """
    latest_first = sorted(samples, key=lambda sample: -(sample.get("step") or 0))
    kinds = (
        lambda sample: outcome(sample) == "right",
        lambda sample: outcome(sample) == "wrong",
        lambda sample: outcome(sample) == "no verdict",
        lambda sample: sample.get("kept") is False,
    )
    chosen: list[dict] = []
    for kind in [*kinds, *[lambda sample: True] * count]:
        match = next((s for s in latest_first if kind(s) and not any(s is other for other in chosen)), None)
        if match is not None and len(chosen) < count:
            chosen.append(match)
    return sorted(chosen, key=lambda sample: sample.get("step") or 0)


def outcome(sample: dict) -> str:
    """ "right", "wrong" or "no verdict" (of a preference pair)."""
    if sample.get("label") is not None and sample.get("verdict") is None:
        return "no verdict"
    return "right" if sample.get("right") else "wrong"


def readable(text: str | None) -> str:
    """A prompt or completion for people: runs of the same image token counted, and over-long text cut in the middle."""
    text = re.sub(r"(<\|[\w ]+\|>)\1+", lambda m: f"{m[1]} × {len(m[0]) // len(m[1])}", text or "")
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _arm(arm: ArmSummary, comparison: Comparison, output: Path) -> dict:
    settings = [(difference.key, difference.values[arm.arm]) for difference in comparison.config]
    run = next((run for run in arm.runs if run.samples), None)
    return {
        "name": arm.arm,
        "is_baseline": arm.arm == comparison.baseline,
        "settings": settings,
        "runs": [_run(run, comparison.split, output) for run in arm.runs],
        "samples": [_sample(sample, run) for sample in choose_samples(run.samples)] if run else [],
        "samples_from": _link(run, output) if run else None,
    }


def _run(run: Run, split: str, output: Path) -> dict:
    details, summary = (run.summary or {}).get("run") or {}, run.summary or {}
    return _link(run, output) | {
        "seed": "?" if run.seed is None else run.seed,
        "before": _percent(run.evaluation("before", split)),
        "after": _percent(run.evaluation("after", split)),
        "steps": summary.get("steps", table.DASH),
        "collapse": run.collapse,
        "started": str(details.get("started") or table.DASH)[:16].replace("T", " "),
        "commit": str(details.get("git_commit") or table.DASH)[:10],
    }


def _link(run: Run, output: Path) -> dict:
    """The run folder relative to the page, as text and as a link; on another drive (Windows) the absolute path."""
    try:
        place = os.path.relpath(run.folder.resolve(), output.resolve())
    except ValueError:
        place = str(run.folder.resolve())
    place = place.replace(os.sep, "/")
    return {"place": place, "link": quote(place), "arm": run.arm, "seed": run.seed, "steps_so_far": len(run.metrics)}


def _sample(sample: dict, run: Run) -> dict:
    pictures = [run.folder / name for name in (sample.get("images") or [])]
    terms = [(name, _number(value)) for name, value in (sample.get("terms") or {}).items()]
    return {
        "step": sample.get("step", "?"),
        "id": sample.get("id", ""),
        "images": [data_uri(picture) for picture in pictures[:MOST_IMAGES] if picture.is_file()],
        "more_images": max(0, len(pictures) - MOST_IMAGES),
        "prompt": readable(sample.get("prompt")),
        "completion": readable(sample.get("completion")),
        "outcome": outcome(sample),
        "verdict": sample.get("verdict"),
        "label": sample.get("label"),
        "solution": sample.get("solution"),
        "rejection": sample.get("rejection"),
        "terms": terms,
        "reward": _number(sample.get("reward")),
        "advantage": _number(sample.get("advantage")),
        "filtered": sample.get("kept") is False,
    }


def _percent(evaluation: dict | None) -> str:
    mean = ((evaluation or {}).get("accuracy") or {}).get("mean")
    return f"{100 * mean:.1f}" if isinstance(mean, int | float) and math.isfinite(mean) else table.DASH


def _number(value) -> str:
    if value is None:
        return table.DASH
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)
