"""Run folders found on disk, read, and grouped by arm: one variant of a study, run with one or more seeds."""

import re
from dataclasses import dataclass
from pathlib import Path

from r1reward.tracking.run_folder import RunFolder

Evaluation = dict  # one split's entry of summary.json: {"n", "accuracy": {"mean", "low", "high"}, ...}


@dataclass(frozen=True)
class Run:
    """One run folder, read.

    Attributes:
        folder: Where it is.
        study, arm: What it belongs to; from the summary; for an unfinished run from its config or its folder's name.
        seed: None where neither the summary nor the config names one.
        config: The resolved config, nested.
        metrics: One dictionary per optimiser step, numbers as floats (NaN and infinities included).
        samples: The judged samples, in the order written.
        summary: None while the run has not finished.
    """

    folder: Path
    study: str
    arm: str
    seed: int | None
    config: dict
    metrics: list[dict]
    samples: list[dict]
    summary: dict | None

    @property
    def finished(self) -> bool:
        return self.summary is not None

    def evaluation(self, when: str, split: str) -> Evaluation | None:
        """The results on `split` measured `when` ("before" or "after" training); None where that was not measured."""
        return (((self.summary or {}).get("evaluation") or {}).get(when) or {}).get(split)

    def splits(self) -> set[str]:
        evaluations = (self.summary or {}).get("evaluation") or {}
        return {split for results in evaluations.values() for split in results or {}}

    @property
    def collapse(self) -> dict:
        """`{"collapsed", "step", "reason", "skipped_steps"}`; a run without the entry counts as not collapsed."""
        sound = {"collapsed": False, "step": None, "reason": None, "skipped_steps": 0}
        return (self.summary or {}).get("collapse") or sound


def is_run_folder(folder: Path) -> bool:
    return (folder / "summary.json").is_file() or all((folder / f).is_file() for f in ("config.yaml", "metrics.jsonl"))


_HIDDEN = re.compile(r"^\.|\.former-\d+$")  # a run that was set aside for another is looked at by name only


def find_run_folders(folders: list[Path | str]) -> list[Path]:
    """The run folders at or below `folders`, each once, in natural order (`2_b` before `10_a`).

    Raises:
        ValueError: A folder does not exist, or there is no run folder anywhere below them.
    """
    found: dict[Path, Path] = {}
    pending = [Path(folder) for folder in reversed(folders)]
    for folder in pending:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; give run folders or folders above them, for example runs/<study>")
    while pending:
        folder = pending.pop()
        if is_run_folder(folder):  # what lies below a run folder (checkpoints, images) is its own business
            found.setdefault(folder.resolve(), folder)
        else:
            children = [child for child in folder.iterdir() if child.is_dir() and not _HIDDEN.search(child.name)]
            pending.extend(sorted(children, key=lambda child: _natural(child.name), reverse=True))
    if not found:
        places = ", ".join(str(folder) for folder in folders)
        raise ValueError(
            f"no run folder below {places}; a run folder holds summary.json, or config.yaml and metrics.jsonl "
            "while the run goes on"
        )
    return list(found.values())


def load_run(folder: Path | str) -> Run:
    """One run folder, read; files that are missing count as empty."""
    folder = Path(folder)
    files = RunFolder(folder)
    config = files.read_config() if (folder / "config.yaml").is_file() else {}
    metrics, samples = files.read_metrics(), files.read_samples()
    summary = files.read_summary() if (folder / "summary.json").is_file() else None
    # The summary knows best; an unfinished run has only its config, where the names stand under `run` or at the top.
    sources = [(summary or {}).get("run") or {}, config.get("run"), config]
    sources = [source for source in sources if isinstance(source, dict)]

    def named(field: str):
        return next((source[field] for source in sources if source.get(field) not in (None, "")), None)

    return Run(
        folder=folder,
        study=str(named("study") or ""),
        arm=str(named("arm") or folder.name),
        seed=named("seed"),
        config=config,
        metrics=metrics,
        samples=samples,
        summary=summary,
    )


def load_runs(folders: list[Path | str] | Path | str) -> list[Run]:
    """Every run at or below `folders`, finished or not. Raises ValueError where there is none."""
    folders = [folders] if isinstance(folders, str | Path) else list(folders)
    return [load_run(folder) for folder in find_run_folders(folders)]


def group_by_arm(runs: list[Run]) -> tuple[dict[str, list[Run]], list[Run]]:
    """Finished runs by arm, sorted by seed, and the runs that a later run of the same arm and seed replaces.

    Arms keep the order in which they were found. Where the runs come from several studies, an arm is named `study/arm`.
    """
    several = len({run.study for run in runs if run.finished}) > 1
    newest: dict[tuple[str, int | None], Run] = {}
    replaced = []
    for run in runs:
        if not run.finished:
            continue
        key = (f"{run.study or '?'}/{run.arm}" if several else run.arm, run.seed)
        earlier = newest.get(key)
        if earlier is not None and _started(earlier) > _started(run):
            replaced.append(run)
            continue
        if earlier is not None:
            replaced.append(earlier)
        newest[key] = run
    arms: dict[str, list[Run]] = {}
    for (arm, _), run in newest.items():
        arms.setdefault(arm, []).append(run)
    for members in arms.values():
        members.sort(key=lambda run: (run.seed is None, run.seed or 0))
    return arms, replaced


def _started(run: Run) -> str:
    """ISO time of the start; as text it sorts in time."""
    return str(((run.summary or {}).get("run") or {}).get("started") or "")


def _natural(name: str) -> list:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
