"""What fails on one process ends all of them, with the error, instead of leaving the others to wait for it."""

from tests.several_processes.launcher import launch


def test_a_judge_that_fails_on_one_process_ends_all(prepared_folder, tmp_path):
    code, text = launch("tests.several_processes.failing", str(prepared_folder), folder=tmp_path, timeout=120)
    assert code != 0
    assert "TooManyFailures: " in text and "timeout" in text
    assert "the training went on" not in text
