"""Two processes compute what one does on the same global rollout batches: rewards, advantages, filter, gradients, metrics.

The model computes in float64, but TRL's fused head, and so every log-probability and the loss, in float32: sums in another
order differ by about 1e-7 of their size.
"""

import math

import pytest
import torch

from tests.several_processes.scenarios import IN_MAKE_TEST, SCENARIOS, Scenario, run

CLOSE = 1e-6  # advantages and weights of order one
CLOSE_LATER = 1e-5  # gradients after the first update, relative to the largest, and metrics: rounding grows with the updates
# Averages over micro-batches, which each process cuts at random from its rows: which rows lie in one micro-batch, not which in
# one update, depends on the number of processes.
BY_MICRO_BATCH = ("entropy", "clip_ratio/", "pre_clip/", "log_ratio/")


def joined(outcomes: list[dict], key: str, batch: int):
    """The rows of both processes, in order, as one process has them; advantages per token are padded to the longest."""
    parts = [outcome[key][batch] for outcome in outcomes]
    if not isinstance(parts[0], torch.Tensor):
        return [value for part in parts for value in part]
    if parts[0].dim() == 1:
        return torch.cat(parts)
    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])


@pytest.mark.parametrize(
    "name", [name if name in IN_MAKE_TEST else pytest.param(name, marks=pytest.mark.slow) for name in SCENARIOS]
)
def test_two_processes_train_as_one(name, of_two, prepared_folder):
    two = [outcomes[name] for outcomes in of_two]
    for rank, outcome in enumerate(two):
        assert not isinstance(outcome, str), f"process {rank}: {outcome}"
    one = run(name, prepared_folder)
    assert_same_rollouts(one, two)
    assert_same_gradients(SCENARIOS[name], one, two)
    for outcome in two:
        for parameter, value in one["weights"].items():
            close(outcome["weights"][parameter], value, parameter)
    assert_same_metrics(SCENARIOS[name], one, two)


def assert_same_rollouts(one: dict, two: list[dict]):
    assert len(one["rows"]) == len(two[0]["rows"]) == len(two[1]["rows"]) > 0
    for batch in range(len(one["rows"])):
        assert joined(two, "rows", batch) == one["rows"][batch]
        assert joined(two, "completions", batch) == one["completions"][batch]
        for outcome in two:  # gathered, so that each process has them all
            assert torch.equal(outcome["terms"][batch].nan_to_num(nan=-1), one["terms"][batch].nan_to_num(nan=-1))
        advantages, expected = joined(two, "advantages", batch), one["advantages"][batch]
        close(advantages, expected, f"advantages of batch {batch}")
        assert torch.equal(advantages == 0, expected == 0)  # the filter took the same
        half = len(two[0]["rows"][batch])
        assert two[0]["kept"][batch] == one["kept"][batch][:half]  # the main process's, for the run folder


def assert_same_gradients(scenario: Scenario, one: dict, two: list[dict]):
    assert len(one["gradients"]) == len(two[0]["gradients"]) == len(two[1]["gradients"]) == scenario.steps
    for update, gradients in enumerate(one["gradients"]):
        largest = max((value.abs().max().item() for value in gradients.values()), default=0.0)
        tolerance = scenario.close if update == 0 else max(scenario.close, CLOSE_LATER)
        for outcome in two:
            others = outcome["gradients"][update]
            for parameter in gradients.keys() | others.keys():
                value = gradients.get(parameter, torch.zeros(()))  # DDP gives zeros where nothing flows
                difference = (others.get(parameter, torch.zeros(())) - value).abs().max().item()
                what = f"update {update}, {parameter}: {difference:.1e} apart, largest gradient {largest:.1e}"
                assert difference <= tolerance * largest, what


def assert_same_metrics(scenario: Scenario, one: dict, two: list[dict]):
    left_out = BY_MICRO_BATCH if scenario.micro_batches > 1 else ()
    for outcome in two:
        assert len(outcome["history"]) == len(one["history"]) == scenario.steps + 1
        for entry, (row, other) in enumerate(zip(outcome["history"], one["history"], strict=True)):
            assert row.keys() == other.keys(), f"entry {entry}"
            compared = {key: value for key, value in row.items() if not key.startswith(left_out)}
            wrong = {key: (value, other[key]) for key, value in compared.items() if not same(value, other[key])}
            assert not wrong, f"entry {entry}: (two processes, one): {wrong}"


def same(value, other) -> bool:
    if value is None or other is None:
        return value is other
    return (math.isnan(value) and math.isnan(other)) or math.isclose(value, other, rel_tol=CLOSE_LATER, abs_tol=CLOSE_LATER)


def close(value: torch.Tensor, expected: torch.Tensor, what: str):
    torch.testing.assert_close(value, expected, atol=CLOSE, rtol=CLOSE, msg=lambda text: f"{what}: {text}")


def test_more_processes_than_rows_to_evaluate(of_two):
    """The second process evaluates the first one's row again, as torch's sampler does; nobody waits for ever."""
    for outcomes in of_two:
        evaluation = outcomes["fewer rows to evaluate than processes"]["evaluation"]
        assert math.isfinite(evaluation["eval_reward"]) and math.isfinite(evaluation["eval_loss"])


def test_the_scenarios_do_what_their_names_say(of_two):
    """Rows are filtered, left out and unscorable where they should be, and not everywhere."""
    first, second = of_two
    for name in ("batch, paper", "group", "batch, released"):
        kept = [(outcomes[name]["advantages"][0] != 0).tolist() for outcomes in of_two]
        assert any(kept[0] + kept[1]) and not all(kept[1]), name
    released, paper = (first[name]["history"][0]["advantage_filter/fraction"] for name in ("batch, released", "batch, paper"))
    assert released > paper == 1 / 16
    assert [row["skipped_rows"] for row in first["rows left out"]["history"][:2]] == [0.5, 0.5]
    assert (second["rows left out"]["advantages"][0] == 0).all()
    if "all rows left out" in first:  # with --slow
        assert [row["skipped_rows"] for row in first["all rows left out"]["history"][:2]] == [1.0, 1.0]
    assert (second["one process unscorable"]["terms"][0][8:].isnan()).all()
    assert [row["skipped_steps"] for row in first["a row of NaN on one process"]["history"][:3]] == [1, 2, 2]
    per_token = [outcomes["KL in the reward"]["advantages"][0] for outcomes in of_two]
    assert per_token[0].shape[1] < per_token[1].shape[1]
    assert abs(first["KL in the reward"]["history"][2]["kl_in_reward"]) > 1e-4
