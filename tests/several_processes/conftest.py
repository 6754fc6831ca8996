"""One launch of two processes for all tests of this folder, also where pytest itself runs on several processes."""

import pytest
import torch
from filelock import FileLock

from tests.several_processes.launcher import launch


def pytest_collection_modifyitems(items):
    """A launch loads torch several times; a hang is the launcher's to find."""
    for item in items:
        if "several_processes" in item.nodeid:
            item.add_marker(pytest.mark.timeout(1500))


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
def of_two(prepared_folder, request):
    """What each of two processes has of every scenario that is tested: one dictionary by name per process."""
    from tests.several_processes.scenarios import IN_MAKE_TEST, SCENARIOS

    names = SCENARIOS if request.config.getoption("--slow") else IN_MAKE_TEST
    with FileLock(prepared_folder / "launched.lock"):
        if not (prepared_folder / "launched").exists():
            (prepared_folder / "launched").write_text("")
            code, text = launch(
                "tests.several_processes.worker", str(prepared_folder), *names, folder=prepared_folder, timeout=900
            )
            assert code == 0, text
    return [torch.load(prepared_folder / f"outcomes-{rank}.pt", weights_only=False) for rank in (0, 1)]
