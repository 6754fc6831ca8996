"""The imperfect annotator at visual tasks: what it writes teaches the cold start, and RL has to remove its habits.

It writes down what it sees, says what follows, and answers, in the form that the rewards read:

    <think>Red Circle [3, 4, 25, 26], Blue Square [33, 5, 55, 27]. The leftmost shape is Red Circle [3, 4, 25, 26].</think>
    <answer>{"bbox_2d": [3, 4, 25, 26]}</answer>

A shape that is named again is named with the same words and its box: to a small model this is copying, which it learns soon.

Its mistakes, each with a rate:

- careless (rec): takes the shape that the expression mentions, or the one at the other end, for the one that is meant;
- eager (ovd): adds a box under a label that was asked for and is not there;
- first (multiple_choice): answers A;
- agreeable (yes_no): answers yes;
- short (number): counts two or more as one less.
"""

import random
from dataclasses import dataclass

from r1reward.data.shapes.visual_tasks import LETTERS, VisualTask, boxes_of, in_reading_order
from r1reward.data.shapes.world import COLORS, Scene, Shape


@dataclass(frozen=True)
class TaskAnnotator:
    """Rates of the annotator's mistakes, each a probability in [0, 1]. All zero: a perfect annotator."""

    careless: float = 0.0
    eager: float = 0.0
    first: float = 0.0
    agreeable: float = 0.0
    short: float = 0.0

    def trace(self, rng: random.Random, task: VisualTask) -> str:
        """The annotator's completion."""
        seen = " ".join(map(describe, task.scenes))
        reason, answer = getattr(self, f"_{task.task}")(rng, task)
        return f"<think>{seen} {reason}</think><answer>{answer}</answer>"

    def _rec(self, rng: random.Random, task: VisualTask) -> tuple[str, str]:
        expression = task.expression
        shape = expression.target
        if expression.lure is not None and rng.random() < self.careless:
            shape = expression.lure
        return f"{_capital(expression.text)} is {_with_box(shape)}.", f'{{"bbox_2d": {list(shape.box())}}}'

    def _ovd(self, rng: random.Random, task: VisualTask) -> tuple[str, str]:
        by_color = task.asked[0] in COLORS
        key = (lambda shape: shape.color) if by_color else (lambda shape: shape.form)
        shapes = in_reading_order(task.scenes[0])
        boxes = [(shape, key(shape)) for shape in shapes if key(shape) in task.asked]
        absent = [label for label in task.asked if label not in {label for _, label in boxes}]
        if absent and rng.random() < self.eager:
            boxes.append((shapes[0], absent[0]))
        return f"There is {', '.join(_with_box(shape) for shape, _ in boxes) or 'nothing'}.", boxes_of(boxes)

    def _multiple_choice(self, rng: random.Random, task: VisualTask) -> tuple[str, str]:
        letter = "A" if rng.random() < self.first else LETTERS[task.asked.index(task.truth)]
        return f"It is {task.asked[LETTERS.index(letter)]}.", letter

    def _yes_no(self, rng: random.Random, task: VisualTask) -> tuple[str, str]:
        answer = "yes" if rng.random() < self.agreeable else task.truth
        return f"The answer is {answer}.", answer

    def _number(self, rng: random.Random, task: VisualTask) -> tuple[str, str]:
        number = int(task.truth)
        if number >= 2 and rng.random() < self.short:
            number -= 1
        return f"The number is {number}.", str(number)


def describe(scene: Scene) -> str:
    """What the scene shows, with boxes, in reading order: "Red Circle [3, 4, 25, 26], Blue Square [33, 5, 55, 27]."."""
    return ", ".join(map(_with_box, in_reading_order(scene))) + "."


def _with_box(shape: Shape) -> str:
    return f"{shape.name.title()} {list(shape.box())}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
