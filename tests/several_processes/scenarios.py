"""What is trained once by one process and once by two, on the same global rollout batches, and what is kept of it.

Sampling differs between processes on purpose, so a rule replaces it: a completion is a function of its prompt and of its place
in the group. Everything after it is the trainer's.

Shapes: N rows of the global rollout batch; process p holds the p-th part of them.
"""

import dataclasses
import os
import pickle
import random
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PrinterCallback, Qwen2_5_VLForConditionalGeneration, TrainerCallback

from r1reward.data.build import training_dataset
from r1reward.data.rows import TaskRow
from r1reward.data.shapes.rows import preference_row
from r1reward.models.tiny import build_model, build_processor, tokenizer_corpus
from r1reward.rewards.judges.rule import RuleJudge
from r1reward.rewards.preference import PreferenceReward
from r1reward.rewards.tasks import RoutedReward, TaskReward, Term
from r1reward.trainer.config import SettingHasNoEffect, StableReinforceConfig
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from r1reward.trainer.step_guard import StepGuard
from tests.quiet import QUIET
from tests.trainer.conftest import letters

LONGEST = 8  # tokens of a completion
CLOCK = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "epoch")
CLOCK += ("eval_model_preparation_time", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")

Reward = Callable[[list, int, dict], list]  # (completions, global number of the first, columns) -> one number each


def letters_with_an_outlier(completions, first, columns):
    """Rewards of 0 to 6, but 50 for one row."""
    return [50.0 if first + row == 13 else value for row, value in enumerate(letters(completions))]


def around_two(completions, first, columns):
    """Rewards of 1 to 3: the released filter then keeps z between -1 and 5."""
    return [1 + value / 3 for value in letters(completions)]


def constant_in_the_second_group(completions, first, columns):
    return [1.0 if (first + row) // 4 == 1 else value for row, value in enumerate(letters(completions))]


def constant_in_the_second_half(completions, first, columns):
    return [1.0 if first + row >= 8 else value for row, value in enumerate(letters(completions))]


def unscorable_in_the_second_half(completions, first, columns):
    return [None if first + row >= 8 else value for row, value in enumerate(letters(completions))]


@dataclass(frozen=True)
class Scenario:
    """One training.

    Attributes:
        changes: Arguments of the trainer that differ from the usual ones.
        rollouts: N.
        micro_batches: Into how many micro-batches each process cuts its part of one update.
        reward: The reward.
        composite: Makes a composite reward, in the place of the former.
        rows: Makes the data set's rows of the usual ones.
        lengths: Gives the largest length of a completion, in tokens, by its global number.
        verdicts: Whether completions are verdicts of the embedded kind instead of letters.
        evaluate: Rows of an evaluation at the end.
        poisoned: Number of a row of the first rollout batch whose old log-probability is NaN; the step guard is then on.
        steps: Optimiser steps.
        dtype: Of the model.
        close: How far the first gradients may lie apart, relative to the largest.
    """

    changes: dict = field(default_factory=dict)
    rollouts: int = 16
    micro_batches: int = 1
    reward: Reward = letters_with_an_outlier
    composite: Callable[[], object] | None = None
    rows: Callable[[list], list] = lambda rows: rows
    lengths: Callable[[int], int] = lambda row: LONGEST
    verdicts: bool = False
    evaluate: int = 0
    poisoned: int | None = None
    steps: int = 3
    dtype: torch.dtype = torch.float64
    close: float = 1e-6


def preference_reward():
    return PreferenceReward(judge=RuleJudge())


def routed_reward():
    def short(completions, **columns):
        return [float(len(c[0]["content"]) < 30) for c in completions]

    return RoutedReward({"preference": preference_reward(), "word": TaskReward([Term("short", short)])})


def tasks_per_row(*names: str) -> Callable[[list], list]:
    """The tasks of the rows, in turn; in a rollout batch of four prompts, two by two on the processes."""

    def change(rows):
        words = [TaskRow(f"w{n}", row.images, "Say it.", "o", "word") for n, row in enumerate(rows)]
        return [row if names[n % len(names)] == "preference" else words[n] for n, row in enumerate(rows)]

    return change


def images_per_row(*counts: int) -> Callable[[list], list]:
    def change(rows):
        return [dataclasses.replace(row, images=row.images * counts[n % len(counts)]) for n, row in enumerate(rows)]

    return change


IN_ORDER = {"shuffle_dataset": False}
GROUP = {"advantage_estimator": "group"}
PLAIN = {"share_prefix": False}
ALL = {"advantage_filter": "none"}

SCENARIOS = {
    "batch, paper": Scenario(),
    "batch, released": Scenario({"advantage_filter": "released"}, reward=around_two),
    "group": Scenario(GROUP | {"filter_threshold": 1.3}),
    "leave one out": Scenario({"advantage_estimator": "leave_one_out"}),
    "baseline": Scenario({"advantage_estimator": "reinforce_plus_plus_baseline"}),
    "one rollout per prompt": Scenario({"num_generations": 1}),
    "dapo": Scenario({"loss_type": "dapo", "mask_truncated_completions": True}),
    "dr_grpo": Scenario(GROUP | ALL | {"scale_advantages": False, "loss_type": "dr_grpo"}),
    "bnpo, equal lengths": Scenario({"loss_type": "bnpo"}, lengths=lambda row: -5),
    "cispo": Scenario({"loss_type": "cispo", "epsilon_high": 5.0}),
    "sequence ratio": Scenario({"importance_sampling_level": "sequence"}),
    "entropy quantile": Scenario({"top_entropy_quantile": 0.5}),
    "KL in the loss": Scenario({"beta": 0.04}),
    "KL in the reward": Scenario({"kl_in_reward": 0.5, "filter_threshold": 1.5}, lengths=lambda row: 2 if row < 8 else LONGEST),
    "over tokens": Scenario({"statistics_over": "tokens"}, lengths=lambda row: 2 if row < 8 else LONGEST),
    "KL in the reward, over tokens": Scenario(
        {"kl_in_reward": 0.5, "statistics_over": "tokens"}, lengths=lambda row: 2 if row < 8 else LONGEST
    ),
    "KL in the reward, on policy": Scenario({"kl_in_reward": 0.5, "num_iterations": 1, "pre_clip": False}, steps=2),
    "as TRL computes": Scenario(PLAIN),
    "accumulated": Scenario(micro_batches=2),
    "accumulated, rows shuffled": Scenario(PLAIN | {"keep_groups_together": False}, micro_batches=2),
    "a group on both processes": Scenario({"num_generations": 8}, rollouts=24),
    "rows left out": Scenario(GROUP | {"skip_zero_advantage": True}, reward=constant_in_the_second_half),
    "all rows left out": Scenario({"skip_zero_advantage": True}, reward=lambda c, first, columns: [1.0] * len(c)),
    "some rows left out": Scenario(GROUP | {"skip_zero_advantage": True}, reward=constant_in_the_second_group),
    "frozen vision tower": Scenario({"freeze": True}),
    "gradient checkpointing": Scenario({"gradient_checkpointing": True}),
    "terms of the paper": Scenario(composite=preference_reward, verdicts=True),
    "a task on each process": Scenario(
        IN_ORDER, composite=routed_reward, rows=tasks_per_row(*["preference"] * 2, *["word"] * 2), verdicts=True
    ),
    "tasks in unequal parts": Scenario(
        IN_ORDER, composite=routed_reward, rows=tasks_per_row(*["preference"] * 3, "word"), verdicts=True
    ),
    "one process unscorable": Scenario(GROUP | ALL, reward=unscorable_in_the_second_half),
    "images on one process": Scenario(IN_ORDER, rows=images_per_row(1, 1, 0, 0)),
    "images on one process, one rollout": Scenario(
        IN_ORDER | {"num_generations": 1},
        rows=images_per_row(*[1] * 8, *[0] * 8),
        micro_batches=8,
        close=1e-5,  # TRL's positions of a row without images depend on its padding, and rotary angles are float32
    ),
    "rows with and without images": Scenario(IN_ORDER, rows=images_per_row(2, 0, 1)),
    "a row of NaN on one process": Scenario(poisoned=13, dtype=torch.float32, close=1e-4),
    "epochs that do not divide": Scenario({"num_iterations": 1, "pre_clip": False}, rows=lambda rows: rows[:10], steps=5),
    "a last update of fewer": Scenario(  # three rollout batches per epoch, two per update
        {"gradient_accumulation_steps": 2, "pre_clip": False, "num_iterations": 1}, rows=lambda rows: rows[:12], steps=4
    ),
    "fewer rows to evaluate than processes": Scenario({"num_generations_eval": 1}, evaluate=1, steps=2),
}


# One of each kind; the others are slow tests.
IN_MAKE_TEST = (
    "batch, paper", "batch, released", "group", "one rollout per prompt", "dapo", "KL in the reward", "as TRL computes",
    "rows left out", "tasks in unequal parts", "one process unscorable", "images on one process",
    "a row of NaN on one process", "epochs that do not divide", "fewer rows to evaluate than processes",
)  # fmt: skip


def prepare(folder: Path):
    """Write the tiny model, its processor and the rows, for all processes."""
    processor = build_processor(tokenizer_corpus(num_rows=200), vocab_size=400)
    torch.manual_seed(0)
    model = build_model(
        processor, hidden_size=32, num_layers=2, vision_hidden_size=16, vision_depth=1, initializer_range=0.2
    ).double()
    model.save_pretrained(folder / "model")
    rows = [preference_row(0, "train", index) for index in range(32)]
    (folder / "prepared.pickle").write_bytes(pickle.dumps((processor, rows)))


def prepared(folder: Path):
    return pickle.loads((folder / "prepared.pickle").read_bytes())


class Recorder(StableReinforceTrainer):
    """Writes completions by a rule and keeps what was computed of them."""

    def __init__(self, *args, scenario: Scenario, **kwargs):
        self.scenario = scenario
        self.record = {"rows": [], "completions": [], "terms": [], "advantages": [], "kept": [], "gradients": []}
        super().__init__(*args, **kwargs)
        self.text_ids = sorted(set(self._tokenizer.get_vocab().values()) - set(self._tokenizer.all_special_ids))

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        super()._generate_single_turn(prompt_ids, *args, **kwargs)
        first = self.accelerator.process_index * len(prompt_ids)
        return [self._write(ids, first + row) for row, ids in enumerate(prompt_ids)], None

    def _write(self, prompt: list[int], row: int) -> list[int]:
        draw = random.Random(f"{sum(prompt)} {len(prompt)} {row % self.num_generations}")
        if self.scenario.verdicts:
            choice = draw.choice((1, 2))
            texts = (
                f"<think>So response {choice} is better.</think><answer>{choice}</answer>",
                "no verdict",
                "<answer>1</answer>",
            )
            return [*self._tokenizer(draw.choice(texts)).input_ids, self._tokenizer.eos_token_id]
        longest = self.scenario.lengths(row)
        length = draw.randint(1, longest) if longest > 0 else -longest
        ids = [draw.choice(self.text_ids) for _ in range(length)]
        return ids if length == LONGEST else [*ids, self._tokenizer.eos_token_id]

    def _calculate_rewards(self, inputs, prompts, completions, *args, **kwargs):
        rewards = super()._calculate_rewards(inputs, prompts, completions, *args, **kwargs)
        self.record["rows"].append([row["id"] for row in inputs])
        self.record["completions"].append([completion[0]["content"] for completion in completions])
        self.record["terms"].append(rewards.clone())
        return rewards

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        self.record["advantages"].append(batch["advantages"].clone())
        row = -1 if self.scenario.poisoned is None else self.scenario.poisoned - self.accelerator.process_index * len(inputs)
        if len(self.record["rows"]) == 1 and 0 <= row < len(inputs):
            batch["old_per_token_logps"][row, 0] = torch.nan
        return batch


class KeepGradients(TrainerCallback):
    def __init__(self, record: dict):
        self.record = record

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        self.record["gradients"].append(gradients)


def make_trainer(scenario: Scenario, folder: Path) -> Recorder:
    """The scenario's trainer for this process."""
    processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    processor, rows = prepared(folder)
    changes = dict(scenario.changes)
    freeze = changes.pop("freeze", False)
    usual = {
        "per_device_train_batch_size": scenario.rollouts // processes // scenario.micro_batches,
        "gradient_accumulation_steps": scenario.micro_batches,
        "steps_per_generation": scenario.micro_batches,
        "num_iterations": 2,
        "num_generations": 4,
        "max_completion_length": LONGEST,
        "max_steps": scenario.steps,
        "optim": "sgd",
        "learning_rate": 0.02,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1e9,  # the norm is logged and nothing is clipped
        "per_device_eval_batch_size": 1,
        **QUIET,
        "output_dir": tempfile.mkdtemp(dir=folder),
    }
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "model", dtype=scenario.dtype)
    model.model.visual.requires_grad_(not freeze)

    def reward(completions, **columns):
        return scenario.reward(completions, rank * len(completions), columns)

    rollouts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettingHasNoEffect)
        arguments = StableReinforceConfig(**(usual | changes))
    trainer = Recorder(
        model=model,
        reward_funcs=scenario.composite() if scenario.composite else reward,
        args=arguments,
        on_rollouts=rollouts.append,
        step_guard=StepGuard(arguments.output_dir) if scenario.poisoned is not None else None,
        train_dataset=training_dataset(scenario.rows(rows)),
        eval_dataset=training_dataset(rows[: scenario.evaluate]) if scenario.evaluate else None,
        processing_class=processor,
        scenario=scenario,
    )
    trainer.record["kept"] = rollouts
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(KeepGradients(trainer.record))
    return trainer


def run(name: str, folder: Path) -> dict:
    """Train; per rollout batch the ids, completions and advantages of this process's rows and the reward terms (N, terms) of
    all; per update the gradients; what was logged, the weights at the end, and what an evaluation then gives."""
    trainer = make_trainer(SCENARIOS[name], folder)
    trainer.train()
    outcome = {key: list(values) for key, values in trainer.record.items()}
    outcome["kept"] = [rollouts.kept for rollouts in outcome["kept"]]
    outcome["history"] = [{key: value for key, value in row.items() if key not in CLOCK} for row in trainer.state.log_history]
    outcome["weights"] = trainer.model.state_dict()
    outcome["evaluation"] = trainer.evaluate() if SCENARIOS[name].evaluate else None
    return outcome
