"""Images that turn bad while a run goes on: the run stops, or their prompts take no part in the update."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from r1reward.algorithm.advantage import ESTIMATORS, estimate, row_returns
from r1reward.data.build import training_dataset
from r1reward.data.images import BadImage, BadImages
from r1reward.data.rows import ImageSource
from r1reward.rewards.judges.rule import RuleJudge
from r1reward.rewards.preference import PreferenceReward
from r1reward.trainer.stable_reinforce import StableReinforceTrainer


@pytest.fixture
def files(rows, tmp_path) -> list[Path]:
    paths = [tmp_path / f"{row.id.replace('/', '-')}.png" for row in rows]
    for row, path in zip(rows, paths, strict=True):
        path.write_bytes(row.images[0].data)
    return paths


@pytest.fixture
def make_trainer(make_model, make_arguments, processor, rows, files):
    dataset = training_dataset(
        [replace(row, images=(ImageSource(path=str(path)),)) for row, path in zip(rows, files, strict=True)]
    )

    def make(reward, bad_images=None, on_rollouts=None, model=None, **changes):
        trainer = StableReinforceTrainer(
            model=model or make_model(),
            reward_funcs=reward,
            args=make_arguments(**changes),
            on_rollouts=on_rollouts,
            bad_images=bad_images,
            train_dataset=dataset,
            processing_class=processor,
        )
        trainer.current_gradient_accumulation_steps = 1  # set by `train()`, which most of these tests do not call
        trainer.model.train()
        return trainer

    return make


def numbered(completions, **columns) -> list[float]:
    return [float(position**2 % 7) for position in range(len(completions))]


def batch_with_one_bad_prompt(trainer) -> list[dict]:
    """16 rows, of which 4 to 7 are the rollouts of a prompt whose image is damaged after the rows were drawn."""
    inputs = next(iter(trainer.get_train_dataloader()))
    assert [row["id"] for row in inputs[4:8]] == [inputs[4]["id"]] * 4
    Path(inputs[4]["images"][0]["path"]).write_bytes(b"damaged")
    return inputs


def test_stop_names_row_file_and_reason(make_trainer):
    trainer = make_trainer(numbered)
    inputs = batch_with_one_bad_prompt(trainer)
    path = inputs[4]["images"][0]["path"]
    with pytest.raises(BadImage, match=f"row '{inputs[4]['id']}': {path}: unreadable"):
        trainer._generate_and_score_completions(inputs)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("share_prefix", [True, False])
def test_the_rollouts_of_a_skipped_prompt_take_no_part(make_trainer, estimator, share_prefix):
    """The others' advantages are those of a batch that never had the prompt, and so are the means and deviations."""
    options = {"advantage_estimator": estimator, "advantage_filter": "none", "share_prefix": share_prefix}
    trainer = make_trainer(numbered, BadImages("skip"), **options)
    batch = trainer._generate_and_score_completions(batch_with_one_bad_prompt(trainer))
    rewards = torch.tensor(numbered(range(16)))
    others = torch.cat([rewards[:4], rewards[8:]])
    expected = estimate(estimator, row_returns(estimator, others, 4))
    assert (batch["advantages"][4:8] == 0).all()
    torch.testing.assert_close(torch.cat([batch["advantages"][:4], batch["advantages"][8:]]), expected)
    metrics = trainer._metrics["train"]
    assert metrics["data/bad_images"] == [1]
    assert metrics["reward"] == [pytest.approx(others.mean().item())]
    assert metrics["rewards/numbered/mean"] == metrics["reward"]
    assert metrics["reward_std"] == [pytest.approx(others.std().item())]


def test_no_term_of_a_composite_reward_counts(make_trainer):
    """The total is no number either, where the sum of terms that were skipped would be 0."""
    seen = []
    trainer = make_trainer(PreferenceReward(judge=RuleJudge()), BadImages("skip"), seen.append, num_generations=4)
    batch = trainer._generate_and_score_completions(batch_with_one_bad_prompt(trainer))
    (rollouts,) = seen
    assert [math.isnan(reward) for reward in rollouts.rewards] == [False] * 4 + [True] * 4 + [False] * 8
    assert all(math.isnan(value) for values in rollouts.terms.values() for value in values[4:8])
    assert batch["advantages"].isfinite().all() and (batch["advantages"][4:8] == 0).all()


def test_a_penalty_in_the_reward_does_not_bring_the_row_back(make_trainer, make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    model = type(make_model()).from_pretrained(tmp_path / "model")
    trainer = make_trainer(numbered, BadImages("skip"), model=model, kl_in_reward=0.1, num_generations=1)
    inputs = next(iter(trainer.get_train_dataloader()))
    Path(inputs[4]["images"][0]["path"]).write_bytes(b"damaged")
    batch = trainer._generate_and_score_completions(inputs)
    assert batch["advantages"].shape == batch["completion_mask"].shape
    assert (batch["advantages"][4] == 0).all() and batch["advantages"].isfinite().all() and batch["advantages"].any()


def test_too_many_end_the_run_and_the_count_goes_on_after_a_restart(make_trainer, files):
    trainer = make_trainer(numbered, BadImages("skip", most=4))
    for path in files:
        path.unlink()
    inputs = next(iter(trainer.get_train_dataloader()))
    trainer._generate_and_score_completions(inputs)  # 16 rollouts of 4 prompts
    assert trainer.stateful["bad_images"].state_dict() == {"skipped": 4}
    again = make_trainer(numbered, BadImages("skip", most=4))
    again.bad_images.load_state_dict(trainer.bad_images.state_dict())
    with pytest.raises(BadImage, match="8 prompts skipped for bad images, more than 4; .*data.max_bad_images"):
        again._generate_and_score_completions(inputs)


def test_training_goes_on_without_the_prompts(make_trainer, files):
    """Of 32 prompts 3 go missing; two epochs come across each twice. The loss is finite at every step."""
    trainer = make_trainer(numbered, BadImages("skip"), num_generations=1, max_steps=8, advantage_filter="none")
    for path in files[:3]:
        path.unlink()
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    counts = [entry["data/bad_images"] for entry in trainer.state.log_history if "data/bad_images" in entry]
    assert len(losses) == 8 and all(map(math.isfinite, losses))
    assert counts == sorted(counts) and counts[-1] == 6
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
