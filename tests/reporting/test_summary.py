import copy
import math

import pytest
import yaml

from r1reward.configs import CONFIG_FOLDER
from r1reward.reporting.runs import load_runs
from r1reward.reporting.summary import choose_baseline, summarise
from tests.reporting.synthetic import write_run


def arms_of(folder, **options):
    return {arm.arm: arm for arm in summarise(load_runs(folder), **options).arms}


def test_three_seeds_give_the_t_interval_by_hand(tmp_path):
    # 0.70, 0.74, 0.78: mean 0.74, deviation 0.04, error 0.04 / sqrt(3); t(0.975, 2 degrees of freedom) = 4.3027.
    for seed, after in enumerate((0.70, 0.74, 0.78)):
        write_run(tmp_path / str(seed), arm="full", seed=seed, after=after)
    after = arms_of(tmp_path)["full"].after
    half = 4.3027 * 0.04 / math.sqrt(3)
    assert after.mean == pytest.approx(0.74) and after.n == 3 and after.over == "seeds"
    assert (after.low, after.high) == pytest.approx((0.74 - half, 0.74 + half), abs=1e-5)


def test_differences_are_paired_by_seed_and_leave_out_seeds_that_one_arm_lacks(tmp_path):
    # Seeds 1 and 2 are shared: differences -0.10 and -0.06, mean -0.08, error 0.02; t(0.975, 1) = 12.7062.
    for seed, after in ((0, 0.9), (1, 0.80), (2, 0.70)):
        write_run(tmp_path / f"full{seed}", arm="full", seed=seed, after=after)
    for seed, after in ((1, 0.70), (2, 0.64), (3, 0.1)):
        write_run(tmp_path / f"other{seed}", arm="other", seed=seed, after=after)
    arms = arms_of(tmp_path)
    difference = arms["other"].difference
    assert arms["full"].difference is None
    assert difference.mean == pytest.approx(-0.08) and difference.n == 2
    assert difference.high == pytest.approx(-0.08 + 12.7062 * 0.02, abs=1e-5) and difference.contains_zero


def test_change_is_after_minus_before_within_a_run(tmp_path):
    # Before and after rise together with the seed: each run changes by exactly 0.2, so the interval has no width.
    for seed in range(3):
        write_run(tmp_path / str(seed), arm="full", seed=seed, before=0.5 + 0.05 * seed, after=0.7 + 0.05 * seed)
    change = arms_of(tmp_path)["full"].change
    assert (change.mean, change.low, change.high) == pytest.approx((0.2, 0.2, 0.2)) and not change.contains_zero


def test_one_seed_shows_the_runs_own_interval_and_a_difference_without_one(tmp_path):
    write_run(tmp_path / "a", arm="full", seed=0, after=0.8)
    write_run(tmp_path / "b", arm="other", seed=0, after=0.7)
    arms = arms_of(tmp_path)
    after, difference = arms["other"].after, arms["other"].difference
    assert (after.mean, after.low, after.high) == pytest.approx((0.7, 0.65, 0.75)) and after.over == "items"
    assert difference.mean == pytest.approx(-0.1) and difference.low is None and not difference.contains_zero


def test_no_shared_seed_means_no_difference(tmp_path):
    write_run(tmp_path / "a", arm="full", seed=0)
    write_run(tmp_path / "b", arm="other", seed=1)
    assert arms_of(tmp_path)["other"].difference is None


def test_an_arm_that_never_trained_changes_by_nothing(tmp_path):
    write_run(tmp_path / "a", arm="cold_start_only", seed=0, before=0.6, after=0.6, metrics=[])
    arm = arms_of(tmp_path)["cold_start_only"]
    assert arm.change.mean == 0 and arm.collapsed == 0 and arm.minutes == 2.0


def test_a_run_without_the_split_is_left_out_and_n_says_so(tmp_path):
    write_run(tmp_path / "a", arm="full", seed=0, after=0.8, out_of_distribution=0.7)
    write_run(tmp_path / "b", arm="full", seed=1, after=0.6)
    arm = arms_of(tmp_path)["full"]
    assert arm.after.n == 2 and arm.other_after.n == 1 and arm.other_after.mean == pytest.approx(0.7)


def test_nan_in_a_summary_is_a_missing_number_not_a_mean_of_nan(tmp_path):
    for seed, first in ((0, 0.4), (1, math.nan)):
        write_run(tmp_path / str(seed), arm="full", seed=seed, first=0.4)
        text = (tmp_path / str(seed) / "summary.json").read_text()
        if math.isnan(first):
            (tmp_path / str(seed) / "summary.json").write_text(
                text.replace('"first_position_rate": {"mean": 0.4', '"first_position_rate": {"mean": "NaN"')
            )
    rate = arms_of(tmp_path)["full"].first_position_rate
    assert rate.mean == pytest.approx(0.4) and rate.n == 1


def test_collapses_and_unfinished_runs_are_counted(study):
    comparison = summarise(load_runs(study))
    assert [arm.arm for arm in comparison.arms] == ["full", "cold_start_only", "no_filter", "no_pre_clip"]
    assert [arm.collapsed for arm in comparison.arms] == [0, 0, 0, 2]
    assert [run.folder.name for run in comparison.unfinished] == ["full_3"] and comparison.arms[0].seeds == [0, 1, 2]
    assert comparison.items == [200]


def test_category_accuracies_are_means_over_seeds(study):
    full = summarise(load_runs(study)).arms[0]
    # full: 0.78, 0.81, 0.79 after training; the synthetic "colour" lies 0.05 above.
    assert full.by_category["colour"].mean == pytest.approx((0.78 + 0.81 + 0.79) / 3 + 0.05)


def test_baselines_by_name_by_default_and_by_position():
    assert choose_baseline(["b", "full", "a"], "a") == "a"
    assert choose_baseline(["b", "clip=pre_clip"]) == "clip=pre_clip"
    assert choose_baseline(["x/b", "x/full"]) == "x/full"
    assert choose_baseline(["b", "a"]) == "b"
    with pytest.raises(ValueError, match="baseline 'c' is not among the arms"):
        choose_baseline(["b", "a"], "c")


def test_without_a_usual_name_the_arm_nearest_to_the_defaults_is_the_baseline():
    defaults = yaml.safe_load((CONFIG_FOLDER / "train.reference.yaml").read_text())
    configs = {}
    for arm, changed in {"z": ("delta_min", "delta_max"), "y": ("delta_max",), "x": ("delta_min",)}.items():
        configs[arm] = copy.deepcopy(defaults)
        configs[arm]["clip"] |= {key: 2 * defaults["clip"][key] for key in changed}
        configs[arm]["study"] = configs[arm]["arm"] = arm  # bookkeeping, which tells nothing
    assert choose_baseline(["z", "y", "x"], configs=configs) == "y"
    assert choose_baseline(["z", "x", "y"], configs=configs) == "x"
