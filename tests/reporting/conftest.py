import pytest

from tests.reporting.synthetic import write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of four arms, ten finished runs and one that is not; see `write_study`."""
    return write_study(tmp_path_factory.mktemp("study") / "runs", steps=40)
