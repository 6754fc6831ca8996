"""Preference rows of the shapes world, each a pure function of `(seed, split, index)`.

Splits: `train`; `held_out` (same distribution, other scenes); `out_of_distribution` (every question is about a combination of
colour and form that no other split ever shows, see `world.UNSEEN`).
"""

import random
from dataclasses import dataclass

from r1reward.data.prompts import prompt_parts
from r1reward.data.rows import ImageSource, PreferenceRow
from r1reward.data.shapes.annotator import Annotator
from r1reward.data.shapes.questions import KINDS_PER_LEVEL, Question, ask
from r1reward.data.shapes.world import Scene, random_scene, render, to_png

SPLITS = ("train", "held_out", "out_of_distribution")
SURE = ("certainly", "definitely", "undoubtedly")
SURE_SHARE = 0.7  # share of rows in which exactly one response, right or wrong, sounds sure of itself


@dataclass(frozen=True)
class ShapesRow:
    """What a row is made of: the scene, the question, what each response states, and which of them sounds sure."""

    scene: Scene
    question: Question
    values: tuple[str, str]
    sure: tuple[str | None, str | None]
    label: int
    level: int
    noise_seed: int

    def responses(self) -> tuple[str, str]:
        """The two answers as the prompt shows them."""
        first, second = self.values
        return self.question.sentence(first, self.sure[0] or ""), self.question.sentence(second, self.sure[1] or "")

    def trace(self, annotator: Annotator, rng: random.Random) -> str:
        """What the annotator writes about this row."""
        return annotator.trace(rng, self.scene, self.question, self.values, (bool(self.sure[0]), bool(self.sure[1])))

    def images(self) -> list:
        """The scene as an RGB image of 84 x 84 pixels."""
        return [render(self.scene, random.Random(self.noise_seed))]

    def to_row(self, id: str = "", prompt: str = "short") -> PreferenceRow:
        """The row in the form that everything downstream reads: its image encoded as PNG, its question in the named prompt."""
        return PreferenceRow(
            id=id,
            images=tuple(ImageSource(data=to_png(image)) for image in self.images()),
            question=self.question.text,
            responses=self.responses(),
            label=self.label,
            prompt_parts=prompt_parts(prompt, self.question.text),
            category=self.question.kind,
            level=self.level,
        )


def make_row(seed: int, split: str, index: int, levels: tuple[int, ...] = (1, 2, 3)) -> ShapesRow:
    """The row at that index of that split; the same arguments always give the same row."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} of the shapes world; choose one of {SPLITS}")
    rng = random.Random(f"{seed}/{split}/{index}")
    unseen = split == "out_of_distribution"
    level = rng.choice(levels)
    kind = rng.choice(KINDS_PER_LEVEL[level])
    question = None
    while question is None:
        scene = random_scene(rng, level, unseen)
        question = ask(rng, scene, kind, level, unseen)
    label = rng.choice((1, 2))
    values = (question.truth, question.lie) if label == 1 else (question.lie, question.truth)
    sure = [None, None]
    if rng.random() < SURE_SHARE:
        sure[rng.randrange(2)] = rng.choice(SURE)
    return ShapesRow(scene, question, values, tuple(sure), label, level, rng.getrandbits(32))


def preference_row(seed: int, split: str, index: int, prompt: str = "short", levels=(1, 2, 3)) -> PreferenceRow:
    """The row at that index of that split, with its id."""
    return make_row(seed, split, index, levels).to_row(f"{split}-{seed}-{index}", prompt)
