"""The flattened reference config, `conf/train.reference.yaml`: every field of the settings' classes, on one page.

`python -m tests.reference_config` (or `make configs`) writes it anew; `test_configs.py` fails where it is out of date.
"""

from dataclasses import asdict

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from r1reward.configs import CONFIG_FOLDER, compose_settings

REFERENCE = CONFIG_FOLDER / "train.reference.yaml"
HEADER = """\
# Every setting of `python -m r1reward.train` with its value in the default run, by `make configs`; documented in
# r1reward/settings.py. Of data, adapter and judge some are read by other readers and kinds than those named here (the
# documentation says which); given to one that does not read it, a setting is an error.
"""


def composed(*overrides: str, name: str = "train"):
    """The config as Hydra composes it, without its own `hydra` node."""
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def reference_text() -> str:
    """The text that the file should hold."""
    settings = asdict(compose_settings(composed("arm=reference")))
    arm = OmegaConf.to_container(composed(), resolve=False)["arm"]
    return HEADER + OmegaConf.to_yaml(OmegaConf.create(settings | {"arm": arm}), resolve=False)


if __name__ == "__main__":
    REFERENCE.write_text(reference_text(), encoding="utf-8")
    print(f"wrote {REFERENCE}")
