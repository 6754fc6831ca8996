"""Referring expressions: texts that fit exactly one shape of a scene.

    name            the red circle
    color           the red one                 (where nothing else is red)
    form            the circle                  (where there is one circle)
    place           the leftmost shape          (leftmost, rightmost, topmost, bottommost)
    relation        the shape left of the red circle
    negation        the circle that is not red
    two_relations   the shape left of the red circle and above the blue square

The last two are never trained on: they are made of known words and relations, but must be put together, which is what
reasoning-heavy sets such as LISA-Grounding ask of a model that was trained on plain expressions (arXiv 2504.07615).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from r1reward.data.shapes.world import Scene, Shape

TRAINED = ("name", "color", "form", "place", "relation")
UNSEEN_KINDS = ("name", "negation", "two_relations")  # out of distribution; names are of unseen combinations

RELATIONS: dict[str, Callable[[Shape, Shape], bool]] = {
    "left of": lambda shape, other: shape.column < other.column,
    "right of": lambda shape, other: shape.column > other.column,
    "above": lambda shape, other: shape.row < other.row,
    "below": lambda shape, other: shape.row > other.row,
}
PLACES: dict[str, Callable[[Shape], int]] = {  # the target has the least of these
    "leftmost": lambda shape: shape.column,
    "rightmost": lambda shape: -shape.column,
    "topmost": lambda shape: shape.row,
    "bottommost": lambda shape: -shape.row,
}


@dataclass(frozen=True)
class Expression:
    """A text and the one shape that it fits.

    Attributes:
        kind: One of `TRAINED` or `UNSEEN_KINDS`.
        text: The expression.
        target: The shape.
        lure: Another shape of the scene that a careless reader takes for it; None where nothing misleads.
    """

    kind: str
    text: str
    target: Shape
    lure: Shape | None = None


def refer(rng: random.Random, scene: Scene, kind: str) -> Expression | None:
    """An expression of that kind for some shape of the scene, or None where the scene admits none."""
    found = _REFER[kind](scene)
    return rng.choice(found) if found else None


def _name(scene: Scene) -> list[Expression]:
    shapes = [shape for shape in scene.shapes if len(scene.having(shape.color, shape.form)) == 1]
    first = scene.shapes[:1]  # out of distribution, the first shape is the unseen combination
    return [Expression("name", f"the {shape.name}", shape) for shape in (first if set(first) & set(shapes) else shapes)]


def _color(scene: Scene) -> list[Expression]:
    shapes = [shape for shape in scene.shapes if len(scene.having(color=shape.color)) == 1]
    return [Expression("color", f"the {shape.color} one", shape) for shape in shapes]


def _form(scene: Scene) -> list[Expression]:
    shapes = [shape for shape in scene.shapes if len(scene.having(form=shape.form)) == 1]
    return [Expression("form", f"the {shape.form}", shape) for shape in shapes]


def _place(scene: Scene) -> list[Expression]:
    found = []
    for word, key in PLACES.items():
        ordered = sorted(scene.shapes, key=key)
        if len(ordered) > 1 and key(ordered[0]) < key(ordered[1]):
            found.append(Expression("place", f"the {word} shape", ordered[0], lure=ordered[-1]))
    return found


def _relation(scene: Scene) -> list[Expression]:
    found = []
    for anchor in _anchors(scene):
        for word, holds in RELATIONS.items():
            shapes = [shape for shape in scene.shapes if holds(shape, anchor)]
            if len(shapes) == 1:
                found.append(Expression("relation", f"the shape {word} the {anchor.name}", shapes[0], lure=anchor))
    return found


def _negation(scene: Scene) -> list[Expression]:
    found = []
    for shape in scene.shapes:
        for other in scene.having(form=shape.form):
            rest = [one for one in scene.having(form=shape.form) if one.color != other.color]
            if rest == [shape]:
                found.append(Expression("negation", f"the {shape.form} that is not {other.color}", shape, lure=other))
    return found


def _two_relations(scene: Scene) -> list[Expression]:
    found, anchors = [], _anchors(scene)
    for first in anchors:
        for second in anchors:
            if first is second:
                continue
            for word, holds in RELATIONS.items():
                for other_word, other_holds in RELATIONS.items():
                    one = [shape for shape in scene.shapes if holds(shape, first)]
                    two = [shape for shape in scene.shapes if other_holds(shape, second)]
                    both = [shape for shape in one if shape in two]
                    # Each relation alone must fit several shapes, or the other could be passed over.
                    if len(both) == 1 and len(one) > 1 and len(two) > 1:
                        text = f"the shape {word} the {first.name} and {other_word} the {second.name}"
                        lure = next(shape for shape in one if shape not in both)
                        found.append(Expression("two_relations", text, both[0], lure))
    return found


def _anchors(scene: Scene) -> Sequence[Shape]:
    """The shapes that their names single out."""
    return [shape for shape in scene.shapes if len(scene.having(shape.color, shape.form)) == 1]


_REFER = {
    "name": _name,
    "color": _color,
    "form": _form,
    "place": _place,
    "relation": _relation,
    "negation": _negation,
    "two_relations": _two_relations,
}
