"""Which verdicts a protocol asks for, and how it marks them."""

import random

import numpy as np
import pytest

from r1reward.benchmarks.items import Benchmark, Item
from r1reward.benchmarks.protocols import check_votes, mark, requests, rules_of
from r1reward.benchmarks.verdicts import ORDERS, Table, Vote
from r1reward.data.rows import PreferenceRow


def benchmark(labels, name="vl_rewardbench"):
    items = [
        Item(PreferenceRow(f"i{n}", (), "Q", ("a", "b"), label, ("", "", "")), f"g{n}", "") for n, label in enumerate(labels)
    ]
    return Benchmark(name, items, {}, {})


def table(bench, forward, backward=None):
    """A table of both orders from what was said in each, one text of digits per item, one digit per vote."""
    said = {"forward": forward, "backward": backward or forward}
    votes = [
        Vote(item.row.id, order, k, int(digit) or None, None, 1, "")
        for order in ORDERS
        for item, digits in zip(bench.items, said[order], strict=True)
        for k, digit in enumerate(digits)
    ]
    return Table.build(bench.items, votes, requests(bench, "both_orders"), len(forward[0]))


def test_both_orders_asks_for_both():
    assert requests(benchmark([1, 2]), "both_orders") == [
        ("i0", "forward"),
        ("i0", "backward"),
        ("i1", "forward"),
        ("i1", "backward"),
    ]
    assert requests(benchmark([1], "mm_rlhf_rewardbench"), "official") == [("i0", "forward"), ("i0", "backward")]


def test_released_shows_the_preferred_response_first():
    assert requests(benchmark([1, 2, 1]), "released") == [("i0", "forward"), ("i1", "backward"), ("i2", "forward")]


def test_official_multimodal_rewardbench_keeps_the_order_of_the_data():
    asked = requests(benchmark([1, 2], "multimodal_rewardbench"), "official", seed=5)
    assert asked == [("i0", "forward"), ("i1", "forward")]


def test_official_vl_rewardbench_draws_one_order_per_item():
    bench = benchmark([1] * 1250)
    asked = requests(bench, "official", seed=0)
    assert [id for id, _ in asked] == [item.row.id for item in bench.items]
    forward = sum(order == "forward" for _, order in asked)
    assert 560 < forward < 690  # 625 +- 3.7 standard deviations of 17.7
    assert asked == requests(bench, "official", seed=0) != requests(bench, "official", seed=1)


def test_a_random_order_does_not_depend_on_the_other_items():
    whole = benchmark([1] * 40)
    part = Benchmark(whole.name, whole.items[25:], {}, {})
    assert requests(part, "official", seed=3) == requests(whole, "official", seed=3)[25:]


def test_random_orders_stay_what_they_are():
    """A resumed evaluation must ask for the orders that it asked for before, in any version of this code."""
    letters = "".join(order[0] for _, order in requests(benchmark([1] * 12), "official", seed=0))
    assert letters == "ffffbbfbfbff"


def test_both_orders_marks_each_order():
    """Items of label 1 and 2. Forward says 1 and 1, backward 2 and nothing: item 0 is right twice, item 1 never."""
    bench = benchmark([1, 2])
    marks = mark(bench, table(bench, ["1", "1"], ["2", "0"]), "both_orders")
    assert marks.right.tolist() == [[True, True], [False, False]]
    assert marks.choices.tolist() == [[1, 1], [1, 0]]
    assert marks.undecided.tolist() == [[False, False], [False, True]]
    assert marks.counted.all() and marks.judged.all()
    assert marks.groups == ("g0", "g1")


def test_released_counts_what_it_cannot_read_as_wrong():
    bench = benchmark([1, 2, 1])
    marks = mark(bench, table(bench, ["1", "2", "0"], ["2", "1", "1"]), "released")
    assert marks.judged.tolist() == [[True, False], [False, True], [True, False]]
    assert marks.right.tolist() == [[True, False], [False, True], [False, False]]
    assert marks.counted.sum() == 3 and marks.undecided.sum() == 1


def test_official_vl_rewardbench_leaves_out_what_is_not_decided():
    """Three votes in the order asked for: more than half of all three decide, one unparsable among them or not, two are too
    many. Four votes: a tie, and two of four with an unparsable one."""
    bench = benchmark([1, 1, 1])
    asked = dict(requests(bench, "official", seed=0))
    swapped = str.maketrans("12", "21")
    for votes, counted, right in [
        (["112", "101", "221"], [1, 1, 1], [1, 1, 0]),
        (["100", "022", "000"], [0, 1, 0], [0, 0, 0]),
        (["1122", "1112", "0112"], [0, 1, 0], [0, 1, 0]),
    ]:
        marks = mark(bench, table(bench, votes, [text.translate(swapped) for text in votes]), "official", seed=0)
        assert marks.counted.sum(1).tolist() == counted
        assert marks.right.sum(1).tolist() == right
        assert marks.undecided.sum(1).tolist() == [1 - c for c in counted]
        assert [ORDERS[j] for j in marks.judged.argmax(1)] == list(asked.values())


def test_multimodal_rewardbench_guesses_with_its_seed():
    """random.seed(123) gives 0.052, 0.087, 0.407, 0.108, 0.901: four times A, then B."""
    random_123 = random.Random(123)
    assert [round(random_123.random(), 3) for _ in range(5)] == [0.052, 0.087, 0.407, 0.108, 0.901]
    bench = benchmark([1, 1, 2, 1, 1, 1, 1], "multimodal_rewardbench")
    marks = mark(bench, table(bench, ["0", "2", "0", "0", "1", "0", "0"]), "official")
    assert marks.choices[:, 0].tolist() == [1, 2, 1, 1, 1, 1, 2]
    assert marks.right[:, 0].tolist() == [True, False, False, True, True, True, False]
    assert marks.undecided[:, 0].tolist() == [True, False, True, True, False, True, True]
    assert marks.counted[:, 0].all() and not marks.judged[:, 1].any() and not marks.choices[:, 1].any()


def test_one_table_of_both_orders_serves_every_protocol():
    bench = benchmark([1, 2])
    votes = table(bench, ["1", "1"])
    assert mark(bench, votes, "both_orders").right.mean() == 0.5
    assert mark(bench, votes, "released").right.sum() == 2


def test_a_table_that_lacks_an_order_is_refused():
    bench = benchmark([1, 2])
    votes = [Vote(item.row.id, "forward", 0, 1, None, 1, "") for item in bench.items]
    one_order = Table.build(bench.items, votes, [("i0", "forward"), ("i1", "forward")])
    with pytest.raises(ValueError, match="2 verdicts of both_orders are not in the table; first 'i0', backward"):
        mark(bench, one_order, "both_orders")
    with pytest.raises(ValueError, match="1 verdicts of released are not in the table; first 'i1', backward"):
        mark(bench, one_order, "released")
    with pytest.raises(ValueError, match="not of the 1 items"):
        mark(benchmark([1]), one_order, "both_orders")


def test_what_cannot_be_asked_for():
    with pytest.raises(ValueError, match="unknown protocol 'greedy'"):
        requests(benchmark([1]), "greedy")
    with pytest.raises(ValueError, match="shapes has no official protocol; choose both_orders"):
        requests(benchmark([1], "shapes"), "official")
    with pytest.raises(ValueError, match="takes one verdict per item, got votes=5"):
        check_votes(benchmark([1], "multimodal_rewardbench"), "official", 5)
    check_votes(benchmark([1], "multimodal_rewardbench"), "official", 1)
    check_votes(benchmark([1], "multimodal_rewardbench"), "both_orders", 5)
    check_votes(benchmark([1]), "official", 9)
    multimodal = benchmark([1], "multimodal_rewardbench")
    with pytest.raises(ValueError, match="takes one verdict"):
        mark(multimodal, table(multimodal, ["11"]), "official")


def test_rules_are_stated():
    assert rules_of(benchmark([1]), "official").undecided == "left_out"
    assert rules_of(benchmark([1], "multimodal_rewardbench"), "official").undecided == "guess"
    assert rules_of(benchmark([1], "mm_rlhf_rewardbench"), "official").orders == "both"
    assert np.all([rules_of(benchmark([1]), name).undecided == "wrong" for name in ("both_orders", "released")])
