"""Questions about a scene, each with its true answer and a false one.

Every answer is a short sentence, so that the false one differs from the true one in a single fact. Kinds: color, shape, count,
relation, existence. At level 3 the false answer is a near miss (a colour or form that the scene shows elsewhere, a count off by
one); at lower levels it is any other value.
"""

import random
from dataclasses import dataclass

from r1reward.data.shapes.world import COLORS, SHAPES, Scene

KINDS = ("color", "shape", "count", "relation", "existence")
KINDS_PER_LEVEL = {1: ("color", "shape", "existence"), 2: KINDS, 3: KINDS}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class Question:
    """A question with its answers.

    `truth` and `lie` are the values that differ ("red", "three", "left of", "yes"), `sentence(value)` words an answer.
    """

    kind: str
    text: str
    truth: str
    lie: str
    template: str

    def sentence(self, value: str, adverb: str = "") -> str:
        """The answer that states `value`, with an adverb of certainty or plain."""
        text = self.template.format(value)
        return text.replace(" is ", f" is {adverb} ", 1) if adverb else text


def ask(rng: random.Random, scene: Scene, kind: str, level: int, unseen: bool = False) -> Question | None:
    """A question of that kind about the scene, or None where the scene admits none.

    With `unseen`, the question is about the scene's first shape, the combination that training never shows.
    """
    subjects = scene.shapes[:1] if unseen else scene.shapes
    return _ASK[kind](rng, scene, subjects, level)


def _color(rng, scene, subjects, level):
    unique = [s for s in subjects if len(scene.having(form=s.form)) == 1]
    if not unique:
        return None
    shape = rng.choice(unique)
    present = sorted({s.color for s in scene.shapes} - {shape.color})
    others = present if level == 3 and present else sorted(set(COLORS) - {shape.color})
    text = f"What color is the {shape.form}?"
    return Question("color", text, shape.color, rng.choice(others), "It is {}")


def _shape(rng, scene, subjects, level):
    unique = [s for s in subjects if len(scene.having(color=s.color)) == 1]
    if not unique:
        return None
    shape = rng.choice(unique)
    present = sorted({s.form for s in scene.shapes} - {shape.form})
    others = present if level == 3 and present else sorted(set(SHAPES) - {shape.form})
    text = f"What shape is the {shape.color} one?"
    return Question("shape", text, shape.form, rng.choice(others), "It is a {}")


def _count(rng, scene, subjects, level):
    shape = rng.choice(subjects)
    if rng.random() < 0.5:
        number, plural = len(scene.having(form=shape.form)), "crosses" if shape.form == "cross" else f"{shape.form}s"
    else:
        number, plural = len(scene.having(color=shape.color)), f"{shape.color} shapes"
    near = [n for n in (number - 1, number + 1) if n >= 1]
    lie = rng.choice(near if level == 3 else [n for n in range(1, 5) if n != number])
    return Question("count", f"How many {plural} are there?", NUMBERS[number], NUMBERS[lie], "The number is {}")


def _relation(rng, scene, subjects, level):
    unique = [s for s in scene.shapes if len(scene.having(form=s.form)) == 1]
    pairs = []
    for a in unique:
        for b in unique:
            if a is b or a not in subjects:
                continue
            if a.column != b.column:
                pairs.append((a, b, "left of" if a.column < b.column else "right of", ("left of", "right of")))
            if a.row != b.row:
                pairs.append((a, b, "above" if a.row < b.row else "below", ("above", "below")))
    if not pairs:
        return None
    a, b, truth, options = rng.choice(pairs)
    lie = options[1] if truth == options[0] else options[0]
    text = f"Is the {a.form} {options[0]} or {options[1]} the {b.form}?"
    return Question("relation", text, truth, lie, "It is {}")


def _existence(rng, scene, subjects, level):
    shape = rng.choice(subjects)
    by_form = rng.random() < 0.5
    value, every = (shape.form, SHAPES) if by_form else (shape.color, tuple(COLORS))
    if rng.random() < 0.5:
        shown = {s.form if by_form else s.color for s in scene.shapes}
        absent = [v for v in every if v not in shown]
        if not absent:
            return None
        truth, value = "no", rng.choice(absent)
    else:
        truth = "yes"
    noun = value if by_form else f"{value} shape"
    article = "an" if noun[0] in "aeio" else "a"
    lie = "no" if truth == "yes" else "yes"
    return Question("existence", f"Is there {article} {noun}?", truth, lie, "The answer is {}")


_ASK = {"color": _color, "shape": _shape, "count": _count, "relation": _relation, "existence": _existence}
