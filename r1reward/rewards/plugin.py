"""A user's own reward function, by its dotted path."""

import inspect
from functools import partial

from r1reward import dotted_path
from r1reward.rewards.tasks import Function


def load(path: str, options: dict) -> Function:
    """The function that a dotted path such as `my_rewards.brevity` names, with `options` as further keyword arguments.

    The signature is that of `r1reward.rewards.tasks`.

    Raises:
        ValueError: If there is no such module or function, or it cannot be called so.
    """
    function = dotted_path.load(path, f"reward function {path}")
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise ValueError(f"reward function {path}: must be a plain function, is {function!r}")
    try:
        inspect.signature(function).bind(completions=[], prompts=[], **options)
    except TypeError as error:
        raise ValueError(
            f"reward function {path}: cannot be called as f(completions, **columns) with the options {options}: {error}"
        ) from None
    return partial(function, **options) if options else function
