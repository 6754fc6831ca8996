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
    """The folder of published sample data: R1REWARD_SHARED_DATA, or shared/data beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("R1REWARD_SHARED_DATA") or default)
    if not folder.is_dir():
        pytest.skip("no shared data beside the checkout; point R1REWARD_SHARED_DATA at a folder that holds it")
    return folder


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """The folder of small inputs from practice: R1REWARD_SHARED_CASES, or shared/cases beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "cases"
    folder = Path(os.environ.get("R1REWARD_SHARED_CASES") or default)
    if not folder.is_dir():
        pytest.skip("no shared cases beside the checkout; point R1REWARD_SHARED_CASES at a folder that holds them")
    return folder
