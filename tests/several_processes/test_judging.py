"""Evaluation shared among processes: each judges its batches and has all verdicts, those of one process."""

import pytest

from tests.several_processes.judging import SIZES, judge, measure_mixture


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


def test_two_processes_measure_a_mixture_as_one(prepared_folder, of_two):
    summary, progress = measure_mixture(prepared_folder)
    assert summary["by_task"]["odd"]["n"] == 5 and progress == 2 * 3 + 5
    assert [outcomes["mixture"] for outcomes in of_two] == [(summary, progress)] * 2
