"""How our plots look: colours, type, and the few helpers that every figure shares. matplotlib loads when one is drawn.

Names of arms are a user's: of any length, in any script, with marks that matplotlib would take for mathematics.

Colours are Okabe and Ito's (jfly.uni-koeln.de/color), which stay apart under the common colour-vision deficiencies.
"""

import re
import textwrap
import warnings
from functools import wraps
from pathlib import Path

from rich.cells import cell_len, chop_cells

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
STYLES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))  # the second and third round of colours
INK, MUTED, GRID = "#222222", "#6b6b6b", "#e6e6e6"

LOOK = {
    "figure.dpi": 130,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": "#bbbbbb",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.labelsize": 9,
    "legend.fontsize": 10,
    "font.family": ["DejaVu Sans"],
}

_PIECES = re.compile(r"[^,=/_.:+\s-]*[,=/_.:+\s-]?")  # a name may be cut after each of these marks


def wrapped(name: str, width: int) -> str:
    """The name in lines of at most `width` terminal cells, cut after a comma or the like where there is one."""
    lines = [""]
    for piece in _PIECES.findall(" ".join(name.split())):
        for part in [piece] if cell_len(piece) <= width else chop_cells(piece, width):
            if cell_len(lines[-1] + part.rstrip()) <= width:
                lines[-1] += part
            else:
                lines.append(part)
    return "\n".join(line.rstrip() for line in lines)


def label(name: str, width: int) -> str:
    """`wrapped`, for matplotlib, which would set what stands between two dollar signs as mathematics."""
    return wrapped(name, width).replace("$", r"\$")


def in_our_look(draw):
    """Runs `draw` with our looks and leaves the caller's matplotlib settings (a notebook's, say) as they were."""

    @wraps(draw)
    def wrapped(*args, **kwargs):
        import matplotlib

        with matplotlib.rc_context(LOOK), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # drawn as a box; the table has the name
            return draw(*args, **kwargs)

    return wrapped


def look(index: int) -> tuple[str, object]:
    """Colour and line style of the arm at `index`."""
    return COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]


def figure_of(width: float, height: float):
    """A figure without pyplot: no backend is chosen, no window opens, nothing needs closing. Sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def note(path: Path, title: str, text: str) -> Path:
    figure = figure_of(7, 1.6)
    put_title(figure, title)
    figure.text(0.02, 0.35, text, color=MUTED, fontsize=11)
    return save(figure, path, "")


def put_title(figure, title: str) -> None:
    # Not suptitle: the layout would make room for that a second time.
    y = 1 - 0.1 / figure.get_figheight()
    title = label(title, int(8 * figure.get_figwidth()))
    figure.text(0.012, y, title, ha="left", va="top", fontsize=14, fontweight="bold", color=INK)


def caption_lines(figure, caption: str) -> list[str]:
    """The caption with a full stop, cut into lines that fit the figure's width at its font size."""
    return textwrap.wrap(f"{caption}.", width=int(14.5 * figure.get_figwidth())) if caption else []


def below(figure, caption: str) -> float:
    """Share of the figure's height that the caption needs."""
    return (0.16 + 0.15 * len(caption_lines(figure, caption))) / figure.get_figheight()


def save(figure, path: Path, caption: str) -> Path:
    text = "\n".join(caption_lines(figure, caption)).replace("$", r"\$")
    figure.text(0.012, 0.08 / figure.get_figheight(), text, fontsize=8.5, color=MUTED, va="bottom", linespacing=1.3)
    figure.savefig(path)
    return path
