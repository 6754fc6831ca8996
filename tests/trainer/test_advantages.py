"""From the rewards of a rollout batch to its advantages, as the trainer computes them: lengths, KL, baseline, filter, metrics.

Rewards and lengths are given by hand, in the place of sampled completions.
"""

import math

import pytest
import torch

from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.trainer.conftest import letters

REWARDS, LENGTHS = [2.0, 2.0, 2.0, 0.5], [10, 10, 10, 200]
# z of the right rows and of the wrong one; worked out in tests/algorithm/test_advantage.py
Z = {
    "rows": (1 / math.sqrt(3), -math.sqrt(3)),  # 0.577, -1.732
    "tokens": (math.sqrt(200 / 30), -math.sqrt(30 / 200)),  # 2.582, -0.387
}


@pytest.fixture
def make_trainer(make_model, make_arguments, processor, dataset, tmp_path):
    make_model().save_pretrained(tmp_path / "model")  # where a reference model is loaded from

    def make(**changes):
        return StableReinforceTrainer(
            model=type(make_model()).from_pretrained(tmp_path / "model"),
            reward_funcs=letters,
            args=make_arguments(**changes),
            train_dataset=dataset,
            processing_class=processor,
        )

    return make


def advantages(trainer, rewards: list[float], lengths: list[int], k1: torch.Tensor | None = None) -> torch.Tensor:
    """Of completions of those lengths, whose tokens have those log-ratios to the reference, in nats."""
    trainer.model.train()
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).int()
    k1 = torch.zeros(mask.shape) if k1 is None else k1
    trainer._scored = ([{}] * len(rewards), None, torch.tensor(rewards).unsqueeze(1))
    batch = {"completion_mask": mask, "old_per_token_logps": k1 - 2.0, "ref_per_token_logps": torch.full(mask.shape, -2.0)}
    return trainer._advantages(batch)


def metric(trainer, name: str) -> float:
    return trainer._metrics["train"][name][-1]


@pytest.mark.parametrize("coefficient", [0.0, 1e-12])
@pytest.mark.parametrize("over", Z)
def test_rows_and_tokens_weigh_the_same_with_a_kl_penalty_in_the_reward_as_without(make_trainer, over, coefficient):
    trainer = make_trainer(statistics_over=over, kl_in_reward=coefficient, advantage_filter="none")
    found = advantages(trainer, REWARDS, LENGTHS, torch.rand(4, 200))
    right, wrong = Z[over]
    expected = torch.tensor([right, right, right, wrong])
    if coefficient:
        expected = expected.unsqueeze(1) * (torch.arange(200) < torch.tensor(LENGTHS).unsqueeze(1))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("coefficient", [0.0, 1e-12])
@pytest.mark.parametrize(("over", "share"), [("rows", 1 / 4), ("tokens", 30 / 230)])
def test_the_papers_filter_and_the_metrics_follow(make_trainer, over, share, coefficient):
    """Beyond 1: over rows the wrong row, over tokens the right ones, which have 30 of 230 tokens."""
    trainer = make_trainer(statistics_over=over, kl_in_reward=coefficient, filter_threshold=1.0)
    found = advantages(trainer, REWARDS, LENGTHS, torch.rand(4, 200))
    first_tokens = found if found.dim() == 1 else found[:, 0]
    right, wrong = (0.0, Z[over][1]) if over == "tokens" else (Z[over][0], 0.0)
    torch.testing.assert_close(first_tokens, torch.tensor([right, right, right, wrong]), atol=1e-6, rtol=0)
    assert metric(trainer, "advantage_filter/fraction") == pytest.approx(share)
    assert metric(trainer, "advantages/fraction_zero") == pytest.approx(share)
    assert list(trainer._logs["advantages"]) == pytest.approx([right, right, right, wrong], abs=1e-6)


@pytest.mark.parametrize("over", Z)
@pytest.mark.parametrize("coefficient", [0.0, 1e-12])
@pytest.mark.parametrize(
    ("rewards", "lengths", "dropped"),
    [
        # over tokens: mean(R) = (30 * 2 + 200 * 0.5) / 230 = 0.70, z = -0.39 > -2.30; over rows it would be -1.73 < -1.38
        (REWARDS, LENGTHS, [False] * 4),
        # over tokens: mean(R) = (30 * 2 + 10 * 0.5) / 40 = 1.63, z = -1.73 < -1.38; over rows it would be -1 > -1.75
        ([2.0, 0.5], [30, 10], [False, True]),
    ],
)  # fmt: skip
def test_the_released_filter_counts_tokens(make_trainer, rewards, lengths, dropped, coefficient, over):
    trainer = make_trainer(advantage_filter="released", statistics_over=over, kl_in_reward=coefficient)
    found = advantages(trainer, rewards, lengths)
    assert ((found if found.dim() == 1 else found[:, 0]) == 0).tolist() == dropped


@pytest.mark.parametrize("filter", ["none", "released"])
def test_kl_in_the_reward_with_a_baseline(make_trainer, filter):
    """Rewards 7, 9, 3, 3 minus the prompts' means 8 and 3: -1, 1, 0, 0. The third row's token pays half of 1 nat: -1/2.

    Mean -1/8; E[x^2] = (1 + 1 + 1/4) / 4 = 9/16; variance 9/16 - 1/64 = 35/64. The released filter keeps z from -3.1 to 2.9.
    """
    trainer = make_trainer(
        advantage_estimator="reinforce_plus_plus_baseline", num_generations=2, kl_in_reward=0.5, advantage_filter=filter
    )
    found = advantages(trainer, [7.0, 9.0, 3.0, 3.0], [1, 1, 1, 1], torch.tensor([[0.0], [0.0], [1.0], [0.0]]))
    expected = torch.tensor([[-7.0], [9.0], [-3.0], [1.0]]) / math.sqrt(35)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("filter", ["paper", "released"])
@pytest.mark.parametrize("over", Z)
def test_the_baseline_with_a_kl_penalty_is_the_one_without(make_trainer, over, filter):
    rewards, lengths = [7.0, 9.0, 3.0, 3.0, 5.0, 5.0, 2.0, 6.0], [3, 5, 1, 4, 2, 2, 6, 1]
    settings = {"advantage_estimator": "reinforce_plus_plus_baseline", "num_generations": 2, "statistics_over": over}
    plain, penalised = (
        advantages(
            make_trainer(kl_in_reward=coefficient, advantage_filter=filter, filter_threshold=1.2, **settings), rewards, lengths
        )
        for coefficient in (0.0, 1e-12)
    )
    assert 0 < (plain == 0).sum() < 8
    torch.testing.assert_close(penalised[:, 0], plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize("coefficient", [0.0, 1e-12])
@pytest.mark.parametrize(("over", "expected"), [("rows", [-math.sqrt(2), math.sqrt(0.5)]), ("tokens", [0.0, 0.0])])
def test_a_row_whose_tokens_are_masked(make_trainer, over, expected, coefficient):
    """As truncated ones are on request: over rows it counts (0, 3, 3 has variance 2), over tokens not."""
    trainer = make_trainer(statistics_over=over, kl_in_reward=coefficient, advantage_filter="none")
    found = advantages(trainer, [0.0, 3.0, 3.0], [0, 1, 2])
    rows = found if found.dim() == 1 else found[:, 0]
    torch.testing.assert_close(rows, torch.tensor([expected[0], expected[1], expected[1]]), atol=1e-6, rtol=0)
