"""What is known about the models of each family. A new family is one short module like those beside this one, and one YAML.

A family is found by the model's `config.model_type`: among the modules of this package, each with a `FAMILY`, or, for a model
that none of them knows, in a module of the user's own that `model.family` names. Importing a family imports no torch.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal

from r1reward import dotted_path

Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class Family:
    """What is known about the models of some model types.

    Attributes:
        model_types: Their `config.model_type`s.
        vision: The modules of the vision tower, each as it stands in the dotted names of parameters: `visual`.
        projector: The modules that bring its features to the language model, as in `vision`: `visual.merger`. What is named
            here is no part of the vision tower, wherever it lies.
        source: Where it is written in which space they were trained to write boxes, or why none is given.
        space: That space, one of `r1reward.models.coordinates.SPACES`; None where no author says so.
        resize: From the image processor and the size of an image to its size after the resize; None where there is no one
            resized image, because the processor cuts it into tiles or crops it.
        limits: From the image processor and `model.min_pixels` and `model.max_pixels`, one of which may be None, to the
            attributes of the image processor that keep an image between them. Raises a ValueError that says why where the
            processor cannot. None: any limit is refused.
        shares_prompts: The model types whose prompts `r1reward.shared_prefix` can share, as its tests have proven; it looks at
            the families of this package alone.
    """

    model_types: tuple[str, ...]
    vision: tuple[str, ...]
    projector: tuple[str, ...]
    source: str
    space: str | None = None
    resize: Callable[[Any, Size], Size] | None = None
    limits: Callable[[Any, int | None, int | None], dict[str, Any]] | None = None
    shares_prompts: tuple[str, ...] = ()

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.type == tuple[str, ...] and isinstance(getattr(self, field.name), str):
                raise ValueError(f"Family.{field.name} is a tuple: write ({getattr(self, field.name)!r},) with a comma")

    def part_of(self, name: str) -> Literal["vision", "projector", "language"]:
        """The part of the model that a module or parameter is of, by its dotted name; an adapter's prefixes do no harm."""
        if any(f".{each}." in f".{name}." for each in self.projector):
            return "projector"
        return "vision" if any(f".{each}." in f".{name}." for each in self.vision) else "language"


@cache
def known() -> dict[str, Family]:
    """The families of this package, by model type."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    pairs = [(model_type, module.FAMILY) for module in modules for model_type in module.FAMILY.model_types]
    families = dict(pairs)
    assert len(families) == len(pairs), "two families share a model type"
    return families


def family_of(model_type: str, path: str | None = None) -> Family:
    """The family of a model.

    Args:
        model_type: The model's `config.model_type`.
        path: Dotted path of a family of the user's own, such as `my_family.FAMILY` (`model.family`); it goes before those of
            this package.

    Raises:
        ValueError: There is none, or `path` names none that is for this model type.
    """
    if path is not None:
        return _own(model_type, path)
    families = known()
    if model_type not in families:
        raise ValueError(
            f"model type {model_type!r} is of no family known here ({', '.join(sorted(families))}). Describe it in a file of "
            'your own, as in the README, "A model family of your own", and set model.family=my_family.FAMILY. It is needed for '
            "model.freeze, for model.min_pixels and model.max_pixels, and for boxes unless model.coordinates is set."
        )
    return families[model_type]


def _own(model_type: str, path: str) -> Family:
    family = dotted_path.load(path, f"model.family={path}")
    if not isinstance(family, Family):
        raise ValueError(f"model.family={path}: must be a r1reward.models.families.Family, is {family!r}")
    if model_type not in family.model_types:
        raise ValueError(
            f"model.family={path} is for model types {', '.join(family.model_types)}, and this model is of type "
            f"{model_type!r}; add it to model_types if it is built alike"
        )
    return family
