"""What changed in a run's config since it began, apart from what cannot change its result."""

import dataclasses
import json
import typing
from typing import Any

from r1reward.reporting.config_diff import flatten
from r1reward.settings import TrainSettings

# Where a run is shown, how often its state is kept, and how it is taken up again: none of these touches a number that the run
# computes, and all of them are what somebody who resumes a run may want to set anew.
WITHOUT_EFFECT = {"logger", "trainer.resume", "trainer.save_steps", "trainer.keep_last", "trainer.keep_best"}

_MISSING = object()


def config_changes(old: dict, new: dict) -> list[str]:
    """The settings that differ, as lines `key: old -> new`, sorted by key; without those in `WITHOUT_EFFECT`.

    A setting that a config does not have, because it came later than its run, has its default.
    """
    before, after = (flatten(with_defaults(config)) for config in (old, new))
    return [
        f"{key}: {_text(before.get(key, _MISSING))} -> {_text(after.get(key, _MISSING))}"
        for key in sorted(before.keys() | after.keys())
        if not _is_without_effect(key) and before.get(key, _MISSING) != after.get(key, _MISSING)
    ]


def with_defaults(values: dict, settings: type = TrainSettings) -> dict:
    """The values of a settings dataclass, completed by the defaults of those that are missing."""
    hints, completed = typing.get_type_hints(settings), dict(values)
    for field in dataclasses.fields(settings):
        if field.name in values:
            completed[field.name] = _completed(values[field.name], hints[field.name])
        elif field.default is not dataclasses.MISSING:
            completed[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
            completed[field.name] = dataclasses.asdict(default) if dataclasses.is_dataclass(default) else default
    return completed


def _completed(value: Any, hint: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if dataclasses.is_dataclass(hint):
        return with_defaults(value, hint)
    if typing.get_origin(hint) is dict:
        return {name: _completed(item, typing.get_args(hint)[1]) for name, item in value.items()}
    return value


def _is_without_effect(key: str) -> bool:
    return key in WITHOUT_EFFECT or key.split(".")[0] in WITHOUT_EFFECT


def _text(value: Any) -> str:
    return "(not set)" if value is _MISSING else json.dumps(value, ensure_ascii=False, default=str)
