"""How the embedded models get their cold start: on the shapes world, in three stages.

1. *Vision*: the vision tower learns to tell what lies in each grid cell, for visual tasks also where exactly, through linear
   heads that are thrown away. Without it the language model's gradient takes hundreds of steps to make the tower see.
2. *Pre-training*: traces of an annotator without faults. These two stages stand in for what a real vision-language model brings
   along.
3. *Cold start*: traces of the imperfect annotators (`r1reward.data.shapes.annotator`, `.task_annotator`), as R1-Reward trains
   on GPT-4o's (arXiv 2505.02835, section on the cold start). The model takes their habits over, and RL has to remove them.

The tasks decide what the model can do: one model judges preferences, another one does visual tasks too.

Learnt while making it: if the biased traces come first, the tone bias drowns the signal of what fits; a trace that first says
what it sees turns every question into copying, which a small model learns several times as fast as looking up a shape directly;
the words that decide are few among many, so they weigh more in the loss; the caption writes its words with capitals because the
same words in caption and answers are copied from the wrong place.
"""

import math
import random
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from r1reward.benchmarks.accuracy import measure
from r1reward.data.rows import PREFERENCE
from r1reward.data.shapes.annotator import Annotator
from r1reward.data.shapes.questions import NUMBERS
from r1reward.data.shapes.rows import ShapesRow, make_row
from r1reward.data.shapes.task_annotator import TaskAnnotator
from r1reward.data.shapes.visual_tasks import VisualTask, make_task, world_row
from r1reward.data.shapes.world import COLORS, GRID, SHAPES, render
from r1reward.inference.reward_model import RewardModel
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.models.tiny import build_model, build_processor, tokenizer_corpus
from r1reward.rewards.build import build_reward
from r1reward.settings import RewardSettings
from r1reward.trainer.memory import keep_freed_memory

DECISION_WEIGHT = 10.0
NUMBER_TOKENS = (" (1)", " (2)")
WORDS = (*COLORS, *SHAPES, *NUMBERS[1:5], "left", "right", "above", "below", "yes", "no")
VALUES = tuple(f"\u0120{word}" for word in WORDS)  # as tokens: byte-level BPE writes the space before a word as U+0120
PERFECT = (Annotator(tone=0, perception=0, slip=0), TaskAnnotator())
LONGEST = 140  # tokens of a trace
BOX_UNIT = 10.0  # pixels: of the boxes in stage 1, so that their loss is of the size of the others

Example = ShapesRow | VisualTask


@dataclass(frozen=True)
class ColdStartSettings:
    """Settings of the three stages; see conf/cold_start.yaml.

    Attributes:
        name: What the package calls the checkpoint, one of `r1reward.models.loading.EMBEDDED`.
        output: Folder of the checkpoint; null: the package's own.
        seed: Of initialisation, rows and the annotator's mistakes.
        batch_size: Rows per step.
        learning_rate: Peak of stage 2; stage 3 starts at 30 % of it.
        vision_steps: Steps of stage 1.
        pretraining_steps: Steps of stage 2.
        cold_start_steps: Steps of stage 3.
        tasks: Tasks in turn, as often as they come: `preference` and those of `r1reward.data.shapes.visual_tasks`.
        vocab_size: Of the tokenizer.
        annotator: Rates of the imperfect annotator's mistakes at preferences.
        task_annotator: The same at visual tasks.
        reward: By which the model is evaluated at the end.
        evaluation_rows: Held-out rows of that evaluation.
    """

    batch_size: int
    learning_rate: float
    vision_steps: int
    pretraining_steps: int
    cold_start_steps: int
    reward: RewardSettings
    name: str = "embedded"
    output: str | None = None
    seed: int = 0
    tasks: list[str] = field(default_factory=lambda: [PREFERENCE])
    vocab_size: int = 512
    annotator: Annotator = field(default_factory=Annotator)
    task_annotator: TaskAnnotator = field(default_factory=TaskAnnotator)
    evaluation_rows: int = 400


def make_cold_start(settings: ColdStartSettings, folder: str | Path) -> dict:
    """Run the stages, save model and processor to `folder`, return the summary on held-out rows (`accuracy.measure`)."""
    keep_freed_memory()
    torch.manual_seed(settings.seed)
    processor = build_processor(tokenizer_corpus(settings.seed, tasks=settings.tasks), settings.vocab_size)
    model = build_model(processor)
    train_vision(model, processor, settings)
    train_traces(model, processor, settings)
    model.half().save_pretrained(folder)  # half the size; loaded in float32
    model.float()
    processor.save_pretrained(folder)
    rows = [world_row(settings.seed, "held_out", index, settings.tasks) for index in range(settings.evaluation_rows)]
    reward_model = RewardModel(TransformersBackend(model.eval(), processor))
    return measure(reward_model, rows, build_reward(settings.reward, rows), batch_size=200, max_new_tokens=LONGEST)


def example(settings: ColdStartSettings, index: int) -> Example:
    """The training example at that index: the tasks take turns."""
    task = settings.tasks[index % len(settings.tasks)]
    return make_row(settings.seed, "train", index) if task == PREFERENCE else make_task(settings.seed, "train", index, task)


def train_vision(model, processor, settings: ColdStartSettings):
    """Stage 1: the tower's output token of each grid cell tells the colour and the form in it, or that it is empty; for visual
    tasks also the box of the shape.
    """
    tower = model.model.visual
    width = tower.config.out_hidden_size
    heads = nn.ModuleList([nn.Linear(width, 1 + len(COLORS)), nn.Linear(width, 1 + len(SHAPES))])
    place = nn.Linear(width, 4) if set(settings.tasks) != {PREFERENCE} else None
    parameters = [*tower.parameters(), *heads.parameters(), *(place.parameters() if place else ())]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=settings.vision_steps, pct_start=0.1)
    colors, forms = list(COLORS), list(SHAPES)
    for step in tqdm(range(settings.vision_steps), desc="vision", unit="step"):
        rows = [make_row(settings.seed, "train", step * 64 + index, levels=(3,)) for index in range(64)]
        images = [render(row.scene, random.Random(row.noise_seed), graded=place is not None) for row in rows]
        pixels = processor.image_processor(images, return_tensors="pt")
        tokens = tower(pixels["pixel_values"], grid_thw=pixels["image_grid_thw"]).pooler_output  # (64 * 9, width)
        kinds = torch.zeros(2, len(rows), GRID, GRID, dtype=torch.long)
        boxes = torch.zeros(len(rows), GRID, GRID, 4)
        for number, row in enumerate(rows):
            for shape in row.scene.shapes:
                kinds[:, number, shape.row, shape.column] = torch.tensor(
                    [1 + colors.index(shape.color), 1 + forms.index(shape.form)]
                )
                boxes[number, shape.row, shape.column] = torch.tensor(shape.box()) / BOX_UNIT
        kinds, filled = kinds.flatten(1), kinds[0].flatten() > 0
        loss = sum(nn.functional.cross_entropy(head(tokens), kind) for head, kind in zip(heads, kinds, strict=True))
        if place is not None:
            loss = loss + nn.functional.l1_loss(place(tokens)[filled], boxes.flatten(0, 2)[filled])
        _update(loss, parameters, optimizer, schedule)


def train_traces(model, processor, settings: ColdStartSettings):
    """Stages 2 and 3: supervised on traces, of the perfect annotator and then of the imperfect one."""
    rng = random.Random(settings.seed)
    steps = settings.pretraining_steps + settings.cold_start_steps
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, settings))
    model.train()
    with tqdm(total=steps, desc="pre-training", unit="step") as bar:
        for step in range(steps):
            pretraining = step < settings.pretraining_steps
            annotators = PERFECT if pretraining else (settings.annotator, settings.task_annotator)
            # A weight on the number would distort how often the model makes the annotator's mistakes: none in stage 3.
            decisions = (*VALUES, *NUMBER_TOKENS) if pretraining else VALUES
            if step == settings.pretraining_steps:
                bar.set_description("cold start")
            indices = range(step * settings.batch_size, (step + 1) * settings.batch_size)
            rows = [example(settings, index) for index in indices]
            traces = [trace(row, annotators, rng) for row in rows]
            loss = weighted_loss(model, **trace_batch(processor, rows, traces, decisions))
            _update(loss, parameters, optimizer, schedule)
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def learning_rate_factor(step: int, settings: ColdStartSettings) -> float:
    """Share of the peak learning rate: warm-up, cosine to 10 % over stage 2, then from 30 % to 2 % over stage 3."""

    def cosine(start: float, end: float, share: float) -> float:
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))

    if step < settings.pretraining_steps:
        return min(1.0, (step + 1) / 50) * cosine(1.0, 0.1, step / settings.pretraining_steps)
    return cosine(0.3, 0.02, min(1.0, (step - settings.pretraining_steps) / max(1, settings.cold_start_steps)))


def trace(row: Example, annotators: tuple[Annotator, TaskAnnotator], rng: random.Random) -> str:
    """What the annotator of its kind writes about an example."""
    judge, worker = annotators
    return row.trace(judge, rng) if isinstance(row, ShapesRow) else worker.trace(rng, row)


def trace_batch(processor, rows: list[Example], traces: list[str], decisions: tuple[str, ...]) -> dict:
    """Prompts with traces, left-padded.

    Returns:
        `inputs` of the model and `weights` (B, L) of its tokens in the loss: 0 on the prompt, DECISION_WEIGHT on the tokens
        that `decisions` names, 1 on the rest of the trace and the end token.
    """
    tokenizer = processor.tokenizer
    answers = [text + tokenizer.eos_token for text in traces]
    prompts = [
        processor.apply_chat_template(row.to_row().messages(), tokenize=False, add_generation_prompt=True) for row in rows
    ]
    texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    inputs = processor(text=texts, images=[row.images() for row in rows], padding=True, return_tensors="pt")
    weights = torch.zeros(inputs["input_ids"].shape)
    for number, answer in enumerate(answers):  # padded on the left, so the answer is the row's end
        weights[number, -len(tokenizer(answer)["input_ids"]) :] = 1.0
    known = [token for token in tokenizer.convert_tokens_to_ids(decisions) if token is not None]  # the tasks use not all words
    weights[torch.isin(inputs["input_ids"], torch.tensor(known))] *= DECISION_WEIGHT
    return {"inputs": inputs, "weights": weights}


def weighted_loss(model, inputs, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the next-token losses, in nats per token."""
    logits = model(**inputs).logits[:, :-1]
    losses = nn.functional.cross_entropy(logits.transpose(1, 2), inputs["input_ids"][:, 1:], reduction="none")
    return (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()


def _update(loss, parameters, optimizer, schedule):
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    schedule.step()
