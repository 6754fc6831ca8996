import math

import pytest

from r1reward.reporting.runs import find_run_folders, group_by_arm, load_run, load_runs
from tests.reporting.synthetic import write_run


def test_finds_runs_at_any_depth_each_once_in_natural_order(tmp_path):
    for name in ("10_a", "2_a", "deep/er/1_a"):
        write_run(tmp_path / name, arm="a", seed=0)
    found = find_run_folders([tmp_path, tmp_path / "2_a"])
    assert [folder.name for folder in found] == ["2_a", "10_a", "1_a"]


def test_a_run_folder_may_be_given_itself_and_is_not_searched_below(tmp_path):
    folder = write_run(tmp_path / "run", arm="a", seed=0)
    write_run(folder / "checkpoints" / "step-1", arm="copy", seed=0)
    assert find_run_folders([folder]) == [folder]


def test_a_run_that_was_set_aside_is_found_by_its_name_only(tmp_path):
    run, former = write_run(tmp_path / "a-s0", arm="a", seed=0), write_run(tmp_path / "a-s0.former-1", arm="a", seed=0)
    assert find_run_folders([tmp_path]) == [run]
    assert find_run_folders([former]) == [former]


def test_no_runs_and_no_folder_are_errors_that_name_the_folder(tmp_path):
    with pytest.raises(ValueError, match="no run folder below .*summary.json"):
        load_runs(tmp_path)
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        load_runs([tmp_path / "nowhere"])


def test_non_finite_metrics_come_back_as_floats(tmp_path):
    run = load_run(write_run(tmp_path / "run", arm="a", seed=0, metrics=[{"step": 1, "loss": "NaN", "reward": "-Infinity"}]))
    assert math.isnan(run.metrics[0]["loss"]) and run.metrics[0]["reward"] == -math.inf


def test_an_unfinished_run_takes_its_names_from_the_config(tmp_path):
    run = load_run(write_run(tmp_path / "run", arm="full", seed=7, finished=False))
    assert (run.arm, run.seed, run.study, run.finished) == ("full", 7, "ablation", False)
    assert run.evaluation("after", "held_out") is None and run.splits() == set()


def test_a_later_run_of_the_same_arm_and_seed_replaces_the_earlier(tmp_path):
    write_run(tmp_path / "1_again", arm="a", seed=0, after=0.8, started="2025-02-01T00:00:00")
    write_run(tmp_path / "2_first", arm="a", seed=0, after=0.6, started="2025-01-01T00:00:00")
    arms, replaced = group_by_arm(load_runs(tmp_path))
    assert [run.folder.name for run in arms["a"]] == ["1_again"]
    assert [run.folder.name for run in replaced] == ["2_first"]


def test_arms_of_several_studies_are_kept_apart(tmp_path):
    write_run(tmp_path / "1", arm="a", seed=0, study="first")
    write_run(tmp_path / "2", arm="a", seed=0, study="second")
    arms, replaced = group_by_arm(load_runs(tmp_path))
    assert list(arms) == ["first/a", "second/a"] and replaced == []
