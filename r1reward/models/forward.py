"""The model inside its wrappers, and what its forward pass takes.

Models of transformers accept any keyword in `**kwargs` and silently drop those that they do not know. An image that is handed
over under such a name is not seen.
"""

import inspect
from collections.abc import Iterable


def base_model(model):
    """The model of transformers inside a wrapper for adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def names_argument(model, name: str) -> bool:
    """Whether the forward pass of this model's class names the argument, instead of swallowing it."""
    return name in inspect.signature(type(model).forward).parameters


def swallowed(model, names: Iterable[str]) -> list[str]:
    """Those of `names` that neither the model's forward pass nor its backbone's names.

    Args:
        model: A model of transformers, its adapters' wrapper taken off; its head hands further keywords on to `base_model`.
        names: Keywords that it is to be called with.
    """
    return [name for name in names if not (names_argument(model, name) or names_argument(model.base_model, name))]
