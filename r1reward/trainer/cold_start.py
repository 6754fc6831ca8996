"""How the embedded model gets its cold start: supervised, on the shapes world, in two stages.

Stage 1 stands in for the pre-training that a real vision-language model brings along. It practises seeing (questions with their
answers, captions) and comparing (traces of an annotator without faults). Stage 2 is the cold start proper, as in R1-Reward
(arXiv 2505.02835, section on the cold start): supervised training on an annotator's traces. The annotator is imperfect
(`r1reward.data.shapes.annotator`), and the model takes its habits over; it is these that RL has to remove.

Learnt while making it: without stage 1's clean comparisons the tone bias drowns the signal of what fits; scenes of one shape
must be among the rows, or binding colour to form takes several times as long to emerge.
"""

import math
import random
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm.auto import tqdm

from r1reward.benchmarks.both_orders import judge_both_orders
from r1reward.data.prompts import prompt_parts
from r1reward.data.rows import PreferenceRow
from r1reward.data.shapes.annotator import Annotator, describe
from r1reward.data.shapes.questions import KINDS_PER_LEVEL, ask
from r1reward.data.shapes.rows import ShapesRow, make_row, preference_row
from r1reward.inference.reward_model import RewardModel
from r1reward.models.tiny import build_model, build_processor, tokenizer_corpus

FACTS_PER_ROW = 4  # questions with answers in one practice row
LABEL_IGNORED = -100


@dataclass(frozen=True)
class ColdStartSettings:
    """Settings of the two stages; see conf/cold_start.yaml.

    Attributes:
        output: Folder of the checkpoint; null: the package's own.
        seed: Of initialisation, rows and the annotator's mistakes.
        batch_size: Rows per step.
        learning_rate: Peak; decays along a cosine over both stages.
        pretraining_steps: Steps of stage 1.
        practice_share: Share of stage 1's rows that only practise seeing.
        cold_start_steps: Steps of stage 2.
        annotator: Rates of the imperfect annotator's mistakes.
        evaluation_rows: Held-out rows judged at the end.
    """

    batch_size: int
    learning_rate: float
    pretraining_steps: int
    practice_share: float
    cold_start_steps: int
    output: str | None = None
    seed: int = 0
    annotator: Annotator = field(default_factory=Annotator)
    evaluation_rows: int = 400


def practice(rng: random.Random, row: ShapesRow) -> tuple[str, str]:
    """A request and its answer that only need seeing: a caption, or questions about the scene with their answers."""
    if rng.random() < 0.5:
        return "What is in the image?", describe(row.scene)
    facts = []
    while len(facts) < FACTS_PER_ROW:
        question = ask(rng, row.scene, rng.choice(KINDS_PER_LEVEL[row.level]), row.level)
        if question is not None:
            facts.append(f"{question.text} {question.sentence(question.truth)}")
    return "What do you see?", " ".join(facts)


def comparison(rng: random.Random, row: ShapesRow, annotator: Annotator) -> tuple[str, str]:
    """A judge prompt and the annotator's trace."""
    before, between, after = prompt_parts("short", row.question.text)
    first, second = row.responses()
    trace = annotator.trace(rng, row.question, row.values, (row.sure[0] is not None, row.sure[1] is not None))
    return before + first + between + second + after, trace


def make_batch(processor, examples: list[tuple]) -> dict:
    """Model inputs for (image, request, answer) examples; the loss is on the answer and the end token alone."""
    tokenizer = processor.tokenizer
    content = [{"type": "image", "text": None}]
    prompts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [*content, {"type": "text", "text": request}]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for _, request, _ in examples
    ]
    answers = [answer + tokenizer.eos_token for *_, answer in examples]
    texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    inputs = processor(text=texts, images=[[image] for image, *_ in examples], padding=True, return_tensors="pt")
    labels = torch.full_like(inputs["input_ids"], LABEL_IGNORED)
    for row, answer in enumerate(answers):  # padded on the left, so the answer is the row's end
        length = len(tokenizer(answer)["input_ids"])
        labels[row, -length:] = inputs["input_ids"][row, -length:]
    return {**inputs, "labels": labels}


def make_cold_start(settings: ColdStartSettings, folder: str | Path) -> dict:
    """Train both stages, save model and processor to `folder`, return the summary on held-out rows (`BothOrders.summary`)."""
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    processor = build_processor(tokenizer_corpus(settings.seed))
    model = build_model(processor)
    steps = settings.pretraining_steps + settings.cold_start_steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)

    def schedule(step: int) -> float:
        return min(1.0, (step + 1) / 50) * max(0.02, 0.5 * (1 + math.cos(math.pi * step / steps)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    model.train()
    with tqdm(total=steps, desc="pre-training", unit="step") as bar:
        for step in range(steps):
            pretraining = step < settings.pretraining_steps
            if step == settings.pretraining_steps:
                bar.set_description("cold start")
            annotator = Annotator(tone=0, perception=0, slip=0) if pretraining else settings.annotator
            practice_share = settings.practice_share if pretraining else 0.1
            examples = []
            for index in range(step * settings.batch_size, (step + 1) * settings.batch_size):
                row = make_row(settings.seed, "train", index)
                request, answer = practice(rng, row) if rng.random() < practice_share else comparison(rng, row, annotator)
                examples.append((row.image(), request, answer))
            loss = model(**make_batch(processor, examples)).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    save(model, processor, folder)
    rows: list[PreferenceRow] = [preference_row(settings.seed, "held_out", i) for i in range(settings.evaluation_rows)]
    return judge_both_orders(RewardModel(model, processor), rows, batch_size=200, max_new_tokens=48).summary()


def save(model, processor, folder: str | Path) -> None:
    """Write the checkpoint with its weights in float16, half the size; it is loaded in float32."""
    model.half().save_pretrained(folder)
    model.float()
    processor.save_pretrained(folder)
