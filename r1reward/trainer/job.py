"""One training job from settings to a finished run folder: evaluate, train, evaluate again, record.

The run folder follows from the config, so the same command finds its own run and goes on where it was stopped:

    before.json              accuracy before training    -> is not measured again
    checkpoints/             weights and all states      -> training goes on at the newest whole one
    model/, summary.json     the end                     -> a finished run is shown, not repeated; more steps extend it
"""

import hashlib
import json
import math
import os
import shutil
import time
import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from r1reward.benchmarks.accuracy import measure, num_completions
from r1reward.data.build import bad_images, build_splits, training_dataset
from r1reward.data.fingerprint import fingerprint
from r1reward.data.marks import marks_of
from r1reward.data.rows import PREFERENCE, Row
from r1reward.data.split import Splits
from r1reward.inference.reward_model import RewardModel
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.inference.vllm_backend import INSTALL_VLLM
from r1reward.models.adapters import adapter_config, check_adapter, merge_adapter, quantization
from r1reward.models.coordinates import Coordinates, coordinates_of
from r1reward.models.loading import EMBEDDED, load_config, load_model, load_processor, pixel_limits
from r1reward.rewards.build import build_reward
from r1reward.rewards.judges.server import check_server
from r1reward.rewards.preference import PATTERN
from r1reward.rewards.registry import Context
from r1reward.rewards.tasks import CompositeReward
from r1reward.settings import TrainSettings
from r1reward.tracking.run_folder import RunFolder, git_commit, versions
from r1reward.tracking.trackers import NullTracker, Tracker, build_tracker, check_tracker
from r1reward.trainer.arguments import trainer_arguments
from r1reward.trainer.checkpoints import bring_to_disk
from r1reward.trainer.collapse import Collapse, find_collapse
from r1reward.trainer.config import StableReinforceConfig
from r1reward.trainer.memory import keep_freed_memory
from r1reward.trainer.signals import StopSignals
from r1reward.trainer.taking_up import take_up
from r1reward.trainer.targets import Targets, check_targets, reward_of_targets

BEFORE = "before.json"  # state in the run folder


@dataclass
class Job:
    """A job whose settings and data were checked: `Job.prepare(...)` raises what a user can mend, `run()` does the work.

    With several processes each has a `Job`, and the main one writes the run folder.
    """

    settings: TrainSettings
    command: str
    arguments: StableReinforceConfig
    splits: Splits
    reward: CompositeReward
    run_folder: RunFolder
    targets: Targets | None = None  # of supervised training

    @classmethod
    def prepare(cls, settings: TrainSettings, folder: str | Path, command: str) -> "Job":
        """Check settings and data, and begin or take up the run in its folder.

        Args:
            settings: Everything about the job.
            folder: Its run folder.
            command: The command line, for the record.

        Raises:
            ValueError: For wrong settings or data, before anything trains, or where they changed since the run began.
            ServerDown: The judge is behind a server that does not answer.
        """
        arguments = trainer_arguments(settings, folder)
        check_adapter(settings.adapter, settings.model)
        load_config(settings.model)
        check_installed(settings)
        if PartialState().is_main_process:  # the one that has a tracker
            check_tracker(settings.logger.kind)
        splits = build_splits(settings.data, settings.template, marks_of(load_processor(settings.model)))
        evaluated = splits.evaluation.values() if settings.trainer.evaluate else ()
        scored = [row for rows in evaluated for row in rows if row.task != PREFERENCE]  # pairs are judged without a reward
        reward = build_reward(settings.reward, [*splits.train, *scored], context_of(settings))
        check_rows(settings, splits)
        targets = build_targets(settings, splits.train) if settings.stage == "sft" else None
        run_folder = RunFolder(folder)
        if PartialState().is_main_process:
            take_up(run_folder, settings, command, splits)
            if not run_folder.finished and asks_server(settings, splits):
                check_server(settings.reward.judge.base_url, settings.reward.judge.timeout)
        return cls(settings, command, arguments, splits, reward, run_folder, targets)

    @property
    def finished(self) -> bool:
        """Whether the run was finished before: then there is nothing to run."""
        return on_main(lambda: self.run_folder.finished)

    def run(self, signals: StopSignals | None = None) -> dict:
        """Evaluate, train, evaluate again; returns the summary, which is also in `summary.json`.

        Args:
            signals: Those that stop the training at its next micro-step, with a checkpoint.

        Raises:
            Stopped: A signal came; the same job goes on from here.
            NumericalTrouble, TooManyFailures, ImageError, OSError: The run cannot go on; its checkpoints stay.
        """
        try:
            return self._run(signals or StopSignals())
        finally:
            self.run_folder.unlock()

    def _run(self, signals: StopSignals) -> dict:
        keep_freed_memory()
        settings, clock = self.settings, time.perf_counter()
        processor, model = load_processor(settings.model), load_model(settings.model, quantization(settings.adapter))
        model = model.to(self.arguments.device)
        seconds = {"evaluation": 0.0, "training": 0.0}
        with self._tracker() as tracker:
            with _timed(seconds, "evaluation"):
                before = self._before(model, processor)
            collapse, after = Collapse(), before
            if settings.trainer.max_steps > 0:
                with _timed(seconds, "training"):
                    collapse = self._train(model, processor, tracker, signals)
                with _timed(seconds, "evaluation"):
                    after = self._evaluate(model, processor, "accuracy after training")
            if self._main:
                metrics, starts = self.run_folder.read_metrics(), self.run_folder.begun()
                results = {
                    "evaluation": {"before": before, "after": after},
                    "collapse": asdict(collapse),
                    "steps": metrics[-1]["step"] if metrics else 0,
                    "seconds": {"total": time.perf_counter() - clock, **seconds},  # of the latest start
                }
                run = {
                    "name": self._name,
                    "study": settings.study,
                    "arm": settings.arm,
                    "seed": settings.seed,
                    "stage": settings.stage,
                    "git_commit": git_commit(),
                    "command": self.command,
                    "started": starts["started"],
                    "processes": self.arguments.world_size,
                    "versions": versions(),
                }
                self.run_folder.write_summary({"run": run, **results})
                tracker.summary(results)
            return on_main(self.run_folder.read_summary)

    @property
    def _main(self) -> bool:
        return PartialState().is_main_process

    @property
    def _name(self) -> str:
        return f"{self.settings.arm}-s{self.settings.seed}"

    @property
    def _pattern(self) -> str:
        """How verdicts are parsed."""
        return PATTERN[self.settings.reward.semantics]

    def _tracker(self) -> Tracker:
        settings = self.settings
        if not self._main:
            return NullTracker()
        return build_tracker(
            settings.logger.kind,
            project=settings.logger.project,
            study=settings.study,
            name=self._name,
            arm=settings.arm,
            seed=settings.seed,
            tags=[settings.algorithm.name, *settings.logger.tags],
            config=asdict(settings),
            folder=str(self.run_folder.path),
        )

    def _train(self, model, processor, tracker: Tracker, signals: StopSignals) -> Collapse:
        """Train the model in place, from the newest checkpoint if there is one; says whether the run collapsed."""
        from transformers import PrinterCallback

        from r1reward.trainer.callbacks import HeldOutAccuracy, MetricsRecorder, ProgressBar, StopOnSignal
        from r1reward.trainer.samples import SampleWriter
        from r1reward.trainer.step_guard import StepGuard

        settings, options = self.settings, self.settings.trainer
        if self.arguments.use_vllm and (limits := pixel_limits(settings.model, processor)):
            engine = {"mm_processor_kwargs": limits}  # the engine loads a processor of its own
            self.arguments.vllm_engine_kwargs = engine | (self.arguments.vllm_engine_kwargs or {})
        build_trainer, reward = self._stage()
        guard = StepGuard(self.run_folder.path, options.on_collapse, options.max_skipped_steps)
        samples = SampleWriter(self.run_folder, options.samples_every, options.samples_per_batch, self._pattern)
        trainer = build_trainer(
            model=model,
            reward_funcs=reward,
            args=self.arguments,
            on_rollouts=samples,
            step_guard=guard,
            bad_images=bad_images(settings.data),
            stateful={"samples": samples, "record": Record(self.run_folder, self._main)},
            train_dataset=training_dataset(self.splits.train * uses_per_epoch(settings, self.splits)),
            processing_class=processor,
            peft_config=adapter_config(model, settings.adapter, settings.model),
            callbacks=[MetricsRecorder(self.run_folder, tracker), ProgressBar(), StopOnSignal(signals)],
        )
        trainer.remove_callback(PrinterCallback)  # it prints raw metric dictionaries
        if options.eval_steps:
            accuracy = partial(self._evaluate, model, processor)
            trainer.add_callback(HeldOutAccuracy(trainer, options.eval_steps, accuracy))
        checkpoint = on_main(trainer.checkpoints.newest)
        if checkpoint is None and self._main:
            self.run_folder.rewind(None)
        with signals.deferred():
            trainer.train(resume_from_checkpoint=checkpoint)
        if options.save_model:
            self._save_model(trainer)
        found = on_main(lambda: find_collapse(self.run_folder.read_metrics()))
        return guard.collapse or found

    def _stage(self):
        """What builds the trainer of the stage, and the reward of what it trains on."""
        if self.settings.stage == "rl":
            from r1reward.trainer.stable_reinforce import StableReinforceTrainer

            return StableReinforceTrainer, self.reward
        from r1reward.trainer.supervised import SupervisedTrainer

        reward = build_reward(reward_of_targets(self.settings.reward), self.splits.train, context_of(self.settings))
        return partial(SupervisedTrainer, target=self.targets), reward

    def _save_model(self, trainer):
        """Write the final weights, whole or not at all; adapters merged into them."""
        final = self.run_folder.path / "model"
        partial_folder = final.with_name("model.partial")
        trainer.save_model(str(partial_folder))
        trainer.accelerator.wait_for_everyone()
        if self._main:
            if self.settings.adapter.kind != "none":
                merge_adapter(load_model(self.settings.model), partial_folder)
            bring_to_disk(partial_folder)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial_folder, final)

    def _before(self, model, processor) -> dict:
        """Accuracy before training, measured once: kept with what it was measured on and with."""
        settings, t = self.settings, self.settings.trainer
        groups = [asdict(group) for group in (settings.model, settings.adapter, settings.reward)]
        rows = fingerprint(Splits([], self.splits.evaluation))
        measured = [*groups, t.evaluate, t.bf16, t.eval_batch_size, t.max_completion_length, rows]
        digest = hashlib.sha256(json.dumps(measured).encode()).hexdigest()
        kept = on_main(lambda: self.run_folder.read_state(BEFORE))
        if kept is not None and kept["of"] == digest:
            return kept["evaluation"]
        evaluation = self._evaluate(model, processor, "accuracy before training")
        if self._main:
            self.run_folder.write_state(BEFORE, {"of": digest, "evaluation": evaluation})
        return evaluation

    @property
    def _precision(self):
        """What a run computes in, evaluations as rollouts and updates: 16 bits over the weights', or the weights' own."""
        import torch

        return torch.bfloat16 if self.arguments.bf16 else torch.float16 if self.arguments.fp16 else None

    def _evaluate(self, model, processor, title: str) -> dict:
        """Summary by split (see `measure`); empty where evaluation is off or nothing is held out."""
        from tqdm.auto import tqdm

        options, splits = self.settings.trainer, self.splits.evaluation
        if not options.evaluate or not splits:
            return {}
        limits = bad_images(self.settings.data).limits
        backend = TransformersBackend(model, processor, limits, self._precision)
        reward_model = RewardModel(backend, self._pattern)
        reward_model.check_images(row for rows in splits.values() for row in rows)
        sizes = options.eval_batch_size, options.max_completion_length
        total = sum(map(num_completions, splits.values()))
        with tqdm(total=total, desc=title, unit="completion", disable=not self._main) as bar:
            return {
                split: measure(reward_model, rows, self.reward, *sizes, bar.update, limits) for split, rows in splits.items()
            }


@dataclass(frozen=True)
class Record:
    """How far the run folder's files were at a checkpoint, as a state of the trainer; the main process's affair."""

    run_folder: RunFolder
    main: bool

    def state_dict(self) -> dict:
        return self.run_folder.position() if self.main else {}

    def load_state_dict(self, position: dict):
        if self.main:
            self.run_folder.rewind(position)


def on_main(function):
    """What `function` returns on the main process, on all processes."""
    value = [function() if PartialState().is_main_process else None]
    return broadcast_object_list(value)[0]


def check_rows(settings: TrainSettings, splits: Splits):
    """Raise a ValueError where the rows do not fit what was asked, and warn where they are few, or nothing for the model."""
    t, times = settings.trainer, uses_per_epoch(settings, splits)
    if t.max_steps and times > 1:
        warnings.warn(
            f"{len(splits.train)} training rows x {settings.algorithm.num_generations} rollouts do not fill a rollout batch of "
            f"{t.rollout_batch_size}: each row is used {times} times per epoch",
            stacklevel=2,
        )
    readers = {settings.data.reader, *(source.reader for source in settings.data.sources.values())} - {"mixed"}
    if settings.model.path in EMBEDDED and readers != {"shapes"}:
        warnings.warn(
            f"model.path={settings.model.path} has seen nothing but the generated shapes world (data=shapes): with others it "
            "shows that they are read and that a run goes through, but it cannot judge them, and learns nothing of use from "
            "them. To train on rows of your own choose a real model, such as model=qwen2_5_vl_3b trainer=paper",
            stacklevel=2,
        )
    if t.keep_best and "held_out" not in splits.evaluation:
        raise ValueError("trainer.keep_best compares held-out accuracy, and no rows are held out: set trainer.keep_best=0")


def uses_per_epoch(settings: TrainSettings, splits: Splits) -> int:
    """How often each training row is used in an epoch: once, or as often as it takes to fill one rollout batch."""
    return math.ceil(settings.trainer.rollout_batch_size / (len(splits.train) * settings.algorithm.num_generations))


def build_targets(settings: TrainSettings, rows: list[Row]) -> Targets:
    """The targets of supervised training, each of them written once.

    Raises:
        ValueError: For rows whose targets cannot be written, or are longer than a completion may be.
    """
    targets = Targets.of(settings.reward, rows, partial(policy_coordinates, settings))
    tokenizer = load_processor(settings.model).tokenizer
    check_targets(targets, rows, tokenizer, settings.trainer.max_completion_length, bad_images(settings.data).limits)
    return targets


def context_of(settings: TrainSettings) -> Context:
    """What rewards need to know of the policy."""
    return Context(coordinates=partial(policy_coordinates, settings))


def policy_coordinates(settings: TrainSettings) -> Coordinates:
    """How the policy writes boxes."""
    model = settings.model
    config = load_config(model)
    return coordinates_of(config.model_type, load_processor(model), model.coordinates, model.family)


def asks_server(settings: TrainSettings, splits: Splits) -> bool:
    """Whether the run will ask a judge behind a server: about the reasoning of pairs, or about answers."""
    if settings.reward.judge.kind != "openai" or settings.stage != "rl" or not settings.trainer.max_steps:
        return False
    tasks = {row.task for row in splits.train}
    terms = [item for task in tasks if task in settings.reward.tasks for item in settings.reward.tasks[task].terms.items()]
    return PREFERENCE in tasks or any((term.function or name) == "judged" for name, term in terms)


def check_installed(settings: TrainSettings):
    """Raise a ValueError with the command to type where an optional package is asked for and missing."""
    if settings.logger.kind == "trackio" and find_spec("trackio") is None:
        raise ValueError("trackio is not installed: pip install trackio, or set logger=wandb or logger=none")
    if settings.trainer.use_vllm and settings.stage == "rl" and find_spec("vllm") is None:
        raise ValueError(f"vllm is not installed: {INSTALL_VLLM}, or set trainer.use_vllm=false")


@contextmanager
def _timed(seconds: dict, key: str):
    start = time.perf_counter()
    yield
    seconds[key] += time.perf_counter() - start
