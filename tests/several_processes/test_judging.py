"""Evaluation shared among processes: each judges its batches and has all verdicts, those of one process."""

import pytest

from tests.several_processes.judging import SIZES, judge


@pytest.fixture(scope="module")
def of_one(prepared_folder):
    return judge(prepared_folder)


@pytest.mark.parametrize("name", SIZES)
def test_two_processes_judge_as_one(of_one, of_two, name):
    (one, progress), rows = of_one[name], SIZES[name][0]
    assert len(one.forward) == len(one.backward) == rows and sum(progress) == 2 * rows
    for outcomes in of_two:
        two, reported = outcomes["judging"][name]
        assert two == one
        assert sum(reported) == 2 * rows  # a bar of either process reaches its end
        assert len(reported) == -(-len(progress) // 2)  # it judged half of the batches
