import math

import numpy as np
import pytest
from PIL import Image

from r1reward.reporting.accuracy_plot import accuracy
from r1reward.reporting.plots import PANELS, learning_curve, learning_curves, over_seeds, series, smooth
from r1reward.reporting.runs import load_run, load_runs
from r1reward.reporting.summary import summarise
from tests.reporting.synthetic import curve, write_run

PANEL = {panel.key: panel for panel in PANELS}


def colours_in(path) -> int:
    """How many different colours a picture has: a blank one has a single colour."""
    image = Image.open(path).convert("RGB")
    return len(image.getcolors(maxcolors=image.width * image.height))


def test_a_series_ends_where_the_metric_stops_being_finite_and_a_cross_marks_its_last_value(tmp_path):
    metrics = [{"step": s, "log_ratio/max_abs": v} for s, v in ((1, 0.0), (2, -2.0), (3, "Infinity"), (4, "NaN"))]
    run = load_run(write_run(tmp_path / "run", arm="a", seed=0, metrics=metrics, collapsed_at=4))
    found = series(run, PANEL["log_ratio/max_abs"])
    # Zero has no place on a log scale; the sign is dropped; the cross stands at step 3, where infinity came.
    assert found.crosses == [(3.0, 2.0)]
    assert found.steps.tolist() == [2, 3, 4]  # the zero of step 1 has no place on a log scale
    assert np.array_equal(found.values, [2.0, math.nan, math.nan], equal_nan=True)


def test_a_collapse_is_marked_in_metrics_that_stay_finite(tmp_path):
    metrics = [{"step": s, "rewards/result/mean": 0.1 * s} for s in range(1, 6)]
    run = load_run(write_run(tmp_path / "run", arm="a", seed=0, metrics=metrics, collapsed_at=3))
    assert series(run, PANEL["rewards/result/mean"]).crosses == [(3.0, pytest.approx(30.0))]  # per cent
    assert series(run, PANEL["entropy"]) is None


def test_smoothing_keeps_constants_and_gaps_and_averages_neighbours():
    flat = np.full(90, 5.0)
    assert np.allclose(smooth(flat), 5) and np.allclose(smooth(flat, log=True), 5)
    ramp = np.arange(90, dtype=float)
    assert smooth(ramp)[45] == pytest.approx(45) and smooth(ramp)[0] == pytest.approx((0 + 1 + 2 + 3) / 4)
    stopped = np.where(ramp < 60, ramp, np.nan)
    assert smooth(stopped)[59] == 59 and np.isnan(smooth(stopped)[60:]).all()


def test_seeds_are_averaged_on_the_union_of_their_steps(tmp_path):
    first = [{"step": 1, "reward": 1.0}, {"step": 2, "reward": 2.0}]
    second = [{"step": 2, "reward": 4.0}, {"step": 3, "reward": 6.0}]
    runs = [load_run(write_run(tmp_path / str(i), arm="a", seed=i, metrics=m)) for i, m in enumerate((first, second))]
    steps, raw, calm, low, high = over_seeds([series(run, PANEL["reward"]) for run in runs])
    assert list(steps) == [1, 2, 3] and list(raw) == list(calm) == [1, 3, 6]
    assert list(low) == [1, 2, 6] and list(high) == [1, 4, 6]


def test_figures_of_a_study_have_content(study, tmp_path):
    comparison = summarise(load_runs(study))
    curves = learning_curves({arm.arm: arm.runs for arm in comparison.arms}, tmp_path / "curves.png")
    assert colours_in(curves) > 500 and Image.open(curves).width > 1000
    assert colours_in(accuracy(comparison, tmp_path / "accuracy.png")) > 100


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        [{"step": 1, "reward": 0.5}],
        [{"step": 1, "loss": "NaN", "reward": "NaN"}],
        [{"step": 1, "loss": 0.0, "pre_clip/fraction": 0.0}, {"step": 2, "loss": 0.0, "pre_clip/fraction": 0.0}],
        curve(35, seed=1, collapse=20),
    ],
    ids=["no steps", "one step", "never finite", "all zero", "collapsed"],
)
def test_one_run_draws_its_curves_whatever_it_logged(metrics, tmp_path):
    path = learning_curve(write_run(tmp_path / "run", arm="a", seed=0, metrics=metrics))
    assert path == tmp_path / "run" / "curves.png" and colours_in(path) > 10


def test_accuracy_without_any_evaluation_says_so(tmp_path):
    folder = write_run(tmp_path / "run", arm="a", seed=0)
    text = (folder / "summary.json").read_text()
    (folder / "summary.json").write_text(text.replace('"evaluation"', '"skipped"'))
    assert colours_in(accuracy(summarise(load_runs(folder)), tmp_path / "accuracy.png")) > 10


def test_drawing_leaves_matplotlibs_settings_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    learning_curve(write_run(tmp_path / "run", arm="a", seed=0))
    assert dict(matplotlib.rcParams) == before
