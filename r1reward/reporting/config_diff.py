"""What differs between the configs of the arms of a study: the keys that tell them apart, and nothing else."""

from dataclasses import dataclass

# Where a run lies, what it is called and when it began differ in every run and say nothing about the arm.
NAMING_KEYS = {
    "name",
    "run_name",
    "arm",
    "study",
    "group",
    "job",
    "job_name",
    "tags",
    "timestamp",
    "started",
    "command",
}
NAMING_SECTIONS = {"run", "logger", "wandb", "tracking"}
IGNORED_SECTIONS = {"hydra"}


@dataclass(frozen=True)
class ConfigDifference:
    """A config key whose value is not the same in every arm: `values` maps the arm to its value as text."""

    key: str
    values: dict[str, str]


def flatten(config: dict, prefix: str = "") -> dict[str, object]:
    """Nested dictionaries as dotted keys; lists and empty dictionaries stay values."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def is_bookkeeping(key: str) -> bool:
    """Whether the dotted `key` is a seed, a name, a time or a place to write to."""
    *sections, last = key.split(".")
    if sections and sections[0] in IGNORED_SECTIONS:
        return True
    if last == "seed" or last.endswith(("_seed", "_dir", "_folder")) or last in ("dir", "folder", "output"):
        return True
    # `model.name` or `clip.name` is a choice; `name` at the top or under `run` is a label.
    return last in NAMING_KEYS and (not sections or sections[-1] in NAMING_SECTIONS)


def config_differences(configs: dict[str, list[dict]]) -> list[ConfigDifference]:
    """The keys that differ between arms, given each arm's configs (one per seed).

    A key whose value changes from seed to seed within an arm shows every value, unless they are paths: those follow the
    seed. A key that an arm does not have shows as "(not set)".
    """
    flat = {arm: [flatten(config) for config in members] for arm, members in configs.items()}
    keys = {key: None for members in flat.values() for config in members for key in config}
    differences = []
    for key in keys:
        if is_bookkeeping(key):
            continue
        values = {arm: _distinct(config.get(key, _MISSING) for config in members) for arm, members in flat.items()}
        varies_by_seed = any(len(texts) > 1 for texts in values.values())
        if varies_by_seed and any("/" in text for texts in values.values() for text in texts):
            continue
        if len({tuple(texts) for texts in values.values()}) > 1:
            differences.append(ConfigDifference(key, {arm: " | ".join(texts) for arm, texts in values.items()}))
    return sorted(differences, key=lambda difference: difference.key)


_MISSING = object()


def _distinct(values) -> list[str]:
    return sorted({_text(value) for value in values})


def _text(value) -> str:
    if value is _MISSING:
        return "(not set)"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
