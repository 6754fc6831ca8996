"""What a reward function returns for one text: the value, and why a text was not read."""

from dataclasses import dataclass

STRICT, RELEASED = "strict", "released"
SEMANTICS = (STRICT, RELEASED)


@dataclass(frozen=True)
class Score:
    """The value of one reward on one text.

    Attributes:
        value: The reward, in the range that the function documents.
        rejection: Why the text could not be read, as one of the reasons that the function's module lists in `REJECTIONS`;
            None if it was read, right or wrong.
    """

    value: float
    rejection: str | None = None


def check_semantics(semantics: str):
    """Raise a ValueError unless `semantics` is `strict` (ours) or `released` (as the published code computes it)."""
    if semantics not in SEMANTICS:
        raise ValueError(f"unknown reward semantics {semantics!r}; choose one of {SEMANTICS}")


def shown(solution: str) -> str:
    """A solution as error messages quote it."""
    return repr(solution if len(solution) <= 80 else solution[:77] + "...")
