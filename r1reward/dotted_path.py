"""What a dotted path in the settings names: a function or an object of the user's own."""

from importlib import import_module
from typing import Any


def load(path: str, what: str) -> Any:
    """What a path such as `my_rewards.brevity` names.

    Args:
        path: A module and a name in it.
        what: What the path stands for, with which errors begin.

    Raises:
        ValueError: There is no such module, or no such name in it.
    """
    module, _, name = path.rpartition(".")
    if not module:
        raise ValueError(f"{what}: write the module and the name in it, such as my_module.{name}")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        where = f"start where {module.split('.')[0]}.py lies, or put its folder on PYTHONPATH"
        raise ValueError(f"{what}: cannot import {module} ({error}); {where}") from error
    except AttributeError:
        raise ValueError(f"{what}: the module {module} has no {name}") from None
