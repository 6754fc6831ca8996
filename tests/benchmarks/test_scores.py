"""The summary of a benchmark, on verdicts written by hand."""

import json
import time
from collections import Counter

import numpy as np
import pytest

from r1reward.benchmarks.both_orders import BothOrders
from r1reward.benchmarks.items import Benchmark, Item
from r1reward.benchmarks.protocols import requests
from r1reward.benchmarks.scores import summarise
from r1reward.benchmarks.statistics import wilson_interval
from r1reward.benchmarks.verdicts import ORDERS, Table, Vote
from r1reward.data.rows import PreferenceRow
from r1reward.inference.reward_model import Judgement
from r1reward.rewards.verdict import parse


def item(n, label=1, category="", group=None, released=None):
    row = PreferenceRow(f"i{n}", (), "Q", ("a", "b"), label, ("", "", ""), category=category)
    return Item(row, group or f"i{n}", released or category)


def benchmark(items, name="vl_rewardbench"):
    return Benchmark(name, items, {}, {})


def table(bench, forward, backward, tokens=None):
    """A table from what was said in each order, one text of digits per item, one digit per vote, 0 for unparsable."""
    said = {"forward": forward, "backward": backward}
    votes = [
        Vote(
            each.row.id,
            order,
            k,
            int(digit) or None,
            None if int(digit) else "no_answer",
            tokens[order][i] if tokens else 1,
            "",
        )
        for order in ORDERS
        for i, (each, digits) in enumerate(zip(bench.items, said[order], strict=True))
        for k, digit in enumerate(digits)
    ]
    return Table.build(bench.items, votes, requests(bench, "both_orders"), len(forward[0]))


def means(block):
    return {name: number["mean"] for name, number in block.items() if isinstance(number, dict)}


def test_numbers_of_both_orders():
    """Labels 1, 2, 1, 1. Item 0 is right twice. Item 1 always says 1: wrong, then right. Item 2 is unparsable, then right.
    Item 3 is unparsable twice."""
    bench = benchmark([item(0), item(1, label=2), item(2), item(3)])
    tokens = {"forward": [10, 20, 30, 40], "backward": [10, 20, 30, 80]}
    summary = summarise(bench, table(bench, ["1", "1", "0", "0"], ["2", "1", "2", "0"], tokens))
    assert means(summary["overall"]) == {
        "accuracy": 4 / 8,
        "both_orders_correct": 1 / 4,
        "flip_rate": 2 / 4,  # items 1 and 2
        "first_position_rate": pytest.approx((1 / 2 + 1 + 0) / 3),
        "unparsable_rate": 3 / 8,
        "malformed_rate": 3 / 8,
        "mean_tokens": 240 / 8,
    }
    counts = {name: summary["overall"][name] for name in ("n", "groups", "undecided", "left_out")}
    assert counts == {"n": 4, "groups": 4, "undecided": 3, "left_out": 0}
    assert "curve" not in summary["overall"]


def test_micro_and_macro():
    """Three items of a, all right; one of b, right in one order: micro 7/8, macro (1 + 1/2) / 2."""
    bench = benchmark([item(0, category="a"), item(1, category="b"), item(2, category="a"), item(3, category="a")])
    summary = summarise(bench, table(bench, ["1"] * 4, ["2", "1", "2", "2"]))
    assert summary["overall"]["accuracy"]["mean"] == 7 / 8
    assert summary["macro"]["accuracy"]["mean"] == 3 / 4
    assert summary["macro"]["flip_rate"]["mean"] == 1 / 2
    assert {name: block["n"] for name, block in summary["by_category"].items()} == {"a": 3, "b": 1}
    assert summary["by_category"]["b"]["accuracy"]["mean"] == 1 / 2
    assert summary["macro"]["categories"] == 2


def test_buckets_move_items_but_not_the_overall_number():
    bench = benchmark([item(0, category="a", released="b"), item(1, category="a"), item(2, category="b")])
    votes = table(bench, ["1", "2", "1"], ["2", "1", "2"])
    official, released = summarise(bench, votes), summarise(bench, votes, buckets="released")
    assert {name: block["accuracy"]["mean"] for name, block in official["by_category"].items()} == {"a": 1 / 2, "b": 1}
    assert {name: block["accuracy"]["mean"] for name, block in released["by_category"].items()} == {"a": 0, "b": 1}
    assert official["overall"] == released["overall"]
    assert (official["buckets"], released["buckets"]) == ("official", "released")


def test_intervals_within_categories():
    """Two categories of 400, one half right, one all right. Micro 0.75: sqrt(.75 * .25 / 800) = 0.0153. Macro 0.75 too, but
    only one half varies: sqrt(.25 / 400) / 2 = 0.0125."""
    bench = benchmark([item(n, category="ab"[n % 2]) for n in range(800)])
    said = ["1" if n % 2 or n % 4 else "2" for n in range(800)]
    summary = summarise(bench, table(bench, said, [str(3 - int(digit)) for digit in said]))
    for block, deviation in ((summary["overall"], 0.0153), (summary["macro"], 0.0125)):
        accuracy = block["accuracy"]
        assert accuracy["mean"] == 0.75
        assert accuracy["low"] == pytest.approx(0.75 - 1.96 * deviation, abs=0.003)
        assert accuracy["high"] == pytest.approx(0.75 + 1.96 * deviation, abs=0.003)


def test_intervals_of_items_that_share_a_question_are_wider():
    """100 questions, half of them right: 4 pairs each are worth no more than one."""
    right = ["1" if n % 2 else "2" for n in range(100) for _ in range(4)]
    swapped = [str(3 - int(digit)) for digit in right]

    def width(groups):
        bench = benchmark([item(n, group=group) for n, group in enumerate(groups)])
        interval = summarise(bench, table(bench, right, swapped))["overall"]["accuracy"]
        return interval["high"] - interval["low"]

    assert width([f"g{n // 4}" for n in range(400)]) == pytest.approx(2 * width(list(range(400))), rel=0.08)
    assert width([f"g{n // 4}" for n in range(400)]) == pytest.approx(2 * 1.96 * 0.05, rel=0.06)


def test_a_perfect_share_is_not_certain():
    """20 items in two categories of 4 and 16: Wilson over 20, and for the macro over 2^2 / (1/4 + 1/16) = 12.8 -> 12."""
    bench = benchmark([item(n, category="a" if n < 4 else "b") for n in range(20)])
    summary = summarise(bench, table(bench, ["1"] * 20, ["2"] * 20))
    assert summary["overall"]["accuracy"] == wilson_interval(20, 20).to_dict()
    assert summary["by_category"]["a"]["accuracy"] == wilson_interval(4, 4).to_dict()
    assert summary["macro"]["accuracy"] == wilson_interval(12, 12).to_dict()
    assert summary["overall"]["unparsable_rate"] == wilson_interval(0, 20).to_dict()
    assert summary["overall"]["mean_tokens"] == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_acc_plus_asks_for_all_pairs_of_a_question_in_both_orders():
    """g: both pairs right in both orders. h: one of three right in one order only. k: one pair, right."""
    groups, categories = ["g", "h", "g", "h", "h", "k"], ["mcq", "long", "mcq", "long", "long", "long"]
    bench = benchmark([item(n, category=categories[n], group=groups[n]) for n in range(6)], "mm_rlhf_rewardbench")
    votes = table(bench, ["1"] * 6, ["2", "1", "2", "2", "2", "2"])
    summary = summarise(bench, votes, "official")
    assert summary["overall"]["acc_plus"]["mean"] == 2 / 3
    assert summary["by_category"]["mcq"]["acc_plus"]["mean"] == 1
    assert summary["by_category"]["long"]["acc_plus"]["mean"] == 1 / 2
    assert summary["overall"]["groups"] == 3
    assert summarise(bench, votes, "released")["overall"]["acc_plus"]["mean"] == 1
    assert "acc_plus" not in summarise(Benchmark("own", bench.items, {}, {}), votes)["overall"]


def test_one_order_says_nothing_about_flips():
    bench = benchmark([item(0), item(1, label=2), item(2)])
    overall = summarise(bench, table(bench, ["1", "2", "0"], ["2", "1", "2"]), "released")["overall"]
    assert overall["flip_rate"] is None and overall["both_orders_correct"] is None
    assert overall["accuracy"]["mean"] == 2 / 3
    assert overall["first_position_rate"]["mean"] == 1
    assert overall["unparsable_rate"]["mean"] == 1 / 3
    assert overall["undecided"] == 1


def test_only_the_judged_order_is_described():
    """Of a table of both orders, released takes forward for label 1: tokens 10 and unparsable 0, not those of backward."""
    bench = benchmark([item(0)])
    votes = table(bench, ["2"], ["0"], {"forward": [10], "backward": [90]})
    overall = summarise(bench, votes, "released")["overall"]
    assert means(overall) == {
        "accuracy": 0,
        "first_position_rate": 0,
        "unparsable_rate": 0,
        "malformed_rate": 0,
        "mean_tokens": 10,
    }


def test_left_out_items_are_counted():
    bench = benchmark([item(n, category="ab"[n % 2]) for n in range(4)])
    summary = summarise(bench, table(bench, ["0", "1", "1", "2"], ["0", "2", "2", "1"]), "official")
    assert summary["overall"]["accuracy"]["mean"] == 2 / 3
    assert (summary["overall"]["left_out"], summary["overall"]["undecided"]) == (1, 1)
    assert summary["by_category"]["a"]["accuracy"]["mean"] == 1
    assert summary["rules"] == {"orders": "random", "undecided": "left_out", "one_vote": False}


def test_a_category_without_a_readable_verdict():
    bench = benchmark([item(0, category="a"), item(1, category="b")])
    summary = summarise(bench, table(bench, ["0", "1"], ["0", "2"]), "official")
    assert summary["by_category"]["a"]["accuracy"] is None
    assert summary["macro"]["accuracy"] is None and summary["macro"]["first_position_rate"] is None
    assert summary["macro"]["unparsable_rate"]["mean"] == 1 / 2
    assert summary["overall"]["accuracy"]["mean"] == 1


def test_majority_and_curve():
    """Three votes. Item 0: right, right, wrong, then all right backward. Item 1: one vote for each and one unparsable, then
    wrong, wrong, right. Accuracy (1 + 1 + 0 + 0) / 4; of single votes (2/3 + 1 + 1/3 + 1/3) / 4. Of two: item 0 has one of
    three pairs without a tie, then all; item 1 has R+unparsable of three pairs, then none right."""
    bench = benchmark([item(0), item(1)])
    summary = summarise(bench, table(bench, ["112", "120"], ["222", "112"]))
    overall = summary["overall"]
    assert summary["votes"] == 3
    assert overall["accuracy"]["mean"] == 1 / 2
    assert [point["k"] for point in overall["curve"]] == [1, 2, 3]
    curve = [point["accuracy"]["mean"] for point in overall["curve"]]
    assert curve == [pytest.approx((7 / 3) / 4), pytest.approx((1 / 3 + 1 + 1 / 3 + 0) / 4), 1 / 2]
    any_correct = [point["any_correct"]["mean"] for point in overall["curve"]]
    assert any_correct == [pytest.approx((7 / 3) / 4), pytest.approx((1 + 1 + 2 / 3 + 2 / 3) / 4), 1]
    assert overall["curve"][2]["accuracy"] == overall["accuracy"]
    assert overall["undecided"] == 1
    assert overall["unparsable_rate"]["mean"] == pytest.approx(1 / 12)
    assert overall["first_position_rate"]["mean"] == pytest.approx((2 / 6 + 3 / 5) / 2)


def test_curve_where_undecided_items_leave_the_denominator():
    """Two votes. Item 0: right, right. Item 1: right, unparsable. Item 2: right, wrong. k = 1: 1 + 1/2 + 1/2 right of
    1 + 1/2 + 1 decided. k = 2: only item 0 is decided."""
    bench = benchmark([item(0), item(1), item(2)])
    overall = summarise(bench, table(bench, ["11", "10", "12"], ["22", "20", "21"]), "official")["overall"]
    assert [point["accuracy"]["mean"] for point in overall["curve"]] == [2 / 2.5, 1]
    assert overall["accuracy"]["mean"] == 1
    assert overall["left_out"] == 2
    assert [point["any_correct"]["mean"] for point in overall["curve"]] == [pytest.approx(2 / 3), 1]


def test_agrees_with_the_summary_of_a_training_run():
    rng = np.random.default_rng(4)
    digits = rng.choice(["0", "1", "2"], p=[0.1, 0.6, 0.3], size=(2, 60))
    bench = benchmark([item(n, label=1 + n % 2, category="ab"[n % 3 == 0]) for n in range(60)])
    texts = [[f"<think>x</think><answer>{digit}</answer>" for digit in order] for order in digits]
    judgements = [[Judgement(text, parse(text), tokens=n) for n, text in enumerate(order)] for order in texts]
    theirs = BothOrders([each.row for each in bench.items], *judgements).summary()
    lengths = {order: list(range(60)) for order in ORDERS}
    ours = summarise(bench, table(bench, list(digits[0]), list(digits[1]), lengths))
    for name in ("accuracy", "both_orders_correct", "flip_rate", "first_position_rate"):
        assert ours["overall"][name]["mean"] == pytest.approx(theirs[name]["mean"], abs=1e-14)
        assert ours["overall"][name]["low"] == pytest.approx(theirs[name]["low"], abs=0.02)
    assert 1 - ours["overall"]["malformed_rate"]["mean"] == pytest.approx(theirs["format_rate"]["mean"])
    assert ours["overall"]["unparsable_rate"] == theirs["unparsable_rate"]
    assert ours["overall"]["mean_tokens"]["mean"] == pytest.approx(theirs["mean_completion_tokens"])
    for name, block in theirs["by_category"].items():
        assert ours["by_category"][name]["accuracy"]["mean"] == pytest.approx(block["accuracy"]["mean"])


def test_the_same_votes_give_the_same_file():
    bench = benchmark([item(n, category="ab"[n % 2]) for n in range(50)])
    digits = [str(1 + n % 7 // 4) for n in range(50)]
    first, second = (json.dumps(summarise(bench, table(bench, digits, digits))) for _ in range(2))
    assert first == second
    assert "NaN" not in first


def test_what_cannot_be_summarised():
    bench = benchmark([item(0)])
    votes = table(bench, ["1"], ["2"])
    with pytest.raises(ValueError, match="unknown buckets 'paper'"):
        summarise(bench, votes, buckets="paper")
    with pytest.raises(ValueError, match="unknown protocol 'forward'"):
        summarise(bench, votes, "forward")
    empty = benchmark([])
    with pytest.raises(ValueError, match="vl_rewardbench: there are no items to summarise"):
        summarise(empty, Table.build([], [], []))


SIZES = {  # of categories, and the number of questions
    "vl_rewardbench": ([183, 749, 318], 1225),
    "multimodal_rewardbench": ([623, 654, 630, 514, 584, 508, 500, 1198], 5211),
    "mm_rlhf_rewardbench": ([42, 37, 34, 32, 25], 46),
}


def coins(name, judges):
    """The benchmark, and a table of both orders for each of some judges that throw a coin."""
    sizes, questions = SIZES[name]
    categories = [str(c) for c, size in enumerate(sizes) for _ in range(size)]
    bench = benchmark([item(n, 1 + n % 2, c, f"g{n % questions}") for n, c in enumerate(categories)], name)
    rng = np.random.default_rng(0)
    for _ in range(judges):
        choices = rng.integers(1, 3, size=(len(categories), 2, 1)).astype(np.int8)
        ids = tuple(each.row.id for each in bench.items)
        yield bench, Table(ids, np.ones((len(ids), 2), dtype=bool), choices, 5 * np.ones_like(choices), choices == 0)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("protocol", ["both_orders", "official", "released"])
def test_random_judges_are_within_their_intervals(name, protocol):
    """Each of 20 in 95 of 100 cases: fewer than 16 happen three times in 10,000."""
    expected = {"accuracy": 0.5, "both_orders_correct": 0.25, "flip_rate": 0.5, "first_position_rate": 0.5}
    held = Counter()
    for pair in coins(name, 20):
        overall = summarise(*pair, protocol, resamples=400)["overall"]
        for number, value in expected.items():
            if overall[number] is not None:
                held[number] += overall[number]["low"] <= value <= overall[number]["high"]
    assert len(held) == (2 if overall["flip_rate"] is None else 4)
    assert min(held.values()) >= 16


def test_intervals_hold_what_they_promise():
    """Of 300 random judges of the 170 pairs, 95 % of the intervals hold 0.5, +- 3.2 deviations of 1.26 %."""
    intervals = [summarise(*pair, resamples=1000)["overall"]["accuracy"] for pair in coins("mm_rlhf_rewardbench", 300)]
    assert 0.91 <= np.mean([interval["low"] <= 0.5 <= interval["high"] for interval in intervals]) <= 0.99


def test_all_of_multimodal_rewardbench_with_15_votes_takes_seconds():
    bench = benchmark([item(n, label=1 + n % 2, category="abcdefgh"[n % 8]) for n in range(5211)])
    rng = np.random.default_rng(0)
    choices = rng.integers(0, 3, size=(5211, 2, 15)).astype(np.int8)
    tokens = rng.integers(50, 300, size=choices.shape)
    votes = Table(tuple(each.row.id for each in bench.items), np.ones((5211, 2), dtype=bool), choices, tokens, choices == 0)
    start = time.perf_counter()
    summary = summarise(bench, votes)
    assert time.perf_counter() - start < 20  # about 2 s on one core
    assert len(summary["overall"]["curve"]) == 15
