"""From measured seconds to a table, a plot and a page of Markdown."""

import json
from pathlib import Path
from statistics import median

from r1reward.reporting.style import COLOURS, figure_of, in_our_look

NAMES = {"stock": "stock TRL", "unshared": "ours, sharing off", "ours": "ours"}
PARTS = {
    "rollout": "rollout",
    "old": "old log-probabilities",
    "reference": "reference",
    "update": "update",
    "step": "whole step",
}


class Results:
    """The numbers of one machine and model, kept in a file while they come in; a shape measured again is replaced."""

    def __init__(self, folder: Path, machine: dict, parameters: int, vision_parameters: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{machine['device']}-{machine['model']}.json"
        known = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self.values = known | {"machine": machine, "parameters": parameters, "vision_parameters": vision_parameters}

    def add(self, kind: str, shape: str, value: dict):
        """Add one measurement and write the file."""
        self.values.setdefault(kind, {})[shape] = value
        self.save()

    def save(self):
        """Write the file."""
        self.path.write_text(json.dumps(self.values, indent=1) + "\n")


def write_report(folder: Path) -> Path:
    """Write README.md and one plot per results file; returns the README's path.

    Raises:
        ValueError: If the folder holds no results.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"{folder} holds no results; measure first")
    sections = []
    for path in files:
        results = json.loads(path.read_text())
        plot = path.with_suffix(".png")
        if results.get("steps"):
            draw_growth(results, plot)
        sections.append(_section(results, plot.name))
    introduction = (
        "# Benchmarks\n\nWritten by `python -m r1reward.bench` (`make bench`). One process measures the trainers in turn, "
        "rollout batch by rollout batch, after one of each that is thrown away; same model, rows, seed, arguments and memory "
        "allocator. A step is one rollout batch: sampling, old log-probabilities, reference, rewards and two updates. "
        "Numbers are medians, in brackets the smallest and largest of the trials; *times* are ratios of medians, stock to "
        "ours. P, R, G: prompt tokens (two fifths of them the image's), completion tokens, completions per prompt.\n"
    )
    readme = folder / "README.md"
    readme.write_text("\n".join([introduction, *sections]))
    return readme


def _section(results: dict, plot: str) -> str:
    machine = results["machine"]
    where = machine["accelerator"] or f"{machine['processor']}, {machine['threads']} threads"
    libraries = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "transformers", "trl"))
    lines = [
        f"## {machine['device'].upper()}, {machine['model']} model",
        "",
        f"{where}; {machine['dtype']}; matrix products of 2048 x 2048 at {_matmul_speed(results)} GFLOP/s; "
        f"{libraries}. Qwen2.5-VL with random weights, {results['parameters'] / 1e6:.1f} million parameters "
        f"({results['vision_parameters'] / 1e6:.1f} of them vision). Allocator: {machine['allocator']}.",
        "",
        *steps_table(results),
        "",
        *memory_table(results),
        "",
        *verdicts_table(results),
        "",
        *evaluation_line(results),
        "",
        *rewards_line(results),
        "",
        *checkpoints_line(results),
        "",
        *([f"![Seconds of a step against G]({plot})", ""] if results.get("steps") else []),
    ]
    return "\n".join(lines)


def _matmul_speed(results: dict) -> str:
    speeds = [measured["matmul_speed"] / 1e9 for _, measured in _shapes(results, "steps")]
    return " to ".join(dict.fromkeys((f"{min(speeds):.0f}", f"{max(speeds):.0f}"))) if speeds else "unknown"


def _shapes(results: dict, kind: str) -> list[tuple[str, dict]]:
    return sorted(results.get(kind, {}).items(), key=lambda item: [int(x[1:]) for x in item[0].split("-")])


def steps_table(results: dict) -> list[str]:
    """Seconds by part, ratios, tokens per second and the share of the machine's speed."""
    lines = [
        "| shape | part | stock TRL, s | sharing off, s | ours, s | times | of the matmul speed: stock | ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for shape, measured in _shapes(results, "steps"):
        seconds, operations = measured["seconds"], measured["operations"]
        for part, name in PARTS.items():
            values = {kind: [trial[part] for trial in trials] for kind, trials in seconds.items()}
            work = operations.get(part, sum(operations.values()))
            cells = [_spread(values.get(kind)) for kind in NAMES]
            shares = [_share(work, values.get(kind), measured["matmul_speed"]) for kind in ("stock", "ours")]
            lines.append(f"| {shape} | {name} | {' | '.join(cells)} | {_times(values)} | {' | '.join(shares)} |")
        lines.append(_tokens(shape, measured))
    return lines + ["", *_additions(results)]


def _tokens(shape: str, measured: dict) -> str:
    sizes = measured["shape"]
    tokens = sizes["prompts"] * sizes["generations"] * sizes["completion"]
    rates = {
        kind: tokens / median(trial["step"] for trial in measured["seconds"][kind]) if kind in measured["seconds"] else None
        for kind in NAMES
    }
    cells = " | ".join("" if rate is None else f"{rate:.0f}" for rate in rates.values())
    return f"| {shape} | completion tokens per second of a step | {cells} | | | |"


def _additions(results: dict) -> list[str]:
    shares = {
        shape: median(trial["additions"] / trial["step"] for trial in measured["seconds"]["ours"])
        for shape, measured in _shapes(results, "steps")
        if "ours" in measured["seconds"]
    }
    if not shares:
        return []
    worst = max(shares, key=shares.get)
    return [
        "What StableReinforce adds (advantages, filter, Pre-CLIP, their metrics) takes at most "
        f"{100 * shares[worst]:.2f} % of a step (at {worst})."
    ]


def memory_table(results: dict) -> list[str]:
    """Peak memory, each trainer in a process of its own."""
    lines = ["| shape | peak memory: stock TRL | sharing off | ours | ours / stock |", "|---|---|---|---|---|"]
    for shape, peaks in _shapes(results, "memory"):
        cells = [f"{peaks[kind]['peak'] / 2**30:.2f} GiB" if kind in peaks else "" for kind in NAMES]
        ratio = f"{peaks['ours']['peak'] / peaks['stock']['peak']:.2f}" if {"ours", "stock"} <= peaks.keys() else ""
        lines.append(f"| {shape} | {' | '.join(cells)} | {ratio} |")
    return lines


def verdicts_table(results: dict) -> list[str]:
    """Evaluation: one call per verdict against batches."""
    lines = ["| shape | verdicts | one call of `generate` each, s | ours in batches, s | times |", "|---|---|---|---|---|"]
    for shape, measured in _shapes(results, "verdicts"):
        one, batches = measured["seconds"]["one by one"], measured["seconds"]["in batches"]
        times = f"{median(one) / median(batches):.1f}"
        lines.append(f"| {shape} | {measured['verdicts']} | {_spread(one)} | {_spread(batches)} | {times} |")
    return lines


def evaluation_line(results: dict) -> list[str]:
    """Verdicts per second of an evaluation; nothing where it was not measured."""
    if "evaluation" not in results:
        return []
    measured = results["evaluation"]
    alone, ours = measured["rates"]["one call per verdict"], measured["rates"]["ours"]
    return [
        f"Evaluation of the embedded model, {measured['items']} items of the shapes world, both orders, {measured['votes']} "
        f"votes: {_spread(ours)} verdicts per second; one call of `generate` per verdict (on {measured['alone']} of them) "
        f"makes {_spread(alone)}: {median(ours) / median(alone):.1f} times. {measured['same_greedy_verdicts']} greedy verdicts "
        "were compared: all the same."
    ]


def rewards_line(results: dict) -> list[str]:
    """How long scoring takes; nothing where it was not measured."""
    if "rewards" not in results:
        return []
    measured = results["rewards"]
    milliseconds = [1000 * seconds for seconds in measured["seconds"]]
    return [
        f"Scoring {measured['completions']} completions of {measured['words']} words (result, consistency by the rule judge, "
        f"format, total) takes {median(milliseconds):.0f} [{min(milliseconds):.0f}, {max(milliseconds):.0f}] ms."
    ]


def checkpoints_line(results: dict) -> list[str]:
    """What checkpoints add to training; nothing where it was not measured."""
    if "checkpoints" not in results:
        return []
    measured = results["checkpoints"]
    intervals = zip(measured["seconds"]["saving"], measured["seconds"]["training"], strict=True)
    shares = [100 * saving / training for saving, training in intervals]
    return [
        f"A checkpoint every {measured['interval']} steps ({measured['bytes'] / 1e6:.0f} MB, the default of the embedded run) "
        f"takes {median(shares):.1f} [{min(shares):.1f}, {max(shares):.1f}] % of its training, in {len(shares)} intervals."
    ]


def _spread(values: list[float] | None) -> str:
    return f"{median(values):.2f} [{min(values):.2f}, {max(values):.2f}]" if values else ""


def _times(values: dict) -> str:
    return f"{median(values['stock']) / median(values['ours']):.1f}" if {"stock", "ours"} <= values.keys() else ""


def _share(work: float, values: list[float] | None, speed: float) -> str:
    return f"{100 * work / median(values) / speed:.0f} %" if values else ""


@in_our_look
def draw_growth(results: dict, path: Path):
    """Seconds of a step against G, and the lines P + G x R and G x (P + R) through the smallest G, at the shape with most G."""
    series: dict[tuple[int, int], list[dict]] = {}
    for _, measured in _shapes(results, "steps"):
        series.setdefault((measured["shape"]["prompt"], measured["shape"]["completion"]), []).append(measured)
    (prompt, completion), points = max(series.items(), key=lambda item: len(item[1]))
    figure = figure_of(6.4, 4.0)
    axes = figure.subplots()
    groups = [point["shape"]["generations"] for point in points]
    for (kind, name), colour in zip((("stock", "stock TRL"), ("ours", "ours")), COLOURS, strict=False):
        if not all(kind in point["seconds"] for point in points):
            continue
        trials = [[trial["step"] for trial in point["seconds"][kind]] for point in points]
        middle = [median(values) for values in trials]
        errors = [[m - min(v) for m, v in zip(middle, trials, strict=True)],
                  [max(v) - m for m, v in zip(middle, trials, strict=True)]]  # fmt: skip
        axes.errorbar(groups, middle, yerr=errors, fmt="o", color=colour, label=name, capsize=3)
        tokens = [prompt + g * completion if kind == "ours" else g * (prompt + completion) for g in groups]
        slope = sum(t * m for t, m in zip(tokens, middle, strict=True)) / sum(t * t for t in tokens)
        law = "P + G·R" if kind == "ours" else "G·(P + R)"
        axes.plot(groups, [slope * t for t in tokens], color=colour, linewidth=1.2, label=f"proportional to {law}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(groups, [str(g) for g in groups])
    axes.set_xlabel("completions per prompt, G")
    axes.set_ylabel("seconds of a step")
    axes.set_title(f"P = {prompt}, R = {completion}", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8.5)
    figure.tight_layout()
    figure.savefig(path)
