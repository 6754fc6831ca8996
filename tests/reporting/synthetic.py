"""Synthetic run folders: the files of `r1reward.tracking` written by hand, with numbers that a test can check.

`write_run` writes one folder, `write_study` a small study with a collapsing arm, an arm that never trained and a run
that has not finished. `python -m tests.reporting.synthetic DIR` writes that study into DIR, to look at a report of it.
"""

import json
import math
import random
import sys
from pathlib import Path

PROMPT = (
    "<|vision_start|>" + "<|image_pad|>" * 64 + "<|vision_end|>Question: How many red circles are there?\n"
    "Response 1: There are 3 & no more.\nResponse 2: There are 4.\nWhich response is better?"
)


def interval(mean: float, half: float = 0.05) -> dict:
    return {"mean": mean, "low": max(0.0, mean - half), "high": min(1.0, mean + half)}


def evaluation(accuracy: float, items: int = 200, **rates) -> dict:
    """One split's entry of summary.json; rates not given follow from the accuracy."""
    return {
        "n": items,
        "accuracy": interval(accuracy),
        "both_orders_correct": interval(rates.get("both", max(0.0, 2 * accuracy - 1))),
        "flip_rate": interval(rates.get("flip", 1 - accuracy)),
        "first_position_rate": interval(rates.get("first", 0.5)),
        "format_rate": interval(rates.get("format", 0.9)),
        "mean_completion_tokens": rates.get("tokens", 40.0),
        "by_category": {
            "colour": {"n": items // 2, "accuracy": interval(min(1.0, accuracy + 0.05))},
            "count": {"n": items - items // 2, "accuracy": interval(accuracy - 0.05)},
        },
    }


def task_evaluation(items: int = 100, pairs: float | None = None, **accuracies: float) -> dict:
    """An entry of `items` rows of each task by its name, with the terms `iou` (rec) or the task's own, and `format`; `pairs`:
    the accuracy of as many preference pairs besides."""
    blocks = {
        task: {
            "n": items,
            "accuracy": interval(accuracy),
            "terms": {
                "iou" if task == "rec" else task: {"n": items} | interval(accuracy - 0.1),
                "format": {"n": items} | interval(0.9),
            },
        }
        for task, accuracy in accuracies.items()
    }
    of_pairs = {}
    if pairs is not None:
        found = evaluation(pairs, items)
        of_pairs = {name: found[name] for name in ("both_orders_correct", "flip_rate", "first_position_rate")}
        blocks["preference"] = {"n": items, "accuracy": found["accuracy"], "terms": {"format": {"n": items} | interval(0.9)}}
    mean = sum(block["accuracy"]["mean"] for block in blocks.values()) / len(blocks)
    return {
        "n": items * len(blocks),
        "unscored": 0,
        "accuracy": interval(mean),
        "format_rate": interval(0.9),
        "mean_completion_tokens": 40.0,
        "by_category": {"": {"n": items * len(blocks), "accuracy": interval(mean)}},
        "by_task": dict(sorted(blocks.items())),
    } | of_pairs


def curve(steps: int, seed: int, final: float = 0.75, spread: float = 1.0, collapse: int | None = None) -> list[dict]:
    """Metrics that look like training: noisy rise, shrinking length; from `collapse` on they stop being finite."""
    rng = random.Random(f"{seed} {final} {spread}")
    rows, ratio = [], 0.3
    for step in range(1, steps + 1):
        progress = 1 - math.exp(-3 * step / steps)
        share = 0.5 + (final - 0.5) * progress + rng.gauss(0, 0.04)
        ratio *= math.exp(rng.gauss(0.02 * spread, 0.25))
        row = {
            "step": step,
            "seconds": 1.5 * step,
            "loss": rng.gauss(0, 0.02) * (1 + ratio),
            "reward": 1.4 * share + 0.45,
            "rewards/result/mean": share,
            "rewards/format/mean": min(1.0, 0.6 + 0.4 * progress + rng.gauss(0, 0.02)),
            "rewards/consistency/mean": 0.0,
            "completions/mean_length": 60 - 18 * progress + rng.gauss(0, 1.5),
            "entropy": 0.9 - 0.5 * progress + rng.gauss(0, 0.03),
            "grad_norm": math.exp(rng.gauss(-0.5, 0.4)),
            "log_ratio/max_abs": ratio,
            "advantage_filter/fraction": max(0.0, rng.gauss(0.02, 0.01)),
            "advantages/max_abs": abs(rng.gauss(2.5, 0.6)),
        }
        if collapse is not None and step >= collapse - 8:
            row["log_ratio/max_abs"] *= math.exp(step - collapse + 8)
            row["loss"] *= math.exp(step - collapse + 8)
            row["rewards/result/mean"] = row["reward"] = max(0.0, share - 0.08 * (step - collapse + 8))
            row["completions/mean_length"] = min(128.0, 45 + 10 * (step - collapse + 8))
            row["rewards/format/mean"] = max(0.05, 0.95 - 0.12 * (step - collapse + 8))
        if collapse is not None and step >= collapse:
            row |= {"loss": "NaN", "grad_norm": "NaN", "log_ratio/max_abs": "Infinity", "entropy": "NaN"}
        rows.append(row)
    return rows


def judged(step: int, verdict: int | None, label: int, kept: bool = True, completion: str | None = None) -> dict:
    """One row of samples.jsonl; a text without a verdict gets its reason."""
    text = completion or f"<think>I count 3 circles, so response {verdict} fits.</think><answer>{verdict}</answer>"
    return {
        "step": step,
        "id": f"count-{step}-{verdict}",
        "images": ["images/count-0.png"],
        "prompt": PROMPT,
        "completion": text,
        "verdict": verdict,
        "rejection": None if verdict else "no <answer> block",
        "label": label,
        "right": verdict == label,
        "terms": {"result": float(verdict == label), "consistency": None, "format": float(verdict is not None)},
        "reward": float(verdict == label) + 0.5 * (verdict is not None),
        "advantage": 0.8 if verdict == label else -3.4,
        "kept": kept,
    }


def write_run(
    folder: Path,
    *,
    arm: str,
    seed: int,
    before: float = 0.5,
    after: float = 0.7,
    out_of_distribution: float | None = None,
    metrics: list[dict] | None = None,
    samples: list[dict] | None = None,
    config: dict | None = None,
    collapsed_at: int | None = None,
    finished: bool = True,
    study: str = "ablation",
    started: str = "2025-01-01T00:00:00",
    evaluations: tuple[dict, dict] | None = None,
    **rates,
) -> Path:
    """Writes one run folder and returns it; `rates` go to `evaluation` (both, flip, first, format, tokens), and `evaluations`,
    the entries of held-out rows before and after training, stand in its place."""
    (folder / "images").mkdir(parents=True)
    metrics = [{"step": 1, "reward": 0.5}, {"step": 2, "reward": 0.6}] if metrics is None else metrics
    settings = {"seed": seed, "run": {"name": f"{arm}-{seed}", "arm": arm, "study": study}, "output_dir": str(folder)}
    # JSON is YAML, so no YAML writer is needed here.
    (folder / "config.yaml").write_text(json.dumps(settings | (config or {})))
    (folder / "command.txt").write_text("python -m r1reward.train\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    samples = [judged(1, 1, 1), judged(2, 2, 1)] if samples is None else samples
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    draw_image(folder / "images" / "count-0.png")
    if not finished:
        return folder
    splits = {"before": {"held_out": evaluation(before, **rates)}, "after": {"held_out": evaluation(after, **rates)}}
    if evaluations is not None:
        splits = {when: {"held_out": found} for when, found in zip(("before", "after"), evaluations, strict=True)}
    if out_of_distribution is not None:
        splits["before"]["out_of_distribution"] = evaluation(before - 0.02, items=100)
        splits["after"]["out_of_distribution"] = evaluation(out_of_distribution, items=100)
    summary = {
        "run": {
            "name": f"{arm}-{seed}",
            "study": study,
            "arm": arm,
            "seed": seed,
            "stage": "rl",
            "git_commit": "0123456789abcdef",
            "command": "python -m r1reward.train",
            "started": started,
            "versions": {"trl": "1.16.0"},
        },
        "evaluation": splits,
        "collapse": {
            "collapsed": collapsed_at is not None,
            "step": collapsed_at,
            "reason": "3 steps in a row without a finite loss" if collapsed_at is not None else None,
            "skipped_steps": 3 if collapsed_at is not None else 0,
        },
        "steps": len(metrics),
        "seconds": {"total": 120.0, "training": 90.0, "evaluation": 30.0},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def draw_image(path: Path) -> None:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (128, 128), "white")
    pen = ImageDraw.Draw(image)
    for x, y, colour in ((10, 12, "#d33"), (70, 20, "#d33"), (36, 72, "#d33"), (84, 84, "#36c")):
        pen.ellipse((x, y, x + 32, y + 32), fill=colour)
    image.save(path)


def write_study(root: Path, steps: int = 60) -> Path:
    """`full` and `no_filter` (three seeds each), `no_pre_clip` (two of three collapse), `cold_start_only` (one)."""
    arms = {
        "full": ({"clip": "pre_clip", "filter": True}, [0.78, 0.81, 0.79]),
        "no_filter": ({"clip": "pre_clip", "filter": False}, [0.74, 0.80, 0.77]),
        "no_pre_clip": ({"clip": "none", "filter": True}, [0.51, 0.48, 0.72]),
        "cold_start_only": ({"clip": "pre_clip", "filter": True}, [0.58]),
    }
    text = "the the the the " * 200
    samples = [
        judged(1, 1, 2),
        judged(steps, 1, 1),
        judged(steps, 2, 1, kept=False),
        judged(steps, None, 2, True, text),
    ]
    for arm, (algorithm, accuracies) in arms.items():
        trained = arm != "cold_start_only"
        config = {"algorithm": algorithm, "trainer": {"learning_rate": 1e-6, "max_steps": steps if trained else 0}}
        for seed, accuracy in enumerate(accuracies):
            collapse = steps * 2 // 3 + 5 * seed if accuracy < 0.55 else None
            before = 0.58 + 0.01 * seed
            write_run(
                root / f"{arm}_{seed}",
                arm=arm,
                seed=seed,
                before=before,
                after=accuracy,
                out_of_distribution=accuracy - (0.06 if trained else 0.02),
                metrics=curve(steps, seed, accuracy, 3.0 if collapse else 1.0, collapse) if trained else [],
                samples=samples,
                config=config,
                collapsed_at=collapse,
                format=0.2 if collapse else 0.95,
            )
    write_run(root / "full_3", arm="full", seed=3, finished=False)
    return root


if __name__ == "__main__":
    print(write_study(Path(sys.argv[1])))
