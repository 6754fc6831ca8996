"""A reference model that moves: the settings that ask for it, what it does, and that a stopped run goes on exactly."""

import pytest
import torch
from transformers import AutoModelForImageTextToText

from r1reward.configs import compose_settings
from r1reward.data.build import training_dataset
from r1reward.settings import AlgorithmSettings
from r1reward.trainer.arguments import trainer_arguments
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.reference_config import composed
from tests.trainer.conftest import letters
from tests.trainer.test_resume import Recorder, same

LOSS = ["algorithm=grpo", "algorithm.kl.coefficient=0.04"]


def arguments_of(tmp_path, *overrides):
    config = composed(*overrides)
    config.arm = "test"
    return trainer_arguments(compose_settings(config), tmp_path)


def test_settings_reach_the_trainer(tmp_path):
    stays = arguments_of(tmp_path, *LOSS)
    assert not stays.sync_ref_model
    moves = arguments_of(tmp_path, *LOSS, "algorithm.kl.sync_steps=64", "algorithm.kl.sync_mixup=0.5")
    assert (moves.sync_ref_model, moves.ref_model_sync_steps, moves.ref_model_mixup_alpha) == (True, 64, 0.5)
    in_reward = arguments_of(tmp_path, "algorithm.kl.coefficient=0.04", "algorithm.kl.sync_steps=8")
    assert in_reward.sync_ref_model and in_reward.kl_in_reward == 0.04 and in_reward.ref_model_mixup_alpha == 0.6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algorithm.kl.sync_steps=8"], "sync_steps has no effect: with algorithm.kl.coefficient=0 there is no reference"),
        ([*LOSS, "algorithm.kl.sync_steps=0"], "sync_steps must be at least 1, or null, got 0"),
        ([*LOSS, "algorithm.kl.sync_steps=8", "algorithm.kl.sync_mixup=0.0"], "must be above 0 and at most 1, got 0.0"),
        ([*LOSS, "algorithm.kl.sync_steps=8", "algorithm.kl.sync_mixup=1.1"], "must be above 0 and at most 1, got 1.1"),
        ([*LOSS, "algorithm.kl.sync_mixup=0.5"], "sync_mixup has no effect without algorithm.kl.sync_steps"),
        ([*LOSS, "algorithm.kl.sync_steps=8", "adapter=lora"], "cannot be used with adapter=lora, whose reference is the base"),
        ([*LOSS, "+trainer.extra.sync_ref_model=true"], "trainer.extra.sync_ref_model: set algorithm.kl.sync_steps instead"),
        ([*LOSS, "+trainer.extra.ref_model_mixup_alpha=0.5"], "ref_model_mixup_alpha: set algorithm.kl.sync_mixup instead"),
    ],
)  # fmt: skip
def test_settings_that_cannot_act(overrides, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        arguments_of(tmp_path, *overrides)


def test_every_algorithm_names_them():
    for name in ("grpo", "stable_reinforce", "reinforce_plus_plus"):
        assert composed(f"algorithm={name}").algorithm.kl.sync_steps is None
    assert AlgorithmSettings("x").kl.sync_steps is None


@pytest.fixture
def run(make_model, make_arguments, processor, rows, tmp_path):
    """Train with the settings' own arguments of the reference, in the small sizes of these tests."""
    asked = arguments_of(tmp_path, *LOSS, "algorithm.kl.sync_steps=2", "algorithm.kl.sync_mixup=0.25")
    names = ("sync_ref_model", "ref_model_sync_steps", "ref_model_mixup_alpha", "beta")
    path = tmp_path / "base"
    make_model().save_pretrained(path)

    def run(folder, resume=None, **changes):
        recorder = Recorder()
        arguments = {name: getattr(asked, name) for name in names} | {"output_dir": str(tmp_path / folder)}
        trainer = StableReinforceTrainer(
            model=AutoModelForImageTextToText.from_pretrained(path),
            reward_funcs=letters,
            args=make_arguments(**(arguments | {"save_strategy": "steps", "save_steps": 1, "keep_last": 9} | changes)),
            train_dataset=training_dataset(rows[:8]),
            processing_class=processor,
            callbacks=[recorder],
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer, recorder.metrics

    return run


def weights(folder) -> dict[str, torch.Tensor]:
    return AutoModelForImageTextToText.from_pretrained(folder).state_dict()


def test_it_moves_by_the_mixup_and_a_stopped_run_goes_on_exactly(run, tmp_path):
    """reference = 0.75 reference + 0.25 policy after steps 2 and 4; from the checkpoint in between, the same to the bit."""
    whole, metrics = run("whole", max_steps=4)
    base = weights(tmp_path / "base")
    at = {step: whole.checkpoints.path(step) for step in range(1, 5)}
    for step in at:
        reference, policy = weights(at[step] / "reference"), weights(at[step])
        before = base if step == 1 else weights(at[step - 1] / "reference")
        for name, value in reference.items():
            expected = 0.75 * before[name] + 0.25 * policy[name] if step in (2, 4) else before[name]
            torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)
    assert any(not torch.equal(value, base[name]) for name, value in reference.items())
    assert metrics[4]["kl"] > 0
    resumed, rest = run("resumed", resume=str(at[3]), max_steps=4)
    same(whole, resumed)
    assert rest == {4: metrics[4]}
