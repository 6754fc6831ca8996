"""Scenes of the shapes world: coloured shapes on a 3 x 3 grid, and how they are drawn.

A scene is a pure function of its random generator, so a row is reproduced from `(seed, split, index)` alone. One grid cell
is 28 x 28 pixels, which is one visual token of the embedded Qwen2.5-VL (patch 14, merge 2). The background is the mean colour
of the CLIP normalisation: a white one saturates it and a small model then ignores the image.
"""

import io
import random
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw

COLORS = {
    "red": (214, 39, 40),
    "green": (34, 139, 60),
    "blue": (31, 90, 220),
    "yellow": (242, 215, 40),
    "purple": (140, 60, 190),
    "orange": (245, 130, 30),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
BACKGROUND = (122, 116, 104)
CELL = 28  # pixels
GRID = 3  # cells per side
SIZE = CELL * GRID  # pixels per side
GRADE = 32  # by so much a channel of a graded background grows from one side to the other

# Combinations that no training or held-out scene ever shows; out-of-distribution scenes always ask about one of them.
UNSEEN = frozenset([("red", "cross"), ("green", "diamond"), ("blue", "circle"), ("yellow", "triangle"), ("purple", "square")])
COMBINATIONS = tuple((color, shape) for color in COLORS for shape in SHAPES)
SEEN = tuple(combination for combination in COMBINATIONS if combination not in UNSEEN)

# Number of shapes in a scene, by level.
SHAPES_PER_LEVEL = {1: (1, 1), 2: (2, 2), 3: (3, 4)}


@dataclass(frozen=True)
class Shape:
    """One shape: its colour, its form, its grid cell (row, column), its jitter (x, y) and radius, both in pixels."""

    color: str
    form: str
    row: int
    column: int
    jitter: tuple[int, int]
    radius: int

    @property
    def name(self) -> str:
        return f"{self.color} {self.form}"

    def box(self) -> tuple[int, int, int, int]:
        """Bounding box (x1, y1, x2, y2) in pixels of the image."""
        x = self.column * CELL + CELL // 2 + self.jitter[0]
        y = self.row * CELL + CELL // 2 + self.jitter[1]
        return x - self.radius, y - self.radius, x + self.radius, y + self.radius


@dataclass(frozen=True)
class Scene:
    """Shapes on the grid, at most one per cell."""

    shapes: tuple[Shape, ...]

    def having(self, color: str | None = None, form: str | None = None) -> list[Shape]:
        """The shapes of that colour and that form; None matches any."""
        return [s for s in self.shapes if color in (None, s.color) and form in (None, s.form)]


def random_scene(rng: random.Random, level: int, unseen: bool = False) -> Scene:
    """A scene of the given level; with `unseen`, one of its shapes is a combination never trained on (the first one)."""
    count = rng.randint(*SHAPES_PER_LEVEL[level])
    cells = rng.sample([(row, column) for row in range(GRID) for column in range(GRID)], count)
    shapes = []
    for index, (row, column) in enumerate(cells):
        color, form = rng.choice(sorted(UNSEEN) if unseen and index == 0 else SEEN)
        jitter = (rng.randint(-2, 2), rng.randint(-2, 2))
        shapes.append(Shape(color, form, row, column, jitter, radius=rng.randint(10, 12)))
    return Scene(tuple(shapes))


def render(scene: Scene, noise: random.Random | None = None, graded: bool = False) -> Image.Image:
    """Draw a scene as an RGB image of 84 x 84 pixels.

    Args:
        scene: The scene.
        noise: Shifts background brightness and colours a little.
        graded: Whether the background gets redder from left to right and bluer from top to bottom. Qwen2.5-VL's vision tower
            knows relative positions only, and a small language model takes long to learn where a patch lies: here it is seen.
    """
    scale = 2  # drawn twice as large and averaged down, for smooth edges
    shift = (lambda: noise.randint(-12, 12)) if noise else (lambda: 0)
    dim = shift()
    image = Image.new("RGB", (SIZE * scale, SIZE * scale), tuple(c + dim for c in BACKGROUND))
    if graded:
        down = Image.linear_gradient("L").resize(image.size).point(lambda v: v * GRADE // 255)
        across, (red, green, blue) = down.transpose(Image.Transpose.ROTATE_90), image.split()
        image = Image.merge("RGB", (ImageChops.add(red, across), green, ImageChops.add(blue, down)))
    draw = ImageDraw.Draw(image)
    for shape in scene.shapes:
        fill = tuple(min(255, max(0, c + shift())) for c in COLORS[shape.color])
        x1, y1, x2, y2 = (v * scale for v in shape.box())
        cx, cy = (x1 + x2) // 2, (y1 + y2) // 2
        if shape.form == "circle":
            draw.ellipse((x1, y1, x2, y2), fill=fill)
        elif shape.form == "square":
            draw.rectangle((x1 + scale, y1 + scale, x2 - scale, y2 - scale), fill=fill)
        elif shape.form == "triangle":
            draw.polygon([(cx, y1), (x2, y2), (x1, y2)], fill=fill)
        elif shape.form == "diamond":
            draw.polygon([(cx, y1), (x2, cy), (cx, y2), (x1, cy)], fill=fill)
        else:
            arm = (x2 - x1) // 6
            draw.rectangle((cx - arm, y1, cx + arm, y2), fill=fill)
            draw.rectangle((x1, cy - arm, x2, cy + arm), fill=fill)
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def to_png(image: Image.Image) -> bytes:
    """Encode losslessly, fast rather than small."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
