"""A run that is killed again and again, wherever it is, ends as one that was left in peace: bit for bit.

The run is the embedded one, with prompts and completions of its real sizes and fewer steps.
"""

import json
import shutil
from signal import SIGKILL, SIGTERM

import pytest
import torch
from safetensors.torch import load_file, save_file

from r1reward.models.loading import embedded_checkpoint
from tests.torture.harness import Command, Start, Strike, Wanted, check_starts, differences, draw, table

COMMON = [
    "study=torture",
    "logger=none",
    "advantage_filter.threshold=2",
    "trainer.samples_every=3",
    "trainer.samples_per_batch=64",
]
CHECKPOINT = ("checkpoint", "sealing")  # its parts are written; it is made whole and takes its name

# 36 rows make two rollout batches of 16 an epoch, each of two updates; checkpoints fall into and between rollout batches.
SHORT = [
    *COMMON, "data.num_train=36", "data.num_eval=4", "trainer.max_steps=8", "trainer.rollout_batch_size=16",
    "trainer.train_batch_size=8", "trainer.micro_batch_size=8", "trainer.save_steps=3",
]  # fmt: skip
LONG = {
    # Four rollout batches an epoch, one update of two micro-steps each; no clip can act.
    "one update": [
        *COMMON, "data.num_train=260", "data.num_eval=60", "clip=none", "trainer.max_steps=8", "trainer.rollout_batch_size=64",
        "trainer.train_batch_size=64", "trainer.micro_batch_size=32", "trainer.save_steps=3", "trainer.eval_steps=2",
    ],
    # Two rollout batches an epoch, four updates each.
    "four updates": [
        *COMMON, "data.num_train=132", "data.num_eval=60", "trainer.max_steps=16", "trainer.rollout_batch_size=64",
        "trainer.train_batch_size=16", "trainer.micro_batch_size=16", "trainer.save_steps=3", "trainer.eval_steps=5",
    ],
}  # fmt: skip
KILLS = [Wanted((phase,), epoch) for phase in ("rollout", "update", "evaluation") for epoch in (0, 1)]
# Besides those, until there are ten; and phases that only a run with a checkpoint has.
MORE_KILLS = {
    "one update": [Wanted(("checkpoint",), 0), Wanted(("sealing",), 1), Wanted(("evaluation before",))],
    "four updates": [
        Wanted(("sealing",), 0),
        Wanted(("checkpoint",), 1),
        Wanted(("final model",)),
        Wanted(("evaluation after",)),
    ],
}
ON_RESUMING = {"one update": ["restoring"], "four updates": []}
STOPS = [
    Wanted(("loading",), signals=(SIGTERM,)),
    Wanted(("evaluation before",), signals=(SIGTERM,)),
    Wanted(("rollout",), 0, signals=(SIGTERM,)),
    Wanted(("update", *CHECKPOINT), signals=(SIGTERM,)),
    Wanted(("rollout", "update"), 1, signals=(SIGTERM, SIGTERM)),
    Wanted(("evaluation after",), signals=(SIGTERM,)),
]


def run_undisturbed(folder, arguments) -> Command:
    """The command, left in peace; it must have learned something, or all runs would be the same."""
    command = Command(folder, arguments)
    start = command.start()
    assert start.code == 0, start.output
    base = load_file(embedded_checkpoint() / "model.safetensors")
    trained = load_file(command.run_folder / "model" / "model.safetensors")
    moved = [name for name in trained if not torch.equal(trained[name], base[name])]
    assert len(moved) > 0.9 * len(trained)
    return command


def run_struck(folder, arguments, strikes: list[Strike]) -> Command:
    """The command, struck as often as there are strikes, then left to come to its end."""
    command = Command(folder, arguments)
    for strike in [*strikes, None]:
        if strike is None and resumed(command.starts):
            leave_remains(command.run_folder / "checkpoints")
        start = command.start(strike)
        finished = (command.run_folder / "summary.json").exists()
        assert finished == (strike is None), start.output
    return command


def leave_remains(folder):
    """What a kill leaves right after the last checkpoint took its name; the moment is too short to hit by chance."""
    (folder / ".partial").mkdir(exist_ok=True)
    (folder / "checkpoint-1").mkdir(exist_ok=True)


def as_the_undisturbed(quiet: Command, struck: Command):
    print(f"\n{' '.join(struck.arguments)}\n{table(struck.starts)}")
    check_starts(struck.starts)
    assert not differences(quiet.run_folder, struck.run_folder)


def resumed(starts: list[Start]) -> int:
    return sum(start.resumed is not None for start in starts)


@pytest.mark.timeout(900)  # six starts, each of which loads torch and its libraries
def test_killed_four_times(tmp_path):
    quiet = run_undisturbed(tmp_path / "quiet", SHORT)
    wanted = [Wanted(("rollout",), 0), Wanted(("update",), 1), Wanted(CHECKPOINT, 1), Wanted(("evaluation after",))]
    struck = run_struck(tmp_path / "struck", SHORT, draw(quiet.starts[0].segments, wanted, seed=19))
    as_the_undisturbed(quiet, struck)
    assert resumed(struck.starts) >= 3
    # The comparison sees the smallest difference.
    other = tmp_path / "other"
    shutil.copytree(struck.run_folder, other)
    weights = load_file(other / "model" / "model.safetensors")
    first = min(weights)
    weights[first].view(torch.int32 if weights[first].dtype == torch.float32 else torch.int16).view(-1)[0] ^= 1
    save_file(weights, other / "model" / "model.safetensors", {"format": "pt"})
    lines = (other / "metrics.jsonl").read_text().splitlines()
    row = json.loads(lines[3])
    (other / "metrics.jsonl").write_text("\n".join([*lines[:3], json.dumps(row | {"loss": row["loss"] + 1e-9}), *lines[4:]]))
    assert [line.split(":")[0] for line in differences(quiet.run_folder, other)] == ["weights", "metrics of step 4, loss"]


@pytest.fixture(scope="module", params=LONG)
def long_run(request, tmp_path_factory) -> tuple[str, Command]:
    return request.param, run_undisturbed(tmp_path_factory.mktemp("quiet") / "run", LONG[request.param])


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_killed_ten_times(long_run, tmp_path):
    """In both epochs while it samples, updates, writes a checkpoint and evaluates, and in two other places."""
    name, quiet = long_run
    strikes = draw(quiet.starts[0].segments, [*KILLS, *MORE_KILLS[name]], seed=1, again=ON_RESUMING[name])
    assert len(strikes) == 10 and all(strike.signals == (SIGKILL,) for strike in strikes)
    struck = run_struck(tmp_path / "struck", quiet.arguments, strikes)
    as_the_undisturbed(quiet, struck)
    assert resumed(struck.starts) >= 6


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_stopped_by_signals(long_run, tmp_path):
    """Stopped with a checkpoint, or at once by a second signal; before and after the training too."""
    _, quiet = long_run
    strikes = draw(quiet.starts[0].segments, STOPS, seed=2, steps_between=2)
    struck = run_struck(tmp_path / "struck", quiet.arguments, strikes)
    as_the_undisturbed(quiet, struck)
    assert resumed(struck.starts) >= 3
