"""When a run counts as collapsed."""

import math

from r1reward.trainer.collapse import Collapse, find_collapse


def steps(rates):
    return [{"step": i + 1, "loss": 0.1, "rewards/format/mean": rate} for i, rate in enumerate(rates)]


def test_a_sound_run_has_not_collapsed():
    assert find_collapse(steps([0.8] * 10 + [0.9] * 10)) == Collapse()
    assert find_collapse([]) == Collapse()


def test_a_skipped_step_is_counted_and_no_collapse():
    metrics = steps([0.8] * 3) + [
        {"step": 4, "loss": math.nan, "skipped_steps": 1},
        {"step": 5, "loss": 0.1, "skipped_steps": 1},
    ]
    assert find_collapse(metrics) == Collapse(skipped_steps=1)


def test_verdicts_that_vanish():
    """Ten steps at 0.8, then none: the mean of the last five falls below 0.4 with the third empty step (0.8 * 2 / 5 = 0.32)."""
    found = find_collapse(steps([0.8] * 10 + [0.0] * 5))
    assert (found.collapsed, found.step) == (True, 13)


def test_a_model_that_never_wrote_verdicts_has_not_collapsed():
    assert not find_collapse(steps([0.0] * 20)).collapsed


def test_the_formats_of_all_tasks_count():
    """Two tasks, one of which falls from 1 to 0: the mean falls from 1 to a half, which is no collapse; then the other too."""
    names = ("rewards/rec/format/mean", "rewards/ovd/format/mean")
    metrics = [{"step": i + 1, names[0]: 1.0, names[1]: float(i < 10)} for i in range(20)]
    assert not find_collapse(metrics).collapsed
    metrics += [{"step": i + 1, names[0]: 0.0} for i in range(20, 30)]  # a batch may lack a task
    assert find_collapse(metrics).step == 21
