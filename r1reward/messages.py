"""What messages to users have in common: values and lists in them are cut, and the reader learns that they are."""

from collections.abc import Sequence

SHOWN = 10  # problems, names or places in one message
LONGEST_REPR = 200  # characters


def listed(lines: Sequence[str], separator: str = "\n  ", most: int = SHOWN) -> str:
    """The first lines, and how many more there are."""
    rest = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    return separator.join([*lines[:most], *rest])


def short_repr(value: object) -> str:
    """The `repr` of a value from elsewhere, cut where it is long."""
    try:
        text = repr(value[: LONGEST_REPR + 1] if isinstance(value, str | bytes) else value)
    except RecursionError:
        text = "a deeply nested value"
    return text if len(text) <= LONGEST_REPR else f"{text[:LONGEST_REPR]}..."
