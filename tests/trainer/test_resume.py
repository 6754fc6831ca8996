"""Weights really come back on resume."""

import pytest
import torch

from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.trainer.conftest import letters


@pytest.fixture
def make_trainer(make_model, make_arguments, processor, dataset):
    """A trainer that saves every second step, its model initialised from `seed`."""

    def make(seed: int, **changes):
        return StableReinforceTrainer(
            model=make_model(seed),
            reward=letters,
            args=make_arguments(save_strategy="steps", save_steps=2, **changes),
            train_dataset=dataset,
            processing_class=processor,
        )

    return make


def test_resume_restores_every_weight(make_trainer):
    first = make_trainer(seed=0, max_steps=2)
    start = {name: value.clone() for name, value in first.model.state_dict().items()}
    first.train()
    trained = {name: value.clone() for name, value in first.model.state_dict().items()}
    changed = [name for name in start if not torch.equal(start[name], trained[name])]
    assert len(changed) > 0.9 * len(start)

    second = make_trainer(seed=1)  # other base weights
    second._load_from_checkpoint(f"{first.args.output_dir}/checkpoint-2")
    for name, value in second.model.state_dict().items():
        assert torch.equal(value, trained[name]), name


def test_resume_goes_on_where_it_stopped(make_trainer):
    """Four steps in one go, and two plus two, from a checkpoint between two rollout batches: the same weights."""
    whole = make_trainer(seed=0)
    whole.train()
    resumed = make_trainer(seed=1)
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-2")
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, atol=1e-6, rtol=1e-6, msg=name)
