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
