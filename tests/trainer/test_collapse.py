"""When a run counts as collapsed, and that a broken gradient never reaches the weights."""

import math

import torch
from transformers import TrainerControl, TrainerState

from r1reward.trainer.callbacks import CollapseGuard
from r1reward.trainer.collapse import Collapse, find_collapse


def steps(rates):
    return [{"step": i + 1, "loss": 0.1, "rewards/format/mean": rate} for i, rate in enumerate(rates)]


def test_a_sound_run_has_not_collapsed():
    assert find_collapse(steps([0.8] * 10 + [0.9] * 10)) == Collapse()
    assert find_collapse([]) == Collapse()


def test_a_loss_that_is_not_finite():
    metrics = steps([0.8] * 3) + [{"step": 4, "loss": math.nan}]
    assert find_collapse(metrics) == Collapse(True, 4, "loss is not finite")


def test_verdicts_that_vanish():
    """Ten steps at 0.8, then none: the mean of the last five falls below 0.4 with the third empty step (0.8 * 2 / 5 = 0.32)."""
    found = find_collapse(steps([0.8] * 10 + [0.0] * 5))
    assert (found.collapsed, found.step) == (True, 13)


def test_a_model_that_never_wrote_verdicts_has_not_collapsed():
    assert not find_collapse(steps([0.0] * 20)).collapsed


def test_guard_drops_a_broken_gradient_and_ends_the_run():
    model = torch.nn.Linear(2, 1)
    before = [p.clone() for p in model.parameters()]
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, math.nan)
    guard, control = CollapseGuard(), TrainerControl()
    guard.on_pre_optimizer_step(None, TrainerState(global_step=6), control, model=model)
    optimizer.step()
    assert control.should_training_stop
    assert guard.collapse == Collapse(True, 7, "a gradient is not finite")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
