"""Visual tasks of the shapes world: rows with a known answer, each a pure function of `(seed, split, index, task)`.

    rec               Where is the shape left of the red circle?                        a box
    ovd               Detect every instance of: circle, square.                         boxes with labels, or None
    multiple_choice   What color is the circle? (A) red (B) blue (C) green              a letter
    yes_no            Is there a red shape?                                             yes or no
                      Do both images show the same shapes?                              yes or no, about two images
    number            How many circles are there?                                       a number

Boxes are in pixels of the image. Some labels that a detection asks for are not in the image. The second image of a comparison
is the first one, or differs in the color or the form of one shape: the task of a GUI tester who looks for what changed.

Out of distribution, scenes hold combinations of color and form that are never trained on, and referring expressions are of
kinds that are not (`r1reward.data.shapes.expressions`).
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from r1reward.data.rows import PREFERENCE, ImageSource, Row, TaskRow
from r1reward.data.shapes.expressions import TRAINED, UNSEEN_KINDS, Expression, refer
from r1reward.data.shapes.questions import NUMBERS, ask
from r1reward.data.shapes.rows import SPLITS, preference_row
from r1reward.data.shapes.world import COLORS, SEEN, SHAPES, Scene, Shape, random_scene, render, to_png

VISUAL_TASKS = ("rec", "ovd", "multiple_choice", "yes_no", "number")
TASKS = (PREFERENCE, *VISUAL_TASKS)
# Kinds of questions by task, as often as they come: trained on, out of distribution.
KINDS = {
    "rec": ((*TRAINED, "place", "relation"), UNSEEN_KINDS),
    "ovd": (("color", "form"),) * 2,
    "multiple_choice": (("color", "shape"),) * 2,
    "yes_no": (("existence", "compare"),) * 2,
    "number": (("count",),) * 2,
}
LEAST_LEVEL = {"place": 2, "relation": 2, "negation": 2, "two_relations": 3}  # kinds that need several shapes
LETTERS = "ABCD"
SAME = "Do both images show the same shapes?"


@dataclass(frozen=True)
class VisualTask:
    """One row of a visual task, with what its images show.

    Attributes:
        task: One of `VISUAL_TASKS`.
        kind: Kind of question within the task.
        level: Difficulty.
        scenes: What each image shows.
        question: The text of the prompt.
        solution: The right answer.
        noise_seed: Of the images' colour noise.
        expression: What is referred to (rec).
        asked: The labels asked for (ovd), or the options in their order (multiple_choice).
        truth: The right answer in words (multiple_choice, yes_no, number).
    """

    task: str
    kind: str
    level: int
    scenes: tuple[Scene, ...]
    question: str
    solution: str
    noise_seed: int
    expression: Expression | None = None
    asked: tuple[str, ...] = ()
    truth: str = ""

    def images(self) -> list:
        """The images, RGB of 84 x 84 pixels each."""
        return [render(scene, random.Random(self.noise_seed + n), graded=True) for n, scene in enumerate(self.scenes)]

    def to_row(self, id: str = "") -> TaskRow:
        """The row in the form that everything downstream reads, its images encoded as PNG."""
        return TaskRow(
            id=id,
            images=tuple(ImageSource(data=to_png(image)) for image in self.images()),
            prompt=self.question,
            solution=self.solution,
            task=self.task,
            category=self.kind,
            level=self.level,
        )


def make_task(seed: int, split: str, index: int, task: str, levels: tuple[int, ...] = (1, 2, 3)) -> VisualTask:
    """The row of that task at that index of that split; the same arguments always give the same row.

    Raises:
        ValueError: Unknown split or task.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} of the shapes world; choose one of {SPLITS}")
    if task not in VISUAL_TASKS:
        raise ValueError(f"unknown task {task!r} of the shapes world; choose one of {', '.join(VISUAL_TASKS)}")
    rng = random.Random(f"{seed}/{split}/{index}/{task}")
    unseen = split == "out_of_distribution"
    kind = rng.choice([kind for kind in KINDS[task][unseen] if LEAST_LEVEL.get(kind, 1) <= max(levels)])
    made = None
    while made is None:  # not every scene admits every kind
        made = _MAKE[task](rng, rng.choice(levels), unseen, kind)
    return made


def world_row(
    seed: int,
    split: str,
    index: int,
    tasks: Sequence[str] = (PREFERENCE,),
    prompt: str = "short",
    levels: tuple[int, ...] = (1, 2, 3),
) -> Row:
    """The row of the world at that index, of the task whose turn it is, one of `TASKS`; `prompt` is that of preferences."""
    task = tasks[index % len(tasks)]
    if task == PREFERENCE:
        return preference_row(seed, split, index, prompt, levels)
    return make_task(seed, split, index, task, levels).to_row(f"{split}-{seed}-{index}")


def boxes_of(labelled: list[tuple[Shape, str]]) -> str:
    """Shapes with their labels as the JSON list of a detection; `None` where there are none."""
    return json.dumps([{"bbox_2d": list(shape.box()), "label": label} for shape, label in labelled]) if labelled else "None"


def _rec(rng: random.Random, level: int, unseen: bool, kind: str) -> VisualTask | None:
    scene = random_scene(rng, level, unseen and kind == "name")
    expression = refer(rng, scene, kind)
    if expression is None:
        return None
    solution = json.dumps(list(expression.target.box()))
    question = f"Where is {expression.text}?"
    return VisualTask("rec", kind, level, (scene,), question, solution, rng.getrandbits(32), expression=expression)


def _ovd(rng: random.Random, level: int, unseen: bool, kind: str) -> VisualTask | None:
    scene = random_scene(rng, level, unseen)
    by_form = kind == "form"
    every = list(SHAPES if by_form else COLORS)
    asked = tuple(rng.sample(every, rng.choice((2, 3))))
    labelled = [(shape, shape.form if by_form else shape.color) for shape in in_reading_order(scene)]
    found = [(shape, label) for shape, label in labelled if label in asked]
    question = f"Detect every instance of: {', '.join(asked)}."
    return VisualTask(
        "ovd", kind if found else "nothing", level, (scene,), question, boxes_of(found), rng.getrandbits(32), asked=asked
    )


def _multiple_choice(rng: random.Random, level: int, unseen: bool, kind: str) -> VisualTask | None:
    scene = random_scene(rng, level, unseen)
    question = ask(rng, scene, kind, level, unseen)
    if question is None:
        return None
    others = sorted(set(COLORS if kind == "color" else SHAPES) - {question.truth})
    options = rng.sample(others, 3) + [question.truth]
    rng.shuffle(options)
    listed = " ".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=True))
    letter = LETTERS[options.index(question.truth)]
    text = f"{question.text} {listed}"
    return VisualTask(
        "multiple_choice", kind, level, (scene,), text, letter, rng.getrandbits(32), asked=tuple(options), truth=question.truth
    )


def _yes_no(rng: random.Random, level: int, unseen: bool, kind: str) -> VisualTask | None:
    scene = random_scene(rng, level, unseen)
    if kind == "compare":
        same = rng.random() < 0.5
        other = scene if same else _changed(rng, scene)
        truth = "yes" if same else "no"
        return VisualTask("yes_no", kind, level, (scene, other), SAME, truth, rng.getrandbits(32), truth=truth)
    question = ask(rng, scene, kind, level, unseen)
    if question is None:
        return None
    truth = question.truth
    return VisualTask("yes_no", kind, level, (scene,), question.text, truth, rng.getrandbits(32), truth=truth)


def _number(rng: random.Random, level: int, unseen: bool, kind: str) -> VisualTask | None:
    scene = random_scene(rng, level, unseen)
    question = ask(rng, scene, kind, level, unseen)
    if question is None:
        return None
    number = str(NUMBERS.index(question.truth))
    return VisualTask("number", kind, level, (scene,), question.text, number, rng.getrandbits(32), truth=number)


def _changed(rng: random.Random, scene: Scene) -> Scene:
    """The scene with another color or another form of one of its shapes, a combination that may be shown."""
    shapes = list(scene.shapes)
    number = rng.randrange(len(shapes))
    shape = shapes[number]
    options = [(c, f) for c, f in SEEN if (c == shape.color) != (f == shape.form)]
    color, form = rng.choice(options)
    shapes[number] = replace(shape, color=color, form=form)
    return Scene(tuple(shapes))


def in_reading_order(scene: Scene) -> list[Shape]:
    """The shapes row by row, from left to right."""
    return sorted(scene.shapes, key=lambda shape: (shape.row, shape.column))


_MAKE = {"rec": _rec, "ovd": _ovd, "multiple_choice": _multiple_choice, "yes_no": _yes_no, "number": _number}
