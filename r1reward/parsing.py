"""The one boundary between Hydra's configs and plain Python: a resolved config becomes dataclasses, or a clear error."""

import dataclasses
import difflib
import types
import typing
from typing import Any, Literal


def parse_settings(cls: type, values: Any, where: str = ""):
    """Build a settings dataclass from plain values.

    Args:
        cls: The dataclass.
        values: A resolved dictionary, nested like the dataclass.
        where: Path of `values` in the config, for messages.

    Raises:
        ValueError: For a missing or unknown setting or a value of the wrong type, with its path and what is allowed.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where or 'config'}: expected settings, got {values!r}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    path = f"{where}." if where else ""
    for name in values:
        if name not in fields:
            nearest = difflib.get_close_matches(name, fields, n=1)
            meant = f". Did you mean {path}{nearest[0]}?" if nearest else ""
            raise ValueError(f"{path}{name}: unknown setting; {where or 'the config'} has {', '.join(fields)}{meant}")
    built = {}
    for name, spec in fields.items():
        if name in values:
            built[name] = _convert(hints[name], values[name], path + name)
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise ValueError(f"{path}{name}: missing")
    return cls(**built)


def _convert(hint, value, where: str):
    """`value` as the type of the hint, or a ValueError that names the setting."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return parse_settings(hint, value, where)
    if hint is Any:
        return value
    if origin is Literal:
        if value not in typing.get_args(hint):
            raise ValueError(f"{where}={value}: choose one of {', '.join(map(str, typing.get_args(hint)))}")
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (hint,) = [h for h in typing.get_args(hint) if h is not type(None)]
        return _convert(hint, value, where)
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{where}={value}: expected a list, such as [1, 2]")
        return [_convert(typing.get_args(hint)[0], item, where) for item in value]
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where}={value}: expected a dictionary")
        inner = typing.get_args(hint)[1]
        return {name: _convert(inner, item, f"{where}.{name}") for name, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{where}={value}: expected {_NAMES.get(hint, hint.__name__)}, got {type(value).__name__}")
    return value


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
