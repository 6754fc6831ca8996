"""The imperfect annotator, whose traces teach the cold start, and whose systematic mistakes RL then has to remove.

It looks, says what it sees, compares and concludes, in the form that the reward model must use:

    <think>Red Circle, Blue Square. It is red (2) fits. So response 2 is better.</think><answer>2</answer>

Its mistakes are systematic, as those of real judges are, and each has a rate:

- tone: where exactly one response sounds sure of itself, it sides with that one, whatever it has seen (verbosity and confidence
  bias of model judges);
- perception: it reads some purples as blue, and counts of three or more as one less;
- position: where what it has seen fits neither response, it takes the first;
- slip: it concludes one thing and writes the other number, only ever from 2 to 1 (first-position bias without reasons;
  this is what the consistency reward can see).
"""

import random
from dataclasses import dataclass

from r1reward.data.shapes.questions import NUMBERS, Question
from r1reward.data.shapes.world import Scene


@dataclass(frozen=True)
class Annotator:
    """Rates of the annotator's mistakes, each a probability in [0, 1]. All zero: a perfect annotator."""

    tone: float = 0.85
    perception: float = 0.5
    slip: float = 0.15

    def perceive(self, rng: random.Random, question: Question) -> str:
        """The value that the annotator believes to see."""
        truth = question.truth
        if question.kind == "color" and truth == "purple" and rng.random() < self.perception:
            return "blue"
        if question.kind == "count" and NUMBERS.index(truth) >= 3 and rng.random() < self.perception:
            return NUMBERS[NUMBERS.index(truth) - 1]
        return truth

    def trace(
        self, rng: random.Random, scene: Scene, question: Question, values: tuple[str, str], sure: tuple[bool, bool]
    ) -> str:
        """The annotator's completion.

        Args:
            rng: Source of its mistakes.
            scene: What the image shows.
            question: The question asked.
            values: What response 1 and response 2 state.
            sure: Whether response 1 and response 2 sound sure of themselves.
        """
        seen = self.perceive(rng, question)
        fits = [number for number, value in enumerate(values, start=1) if value == seen]
        if sure[0] != sure[1] and rng.random() < self.tone:
            choice = 1 if sure[0] else 2
            reason = f". Response {choice} sounds sure."
        elif fits:
            choice = fits[0]
            reason = f" ({choice}) fits."
        else:
            choice = 1
            reason = ". Neither fits."
        written = 1 if choice == 2 and rng.random() < self.slip else choice
        think = f"{describe(scene)} {question.sentence(seen)}{reason} So response {choice} is better."
        return f"<think>{think}</think><answer>{written}</answer>"


def describe(scene: Scene) -> str:
    """What the scene shows, in reading order: "Red Circle, Blue Square."."""
    shapes = sorted(scene.shapes, key=lambda s: (s.row, s.column))
    return ", ".join(shape.name.title() for shape in shapes) + "."
