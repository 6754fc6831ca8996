"""What changed in a run's config since it began, apart from what cannot change its result."""

import json
from typing import Any

from r1reward.reporting.config_diff import flatten

# Where a run is shown, how often its state is kept, and how it is taken up again: none of these touches a number that the run
# computes, and all of them are what somebody who resumes a run may want to set anew.
WITHOUT_EFFECT = {"logger", "trainer.resume", "trainer.save_steps", "trainer.keep_last", "trainer.keep_best"}

_MISSING = object()


def config_changes(old: dict, new: dict) -> list[str]:
    """The settings that differ, as lines `key: old -> new`, sorted by key; without those in `WITHOUT_EFFECT`."""
    before, after = flatten(old), flatten(new)
    return [
        f"{key}: {_text(before.get(key, _MISSING))} -> {_text(after.get(key, _MISSING))}"
        for key in sorted(before.keys() | after.keys())
        if not _is_without_effect(key) and before.get(key, _MISSING) != after.get(key, _MISSING)
    ]


def _is_without_effect(key: str) -> bool:
    return key in WITHOUT_EFFECT or key.split(".")[0] in WITHOUT_EFFECT


def _text(value: Any) -> str:
    return "(not set)" if value is _MISSING else json.dumps(value, ensure_ascii=False, default=str)
