"""How a job takes up the run that its folder holds: begins it, goes on with it, or extends a finished one.

A finished run goes on where `trainer.max_steps` is larger and nothing else differs: from its last checkpoint, in the same
folder, its former summary kept as summary.before-resume-<n>.json. With a constant learning rate it ends as one run of that
length would; any other schedule is from there on that of the longer run, not where the former one ended.
"""

import logging
import os
from dataclasses import asdict

import yaml

from r1reward.data.fingerprint import changes, fingerprint
from r1reward.data.split import Splits
from r1reward.messages import listed
from r1reward.reporting.config_diff import flatten
from r1reward.settings import TrainerSettings, TrainSettings
from r1reward.tracking.config_changes import config_changes
from r1reward.tracking.records import to_yaml
from r1reward.tracking.redaction import redact_tree
from r1reward.tracking.run_folder import RunFolder
from r1reward.trainer.checkpoints import Checkpoints
from r1reward.trainer.tree import load_tree

DATA = "data.json"  # state in the run folder
MAX_STEPS = "trainer.max_steps"
# What a checkpoint brings with it, so that another value would not act, by the beginning of the setting's name.
IN_CHECKPOINTS = {
    "stage": "its optimiser and rollouts are those of the other stage",
    "adapter.": "its weights are those of the former adapter",
    "model.path": "its weights are those of the former model",
    "model.freeze": "its optimiser holds what was trained until then",
    **dict.fromkeys(
        ("trainer.learning_rate", "trainer.weight_decay", "trainer.adam_beta1", "trainer.adam_beta2"),
        "its optimiser goes on with the former one",
    ),
}

# By what the rollouts are cut that a checkpoint brings, where it was written before all of its updates were made.
CUT = (
    "trainer.rollout_batch_size",
    "trainer.train_batch_size",
    "trainer.micro_batch_size",
    "trainer.num_iterations",
    "algorithm.num_generations",
)

logger = logging.getLogger(__name__)


def take_up(run_folder: RunFolder, settings: TrainSettings, command: str, splits: Splits):
    """Begin or take up the run of `settings` in the folder, which is then locked, unless its run is finished.

    Args:
        run_folder: The folder.
        settings: Of the job.
        command: The command line, for the record.
        splits: The job's data.

    Raises:
        ValueError: Settings or data changed since the run began, in a way that was not asked for or cannot be followed.
    """
    if settings.trainer.resume == "restart":
        run_folder.set_aside()
    config = redact_tree(yaml.safe_load(to_yaml(asdict(settings))))
    is_begun = (run_folder.path / "config.yaml").is_file()
    former = run_folder.read_config() if is_begun else config
    changed = config_changes(former, config)
    steps = Checkpoints(run_folder.path / "checkpoints").steps()
    forced = settings.trainer.resume == "force"
    extended = run_folder.finished and _extends(run_folder, former, changed, steps, settings.trainer)
    if extended:
        check_data(run_folder, splits, changeable=False)
        _reopen(run_folder, settings, steps)
    elif steps and forced and not run_folder.finished:
        _check_forced(run_folder, former, settings, changed, steps)
    # Where nothing was computed yet, other settings cost nothing.
    changeable = forced or not steps
    run_folder.open_run(asdict(settings), command, on_change="accept" if changeable or extended else "refuse")
    check_data(run_folder, splits, changeable and not extended)


def _extends(run_folder: RunFolder, former: dict, changed: list[str], steps: list[int], options: TrainerSettings) -> bool:
    """Whether the finished run is to be made longer: by more steps, and nothing else.

    Raises:
        ValueError: It is to be, and cannot.
    """
    longer = [line for line in changed if line.startswith(f"{MAX_STEPS}:")]
    if changed != longer or not longer:
        if changed and options.resume == "force":
            raise ValueError(
                f"{run_folder.path} holds a finished run: trainer.resume=force cannot change what it has computed with:"
                f"\n  {listed(changed)}\nIt can be made longer by a larger {MAX_STEPS} alone. Name another study=..., or set "
                "trainer.resume=restart, which moves the former run aside and begins anew"
            )
        return False
    end = flatten(former)[MAX_STEPS]
    wanted = options.max_steps
    made = run_folder.read_summary().get("steps", end)
    problem = None
    if wanted < end:
        problem = f"it has made {end} steps already, more than {wanted}: name another study=..."
    elif made < end:
        problem = f"it stopped early, at step {made}, before {end} (see its summary): more steps would not be made"
    elif end and not steps:
        problem = "it kept no checkpoint (trainer.save_steps=0): trainer.resume=restart begins it anew"
    if problem:
        raise ValueError(f"{run_folder.path} holds a finished run that {MAX_STEPS}={wanted} cannot extend: {problem}")
    return True


def _reopen(run_folder: RunFolder, settings: TrainSettings, steps: list[int]):
    """Let the finished run be unfinished again, and say what its learning rate does."""
    run_folder.lock()
    summary = run_folder.path / "summary.json"
    number = 1 + len(list(run_folder.path.glob("summary.before-resume-*.json")))
    os.replace(summary, summary.with_name(f"summary.before-resume-{number}.json"))
    t = settings.trainer
    start = f"from its checkpoint of step {steps[-1]}" if steps else "from the start"
    schedule = "The learning rate stays constant, so it ends as one run of that length"
    if not t.lr_scheduler_type.startswith("constant"):
        schedule = (
            f"trainer.lr_scheduler_type={t.lr_scheduler_type}: from there the learning rate is that of a run of {t.max_steps} "
            "steps, which is not where the former schedule ended; for the same numbers as one long run, begin one"
        )
    logger.warning("%s is finished, and is extended to %d steps %s. %s", run_folder.path, t.max_steps, start, schedule)


def _check_forced(run_folder: RunFolder, former: dict, settings: TrainSettings, changed: list[str], steps: list[int]):
    """See that what `trainer.resume=force` lets through can act on a run that goes on from a checkpoint."""
    names = [line.partition(":")[0] for line in changed]
    idle = [f"{name}: {why}" for name in names for start, why in IN_CHECKPOINTS.items() if name.startswith(start)]
    cut = [name for name in names if name in CUT]
    if cut and load_tree(run_folder.path / "checkpoints" / f"checkpoint-{steps[-1]}" / "state-0")["rollouts"] is not None:
        idle += [f"{name}: the updates on its present rollout batch are not all made, and it is cut by this" for name in cut]
    last = settings.trainer.max_steps
    if MAX_STEPS in names and last < steps[-1]:
        idle.append(f"{MAX_STEPS}={last}: it has made {steps[-1]} steps already (of {flatten(former)[MAX_STEPS]})")
    if idle:
        raise ValueError(
            f"trainer.resume=force cannot change what the run in {run_folder.path} has in its checkpoint:\n  {listed(idle)}\n"
            "Give the old values, name another study=..., or set trainer.resume=restart, which moves the former run aside"
        )


def check_data(run_folder: RunFolder, splits: Splits, changeable: bool):
    """See that the rows are those that the run began with, and keep their fingerprint.

    Raises:
        ValueError: They are not, and the run has results that would not be theirs.
    """
    now, former = fingerprint(splits), run_folder.read_state(DATA)
    found = changes(former, now) if former is not None else []
    if found and (run_folder.finished or not changeable):
        run_folder.unlock()
        wanted = "restart, which moves the former run aside" if run_folder.finished else "force, to go on with the new data"
        raise ValueError(
            f"the data changed since the run in {run_folder.path} began:\n  {listed(found)}\n"
            f"name another study=..., give the old data, or set trainer.resume={wanted}"
        )
    if found or former is None:
        run_folder.write_state(DATA, now)
