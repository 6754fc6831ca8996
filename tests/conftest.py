"""Settings and fixtures of all tests: nothing goes online, slow and GPU tests run only when asked for or possible."""

import os

# Before any import: wandb, huggingface_hub and tokenizers read these when they are loaded.
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow (minutes)")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: give --slow to run it"))
    on_gpu = [item for item in items if "gpu" in item.keywords]
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in on_gpu:
                item.add_marker(pytest.mark.skip(reason="gpu: needs a CUDA device"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published sample data."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """The folder of small inputs that once failed."""
    return _shared("cases")


def _shared(name: str) -> Path:
    """The folder that R1REWARD_SHARED_<NAME> names, or shared/<name> beside the checkout."""
    variable = f"R1REWARD_SHARED_{name.upper()}"
    folder = Path(os.environ.get(variable) or Path(__file__).resolve().parents[2] / "shared" / name)
    if not folder.is_dir():
        pytest.skip(f"no shared/{name} beside the checkout; point {variable} at a folder that holds it")
    return folder
