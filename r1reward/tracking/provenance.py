"""What a run was made with: package versions and the commit of the code."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = (
    "r1reward",
    "trl",
    "transformers",
    "torch",
    "torchvision",
    "accelerate",
    "peft",
    "hydra-core",
    "datasets",
    "wandb",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the checkout that holds this package, with "+dirty" where its tree has changes; never raises.

    None for an installed package, also when its environment lies inside some other repository: the file must be
    tracked.
    """
    folder = Path(__file__).resolve().parent
    # A git hook sets GIT_DIR and the like, which would point these commands at another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        result = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=20, check=True
        )
        return result.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "../__init__.py")
        commit = git("rev-parse", "HEAD")
        return commit + "+dirty" if git("status", "--porcelain") else commit
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
