"""What the verdicts of a folder were made from: the settings that decide them, the rows with their images, the weights.

`config.yaml` holds the settings, `evidence.json` a digest of each row and of each file of the weights. An evaluation goes on in
a folder, or reports again what it holds, only where all three are the same.
"""

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from hashlib import file_digest
from pathlib import Path

import yaml

from r1reward.benchmarks.settings import EvaluateSettings
from r1reward.data.fingerprint import changes, fingerprint
from r1reward.data.rows import Row
from r1reward.data.split import Splits
from r1reward.models.loading import resolve
from r1reward.reporting.config_diff import flatten
from r1reward.tracking.records import write_whole

CONFIG, EVIDENCE = "config.yaml", "evidence.json"
# How stored verdicts are read and reported, and how patiently a server is asked: none of these decides what a model writes.
# The protocol says which orders are judged; orders that are stored need not be judged again.
NOT_DECISIVE = {"mistakes", "overwrite", "buckets", "protocol", "pattern", "benchmark.reading", "backend.gpu_memory"} | {
    f"backend.{name}" for name in ("base_url", "api_key_env", "concurrency", "timeout", "attempts")
}
ANEW = "Set hydra.run.dir to another folder, or overwrite=true to start it anew."


def claim(folder: Path, settings: EvaluateSettings, rows: list[Row], rank: int, world: int) -> Path | None:
    """See that the folder holds nothing, or an evaluation of the same rows with the same weights and settings; the first
    process writes down what these are.

    A new folder is given the verdicts of a folder beside it that holds them for another protocol or pattern.

    Returns:
        The folder that verdicts were taken from, None if there was none.

    Raises:
        ValueError: With the settings, rows or files that differ.
    """
    path = folder / CONFIG
    mine = {name: value for name, value in asdict(settings).items() if name != "overwrite"}
    if settings.overwrite and world > 1:
        raise ValueError("overwrite=true needs one process, or one would delete what another has begun")
    while rank > 0 and not path.is_file():
        time.sleep(0.1)  # for the first process; if it fails, the launcher ends all
    if path.is_file() and not settings.overwrite:
        _refuse_other_settings(folder, mine)
    if rank > 0:
        return None
    source = None
    if path.is_file() and not settings.overwrite:
        known = _read_evidence(folder)
        now = evidence(settings, rows, known.get("weights"))
        if lines := _differences(known, now):
            raise ValueError(
                "\n  ".join([f"{folder} holds an evaluation of other data or weights than these:", *lines]) + f"\n{ANEW}"
            )
    else:
        for old in folder.glob("verdicts*.jsonl"):
            old.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        now = evidence(settings, rows)
        if not settings.overwrite:
            source = _take_over(folder, mine, now)
    write_whole(folder / EVIDENCE, json.dumps(now) + "\n")
    write_whole(path, yaml.safe_dump(mine, sort_keys=False))  # last: it is what makes this an evaluation's folder
    return source


def evidence(settings: EvaluateSettings, rows: list[Row], known: dict | None = None) -> dict:
    """Digests of the rows and of the weights, plain JSON values.

    Args:
        settings: The evaluation's.
        rows: Its rows.
        known: The weights' part of an earlier record: a file that has not been touched since is not read again.
    """
    return {"data": fingerprint(Splits([], {"data": rows})), "weights": weights(settings, known)}


def weights(settings: EvaluateSettings, known: dict | None = None) -> dict[str, dict]:
    """By the name of each file of the model's folder, its SHA-256 and `stat`, by which an untouched file is known again.

    A hub id names the commit that lies in the cache; nothing is known of one that is yet to be downloaded, nor of a server's.
    """
    if settings.backend.kind == "openai":
        return {}
    known, folder = known or {}, Path(resolve(settings.model.path))
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(str(folder), "config.json")
        return {"commit": {"digest": Path(config).parent.name}} if isinstance(config, str) else {}
    files = sorted(path for path in folder.iterdir() if path.is_file())

    def digest(path: Path) -> dict:
        stat = path.stat()
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        if known.get(path.name, {}).get("stat") == seen:
            return known[path.name]
        with open(path, "rb") as file:
            return {"digest": file_digest(file, "sha256").hexdigest(), "stat": seen}

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return dict(zip([path.name for path in files], pool.map(digest, files), strict=True))


def _refuse_other_settings(folder: Path, mine: dict):
    lines = _other_settings(yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")), mine)
    if lines:
        raise ValueError("\n  ".join([f"{folder} holds an evaluation with other settings:", *lines]) + f"\n{ANEW}")


def _other_settings(theirs: dict, mine: dict) -> list[str]:
    theirs, now = flatten(theirs), flatten(mine)
    return [
        f"{name}: {theirs.get(name)!r} there, {now.get(name)!r} now"
        for name in sorted(theirs.keys() | now.keys())
        if name not in NOT_DECISIVE and theirs.get(name) != now.get(name)
    ]


def _read_evidence(folder: Path) -> dict:
    try:
        return json.loads((folder / EVIDENCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(
            f"{folder} does not say of which data and weights its verdicts are ({EVIDENCE} is missing or damaged). {ANEW}"
        ) from None


def _differences(known: dict, now: dict) -> list[str]:
    """One line for each kind of change."""
    lines = changes(known["data"], now["data"])
    before, after = known["weights"], now["weights"]
    names = sorted(
        name for name in before.keys() | after.keys() if before.get(name, {}).get("digest") != after.get(name, {}).get("digest")
    )
    if before and after and names:  # else one of them is not known
        lines.append(f"weights: {', '.join(names)} changed")
    return lines


def _take_over(folder: Path, mine: dict, now: dict) -> Path | None:
    """Copy the verdicts of a folder beside this one that differs in nothing that decides them; which one, if any."""
    for path in sorted(folder.parent.glob(f"*/{CONFIG}")):
        beside = path.parent
        try:
            if beside == folder or _other_settings(yaml.safe_load(path.read_text(encoding="utf-8")), mine):
                continue
            if _differences(_read_evidence(beside), now):
                continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
            continue  # not an evaluation, or a damaged one
        for verdicts in sorted(beside.glob("verdicts*.jsonl")):
            shutil.copyfile(verdicts, folder / verdicts.name)
        return beside
    return None
