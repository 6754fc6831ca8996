"""One launch of two processes for all tests of this folder, also where pytest itself runs on several processes."""

import pytest
import torch
from filelock import FileLock

from tests.several_processes.launcher import launch


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory, worker_id):
    """The folder that pytest's processes share, with the tiny model in it."""
    from tests.several_processes.scenarios import prepare

    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "several_processes"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "prepared.lock"):
        if not (folder / "prepared.pickle").exists():
            prepare(folder)
    return folder


@pytest.fixture(scope="session")
def of_two(prepared_folder):
    """What each of two processes has of every scenario: one dictionary by name per process."""
    with FileLock(prepared_folder / "launched.lock"):
        if not (prepared_folder / "launched").exists():
            (prepared_folder / "launched").write_text("")
            code, text = launch("tests.several_processes.worker", str(prepared_folder), folder=prepared_folder)
            assert code == 0, text
    return [torch.load(prepared_folder / f"outcomes-{rank}.pt", weights_only=False) for rank in (0, 1)]
