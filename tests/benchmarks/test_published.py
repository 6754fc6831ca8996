"""The published numbers, checked against themselves: overall and macro must follow from the categories as the notes say."""

from statistics import mean

import pytest

from r1reward.benchmarks.published import CHOSEN_FIRST, MEAN_OF_COLUMNS, RELEASED_BUCKETS, UNKNOWN_BUCKETS, published
from r1reward.benchmarks.read import NAMES

CATEGORIES = ("general", "hallucination", "reasoning")
RELEASED = (484, 448, 318)
OFFICIAL = (183, 749, 318)


def over_pairs(scores, sizes):
    return sum(size * scores[category] for category, size in zip(CATEGORIES, sizes, strict=True)) / sum(sizes)


@pytest.mark.parametrize("benchmark", NAMES)
def test_every_benchmark_has_the_paper_and_its_rivals(benchmark):
    rows = {row.model: row for row in published(benchmark) if "2505.02835" in row.source}
    assert {"R1-Reward", "R1-Reward, voting of 15", "IXC-2.5-Reward", "MM-RLHF-Reward", "GPT-4o"} <= rows.keys()
    assert len(rows) == sum("2505.02835" in row.source for row in published(benchmark))
    for row in published(benchmark):
        assert row.benchmark == benchmark and row.source and row.note
        assert all(20 < score <= 100 for score in row.scores.values())
    assert CHOSEN_FIRST in rows["R1-Reward"].note


def test_unknown_data_has_none():
    assert published("shapes_held_out") == []


def test_headline_numbers():
    """71.92 (899 of 1,250), 82.2 and 80.59 (137 of 170)."""
    first = [published(name)[0].scores for name in NAMES]
    assert first[0]["overall"] == 71.92 == round(100 * 899 / 1250, 2)
    assert first[1]["macro"] == 82.2
    assert first[2]["overall"] == 80.59 == round(100 * 137 / 170, 2) and first[2]["acc_plus"] == round(100 * 25 / 46, 2)


@pytest.mark.parametrize("row", published("vl_rewardbench"), ids=lambda row: row.model)
def test_notes_on_buckets_follow_from_the_numbers(row):
    overall = row.scores["overall"]
    fits_released = abs(over_pairs(row.scores, RELEASED) - overall) < 0.015
    fits_official = abs(over_pairs(row.scores, OFFICIAL) - overall) < 0.5  # undecided pairs are left out there
    assert (RELEASED_BUCKETS in row.note) == fits_released
    assert (UNKNOWN_BUCKETS in row.note) == (not fits_released and not fits_official)
    if "macro" in row.scores:
        assert row.scores["macro"] == pytest.approx(mean(row.scores[category] for category in CATEGORIES), abs=0.051)


@pytest.mark.parametrize(
    "row", [row for row in published("multimodal_rewardbench") if "macro" in row.scores], ids=lambda row: row.model
)
def test_the_papers_overall_on_multimodal_rewardbench_is_the_mean_of_its_columns(row):
    columns = [score for name, score in row.scores.items() if name != "macro"]
    assert len(columns) == 7 and row.scores["macro"] == pytest.approx(mean(columns), abs=0.051)
    assert MEAN_OF_COLUMNS in row.note


@pytest.mark.parametrize("row", published("mm_rlhf_rewardbench"), ids=lambda row: row.model)
def test_overall_on_mm_rlhf_rewardbench_is_over_pairs(row):
    sizes = {"mcq": 42, "long": 37, "short": 34, "safety": 32, "video": 25}
    overall = sum(size * row.scores[category] for category, size in sizes.items()) / 170
    assert row.scores["overall"] == pytest.approx(overall, abs=0.51 if row.scores["overall"] == 82 else 0.011)


def test_leaderboard_gives_overall_over_pairs():
    """With the sizes of the reader: reasoning 1,098, safety 1,008."""
    sizes = {"correctness": 623, "preference": 654, "knowledge": 630, "reasoning": 1098, "safety": 1008, "vqa": 1198}
    rows = [row for row in published("multimodal_rewardbench") if "overall" in row.scores]
    assert len(rows) == 4
    for row in rows:
        overall = sum(size * row.scores[category] for category, size in sizes.items()) / 5211
        assert row.scores["overall"] == pytest.approx(overall, abs=0.1)
