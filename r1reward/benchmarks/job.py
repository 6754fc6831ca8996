"""One evaluation from settings to a finished folder: read, judge what is not judged yet, score, report.

config.yaml     what was asked for             verdicts.jsonl   every verdict, as it came
evidence.json   digests of rows and weights    items.jsonl      what marking an item takes
results.json    the numbers, and nothing else: the same for the same verdicts, however often the run was interrupted
row.md          a row for a README, beside the published numbers
mistakes.html   what it got wrong, with images and reasoning
run.json        command, versions, times
"""

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from r1reward.benchmarks.engine import Verdicts, judge, plan, read_vote
from r1reward.benchmarks.evidence import claim
from r1reward.benchmarks.items import Benchmark
from r1reward.benchmarks.preference_files import preference_file, shapes_benchmark
from r1reward.benchmarks.protocols import check_votes, requests
from r1reward.benchmarks.read import read_benchmark
from r1reward.benchmarks.report import write_reports
from r1reward.benchmarks.scores import summarise
from r1reward.benchmarks.settings import BenchmarkSettings, EvaluateSettings
from r1reward.benchmarks.tasks import READINGS, TASKS, read_rows, task_results, write_task_report
from r1reward.benchmarks.verdicts import Table, Vote
from r1reward.data.marks import marks_of, marks_of_known_families, shown_as_text
from r1reward.data.prompts import prompt_digest
from r1reward.data.rows import Row
from r1reward.inference.backend import Backend
from r1reward.inference.reward_model import RewardModel
from r1reward.models.loading import load_model, load_processor
from r1reward.tracking.lock import FolderLock
from r1reward.tracking.provenance import git_commit, versions
from r1reward.tracking.records import write_whole


def read(settings: BenchmarkSettings) -> Benchmark:
    """The items to judge.

    Raises:
        ValueError: With file, row, field and remedy; `MissingFiles` for missing images.
    """
    if settings.name == "shapes":
        benchmark = shapes_benchmark(settings.split, settings.num, settings.seed, settings.levels, settings.prompt)
    elif settings.path is None:
        raise ValueError(f"benchmark.path is not set: give the folder, file or hub id of {settings.name}")
    elif settings.name == "preferences":
        benchmark = preference_file(settings.path, settings.image_root)
    else:
        benchmark = read_benchmark(
            settings.name, settings.path, settings.image_root, settings.prompt, settings.missing, settings.num_frames,
            settings.check_sizes,
        )  # fmt: skip
    if settings.limit is None:
        return benchmark
    if settings.limit < 1:
        raise ValueError(f"benchmark.limit must be at least 1 item, got {settings.limit}")
    return replace(benchmark, items=benchmark.items[: settings.limit])


def evaluate(
    settings: EvaluateSettings,
    folder: str | Path,
    command: str,
    on_start: Callable[[int, int], None] = lambda total, done: None,
    on_progress: Callable[[int], None] = lambda verdicts: None,
) -> dict:
    """Judge, score and report; returns the results, which are also in `results.json`.

    Run again with the same settings in the same folder, it goes on where it was; of a finished evaluation only the reports are
    written anew, also with another pattern, protocol or buckets. Rows, images or weights that are no longer those of the
    folder's verdicts are an error (`evidence`). Processes started by `accelerate launch` share the work; the first one waits
    for the others and reports, the others return an empty dictionary.

    Args:
        folder: The evaluation's folder.
        command: The command line, for the record.
        on_start: Called once with the number of this process's verdicts, and of those that the folder already holds.
        on_progress: Called with the number of verdicts just made.

    Raises:
        ValueError: For wrong settings or data, or where another process is at work in the folder; before anything is judged.
    """
    folder, started = Path(folder), time.perf_counter()
    if settings.benchmark.name in TASKS:
        _check_task(settings)
        rows = read_rows(settings.benchmark, settings.template)
        wanted = [(row.id, "forward") for row in rows]
    else:
        if settings.template:
            raise ValueError(f"template has no effect on {settings.benchmark.name}, which has judge prompts; set template=none")
        benchmark = read(settings.benchmark)
        check_votes(benchmark, settings.protocol, settings.votes)
        rows, wanted = [item.row for item in benchmark.items], requests(benchmark, settings.protocol, settings.seed)
    with nullcontext() if int(os.environ.get("RANK", 0)) else FolderLock(folder):
        votes, made = _all_votes(settings, folder, rows, wanted, on_start, on_progress)
        if votes is None:
            return {}
        if settings.benchmark.name in TASKS:
            results = task_results(settings, rows, votes)
        else:
            table = Table.build(benchmark.items, votes, wanted, settings.votes)
            results = {
                "complete": benchmark.is_complete,
                "edition": benchmark.edition,
                "notes": benchmark.notes,
                "prompt": _prompt(settings.benchmark),
                "size_problems": benchmark.size_problems(),
            } | summarise(benchmark, table, settings.protocol, settings.buckets, settings.seed)
        write_whole(folder / "results.json", json.dumps(results, indent=2) + "\n")
        record = {
            "command": command,
            "model": settings.model.path,
            "git_commit": git_commit(),
            "versions": versions(),
            "seconds": time.perf_counter() - started,
            "verdicts_made": made,
        }
        write_whole(folder / "run.json", json.dumps(record, indent=2) + "\n")
        if settings.benchmark.name in TASKS:
            write_task_report(folder, settings.model.path, results)
        else:
            write_reports(folder, settings.model.path, benchmark, votes, results, settings.mistakes)
    return results


def _all_votes(
    settings: EvaluateSettings,
    folder: Path,
    rows: list[Row],
    wanted: list[tuple[str, str]],
    on_start: Callable[[int, int], None],
    on_progress: Callable[[int], None],
) -> tuple[list[Vote] | None, int]:
    """Judge what the folder does not hold yet. Returns all votes, None in processes but the first, and how many were made."""
    sampling = settings.sampling()
    units = plan(rows, wanted, settings.votes, settings.batch_size)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    taken_from = claim(folder, settings, rows, rank, world)
    if taken_from is not None:
        print(f"verdicts of the same model on the same rows are taken from {taken_from}")
    verdicts = Verdicts(folder, units, settings.votes, rank)
    done, mine = verdicts.finished(), units[rank::world]
    to_do = [unit for unit in mine if unit.number not in done]
    total, left = (settings.votes * sum(len(unit.requests) for unit in some) for some in (mine, to_do))
    if to_do:
        max_images = max(len(row.images) for row in rows)
        reward_model = RewardModel(build_backend(settings, max_images), settings.reading())
        rows = shown_as_text(rows, marks_of_model(settings))
        reward_model.check_images(rows)
    on_start(total, total - left)
    if to_do:
        judge(reward_model, rows, to_do, verdicts, settings.votes, sampling, settings.seed, on_progress)
    if rank > 0:
        return None, left
    while len(verdicts.finished()) < len(units):
        time.sleep(0.5)  # for the other processes; if one dies, the launcher ends all
    if settings.benchmark.name not in TASKS:
        verdicts.read_again(lambda vote: read_vote(vote, settings.reading()))
    return verdicts.votes(), left


def marks_of_model(settings: EvaluateSettings) -> re.Pattern:
    """The control tokens of the model: its own, or, behind a server, those of all known families."""
    return marks_of_known_families() if settings.backend.kind == "openai" else marks_of(load_processor(settings.model))


def _prompt(settings: BenchmarkSettings) -> dict[str, str] | None:
    """Name and digest of the judge prompt; None where the rows bring their own."""
    if settings.name == "preferences":
        return None
    return {"name": settings.prompt, "digest": prompt_digest(settings.prompt)}


def _check_task(settings: EvaluateSettings):
    """Referring expressions and detections have no orders and no votes.

    Raises:
        ValueError: For a setting that could not act.
    """
    if settings.benchmark.reading not in READINGS[settings.benchmark.name]:
        allowed = ", ".join(READINGS[settings.benchmark.name])
        raise ValueError(f"benchmark.reading={settings.benchmark.reading}: {settings.benchmark.name} has {allowed}")
    if settings.votes != 1 or settings.protocol != "both_orders" or settings.buckets != "official":
        raise ValueError(f"votes, protocol and buckets have no effect on {settings.benchmark.name}: leave them as they are")


def build_backend(settings: EvaluateSettings, max_images: int) -> Backend:
    """What runs the reward model on prompts of at most `max_images` images.

    Raises:
        ValueError: For a missing package or wrong settings.
        ServerFailed: Nobody answers at the server's address.
    """
    backend = settings.backend
    if backend.kind == "openai":
        from r1reward.inference.server_backend import ServerBackend

        server = ServerBackend(
            settings.model.path,
            backend.base_url,
            backend.api_key_env,
            backend.concurrency,
            backend.timeout,
            backend.attempts,
            settings.model.min_pixels,
            settings.model.max_pixels,
        )
        server.check_connection()
        return server
    if backend.kind == "vllm":
        from r1reward.inference.vllm_backend import INSTALL_VLLM, VllmBackend

        if find_spec("vllm") is None:
            raise ValueError(f"vllm is not installed: {INSTALL_VLLM}, or set backend=transformers")
        return VllmBackend(settings.model, backend.gpu_memory, backend.tensor_parallel, max_images, backend.engine_kwargs)
    import torch

    from r1reward.inference.transformers_backend import TransformersBackend

    own_gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    return TransformersBackend(load_model(settings.model).to(own_gpu), load_processor(settings.model))
