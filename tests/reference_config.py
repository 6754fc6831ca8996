"""The flattened reference config, `conf/train.reference.yaml`: every setting with its default, on one page.

`python -m tests.reference_config` (or `make configs`) writes it anew; `test_configs.py` fails where it is out of date.
"""

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from r1reward.configs import CONFIG_FOLDER

REFERENCE = CONFIG_FOLDER / "train.reference.yaml"
HEADER = "# Every setting of `python -m r1reward.train`, by `make configs`; documented in r1reward/settings.py.\n"


def composed(*overrides: str, name: str = "train"):
    """The config as Hydra composes it, without its own `hydra` node."""
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def reference_text() -> str:
    """The text that the file should hold."""
    return HEADER + OmegaConf.to_yaml(composed(), resolve=False)


if __name__ == "__main__":
    REFERENCE.write_text(reference_text(), encoding="utf-8")
    print(f"wrote {REFERENCE}")
