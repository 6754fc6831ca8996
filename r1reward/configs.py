"""Where the configs lie, and how a composed Hydra config becomes settings. Imports no torch."""

import hashlib
import os
import re
import shlex
import sys
import warnings
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from r1reward.tracking.redaction import redact, refuse_secrets

PACKAGE = Path(__file__).resolve().parent
# Inside the package in an installed wheel, beside it in a checkout.
CONFIG_FOLDER = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"

LONGEST_NAME = 150  # characters


def arm_name(overrides: str, study: str) -> str:
    """Name of a variant from Hydra's override_dirname ("clip=ppo,seed_free=0"); the study's where nothing differs.

    Of the file of the data its name is enough, without its folder.
    """
    overrides = re.sub(r"(\bdata\.path=)[^,]*/", r"\1", overrides)
    # Hydra makes the folder of this name before the config is seen and a secret in it refused.
    name = re.sub(r"[^\w.,=+\-]+", "_", redact(overrides)).strip("_") or study
    if len(name) > LONGEST_NAME:  # it names a folder; the digest keeps cut names apart
        name = f"{name[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name


OmegaConf.register_new_resolver("arm_name", arm_name, replace=True)


def folder_name(name: str) -> str:
    """A study's or an arm's name as a folder's, of characters that neither a shell nor Hydra asks to quote.

    "clip=ppo,reward.format_weight=0.5" -> "clip-ppo+reward.format_weight-0.5"
    """
    name = redact(str(name)).replace("=", "-").replace(",", "+")
    return re.sub(r"[^A-Za-z0-9_.+\-/]+", "_", name).strip("_") or "unnamed"


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def typed(setting: str, value: str) -> str:
    """`setting=value` as it can be typed into a command, quoted where the shell or Hydra needs it."""
    if re.fullmatch(r"[A-Za-z0-9_.+\-/]+", value):
        return f"{setting}={value}"
    escaped = re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", "\\'")
    text = f"{setting}='{escaped}'"
    return shlex.quote(text) if re.search(r'["$`\\!]', text) else f'"{text}"'


def slug(path: str) -> str:
    """A model's path or hub id as part of a folder's name: its last two parts, without what a name cannot hold.

    A digest of the whole follows where another path could have the same name: two runs' "train-s0/model", "a/b_c" and "a_b/c".
    """
    path = Path(redact(path)).expanduser()
    name = re.sub(r"[^\w.+\-]+", "_", "_".join(path.parts[-2:]))[-LONGEST_NAME:]
    if (
        path.is_absolute()
        or len(path.parts) > 2
        or (len(path.parts) == 2 and any(re.search(r"[^\w.+\-*]|_", part) for part in path.parts))
    ):
        name += f"-{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:8]}"
    return name


OmegaConf.register_new_resolver("slug", slug, replace=True)


def compose_settings(config: DictConfig, kind: type | None = None):
    """The composed config as `TrainSettings`, or as another dataclass; the only place where OmegaConf objects turn into plain
    values.

    Raises:
        ValueError: For a missing, unknown or unfitting setting, or one that holds a secret, naming it.
    """
    from r1reward.parsing import parse_settings
    from r1reward.settings import TrainSettings

    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"the config cannot be resolved: {error}") from error
    refuse_secrets(values)
    return parse_settings(kind or TrainSettings, values)


def check_sweep(hydra_config: DictConfig):
    """Refuse a sweep over experiments that bring a sweep of their own: Hydra would silently ignore theirs (hydra issue 2807).

    Raises:
        ValueError: With the remedy.
    """
    params = hydra_config.sweeper.get("params") or {}
    given = {override.split("=", 1)[0].lstrip("+~") for override in hydra_config.overrides.task}
    ignored = sorted(name for name in params if name not in given)
    if hydra_config.mode is not None and hydra_config.mode.name == "MULTIRUN" and ignored:
        experiment = hydra_config.runtime.choices.get("experiment")
        raise ValueError(
            f"experiment {experiment} sweeps over {', '.join(ignored)} itself, which Hydra ignores when experiments are swept "
            f"with -m. Run them one at a time, without -m: python -m r1reward.train +experiment={experiment}"
        )


PROCESS_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def check_processes() -> None:
    """See that the variables by which a launcher numbers its processes are there together, or not at all.

    Raises:
        ValueError: With those that are missing or are no numbers.
    """
    numbers = {name: os.environ.get(name, "") for name in PROCESS_VARIABLES}
    given = [name for name in PROCESS_VARIABLES[:3] if numbers[name]]
    missing = [name for name in PROCESS_VARIABLES if not numbers[name]]
    remedy = "start several processes by `accelerate launch` or `torchrun`, which set them all, or unset these"
    wrong = [f"{name}={numbers[name]}" for name in given if not numbers[name].isdecimal()]
    if wrong:
        raise ValueError(f"the environment variables {', '.join(wrong)} are no numbers: {remedy}")
    alone = int(numbers["RANK"] or 0) == 0 and int(numbers["WORLD_SIZE"] or 1) == 1 and not numbers["LOCAL_RANK"]
    if given and missing and not alone:
        there = ", ".join(f"{name}={numbers[name]}" for name in given)
        raise ValueError(f"the environment has {there} but no {', '.join(missing)}: {remedy}")
    if int(numbers["RANK"] or 0) >= int(numbers["WORLD_SIZE"] or 1):
        raise ValueError(f"the environment has RANK={numbers['RANK']} of WORLD_SIZE={numbers['WORLD_SIZE']}: {remedy}")


def keys_that_name_no_arm(overrides: list[str]) -> list[str]:
    """Of a sweep's overrides, the keys with one value only: its arms are named by what was swept.

    None of them where nothing but the seed was swept: then the arm is named as that of a single run.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = {override.key_or_group for override in parsed if override.is_sweep_override()} - {"seed"}
    return [o.key_or_group for o in parsed if not o.is_sweep_override()] if swept else []


def command_line() -> str:
    """The command line as it can be typed again, secrets aside."""
    module = "r1reward." + Path(sys.argv[0]).stem
    return shlex.join(["python", "-m", module, *map(redact, sys.argv[1:])])


def quiet_libraries():
    """Keep the terminal for what the user needs: no telemetry, no bars for loading weights, no notices for library authors."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from transformers.utils import logging

    logging.disable_progress_bar()
