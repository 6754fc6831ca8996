"""What to say where a setting, a group or an option of a group is misspelt: the nearest name that exists, not Hydra's `+`."""

import difflib
import os
import re
import sys
import typing
from collections.abc import Callable
from dataclasses import is_dataclass

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from r1reward.configs import CONFIG_FOLDER
from r1reward.tracking.redaction import redact

UNKNOWN = 1  # exit code of a group or setting that does not exist, as Hydra has it
_WHOLE_TRACEBACK = "HYDRA_FULL_ERROR"
_set_here: set[str] = set()  # of the environment: what is not the user's own wish


def start(command: Callable[[], object], settings: Callable[[], type]) -> None:
    """Run a Hydra command; what is wrong with the names on its command line is one message.

    Args:
        command: What `hydra.main` made, which calls `started` before anything else.
        settings: Gives the dataclass that the config becomes; called where a name is not known.
    """
    if os.environ.get(_WHOLE_TRACEBACK):
        command()
        return
    _set_here.add(_WHOLE_TRACEBACK)
    os.environ[_WHOLE_TRACEBACK] = "1"  # until the job begins, Hydra raises what it would print with its own advice
    try:
        command()
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {redact(explained(error, settings()))}", file=sys.stderr)
        sys.exit(UNKNOWN)
    finally:
        started()


def started() -> None:
    """From here on errors are the job's, not the command line's."""
    while _set_here:
        os.environ.pop(_set_here.pop(), None)


def explained(error: Exception, settings: type) -> str:
    """Hydra's message, with what was probably meant in the place of its advice."""
    text = str(error).partition("\nConfig search path:")[0].rstrip()
    if error.__cause__ is not None and isinstance(error.__cause__, OmegaConfBaseException):
        text += f"\n{str(error.__cause__).splitlines()[0]}"
    if name := re.match(r"Could not (?:override|append to config|delete).*?'([^']+)'", text):
        return f"Could not override '{name[1]}'. {advice(name[1].partition('@')[0], settings)}"
    if option := re.search(r"[Cc]ould not find '([\w/.@-]+)/([\w.-]+)'", text):
        group, given = option[1].partition("@")[0], option[2]
        return f"{text}\n" + did_you_mean(given, options(group), f"{'+' * (group == 'experiment')}{group}=").strip()
    return text


def advice(name: str, settings: type) -> str:
    """What to do about a name that the composed config does not have."""
    known, open_to_names = known_settings(settings), [path for path, _ in _dictionaries(settings)]
    if name == "experiment":
        return "An experiment is added, not changed: +experiment=NAME"
    if name in known:
        places = [f"{group}={option}" for group in _groups() for option in options(group) if _has(group, option, name)]
        if places:
            return f"It belongs to other options; choose one of {', '.join(places)}"
        return f"The chosen options do not set it: +{name}=..."
    for path in open_to_names:
        if re.fullmatch(f"{path}\\..+", name):
            return f"To add it: +{name}=..."
    nearest = did_you_mean(name, [*known, *_groups(), "experiment"])
    if nearest:
        return f"There is no such setting or group.{nearest}"
    parent = name.rpartition(".")[0]
    siblings = sorted({path[len(parent) + 1 :].partition(".")[0] for path in known if path.startswith(f"{parent}.")})
    if parent and siblings:
        return f"There is no such setting; {parent} has {', '.join(siblings)}"
    return f"There is no such setting or group; there are {', '.join(sorted({path.partition('.')[0] for path in known}))}"


def did_you_mean(name: str, known: list[str], prefix: str = "") -> str:
    """` Did you mean ...?` with the nearest of the known names, empty where none is near."""
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if not near:  # the right name without its group, or in another
        last = {path.rpartition(".")[2]: path for path in reversed(known)}
        own = name.rpartition(".")[2]
        exact = [path for path in known if path.rpartition(".")[2] == own]
        near = exact or [last[found] for found in difflib.get_close_matches(own, list(last), n=2, cutoff=0.75)]
    best = difflib.SequenceMatcher(None, near[0], name).ratio() if near else 0.0
    near = [found for found in near if difflib.SequenceMatcher(None, found, name).ratio() > best - 0.05]
    return f" Did you mean {' or '.join(f'{prefix}{found}' for found in near)}?" if near else ""


def known_settings(settings: type, prefix: str = "") -> list[str]:
    """Every setting below a settings dataclass as a dotted name, groups included."""
    found = []
    for name, hint in typing.get_type_hints(settings).items():
        found.append(prefix + name)
        if is_dataclass(hint):
            found += known_settings(hint, f"{prefix}{name}.")
    return found


def _dictionaries(settings: type, prefix: str = "") -> list[tuple[str, type]]:
    """Regular expressions of the settings that hold names of the user's own, such as `trainer.extra`, and what they hold."""
    found = []
    for name, hint in typing.get_type_hints(settings).items():
        path = prefix + name
        if is_dataclass(hint):
            found += _dictionaries(hint, f"{path}\\.")
        elif typing.get_origin(hint) is dict:
            found.append((path, typing.get_args(hint)[1]))
    return found


def _groups() -> list[str]:
    folders = {path.parent for path in CONFIG_FOLDER.rglob("*.yaml")} - {CONFIG_FOLDER}
    return sorted(folder.relative_to(CONFIG_FOLDER).as_posix() for folder in folders)


def options(group: str) -> list[str]:
    """The options of a group of configs."""
    return sorted(path.stem for path in (CONFIG_FOLDER / group).glob("*.yaml"))


def _has(group: str, option: str, name: str) -> bool:
    """Whether an option of a group sets the dotted name."""
    package = group.replace("/", ".") + "."
    if not name.startswith(package):
        return False
    text = (CONFIG_FOLDER / group / f"{option}.yaml").read_text(encoding="utf-8")
    return re.search(rf"^{re.escape(name[len(package) :].partition('.')[0])}:", text, re.MULTILINE) is not None
