"""Votes as lines of a file, and a table that holds all of them once."""

import json

import pytest

from r1reward.benchmarks.items import Item
from r1reward.benchmarks.verdicts import Table, Vote
from r1reward.data.rows import PreferenceRow


def items(*ids):
    return [Item(PreferenceRow(id, (), "Q", ("a", "b"), 1, ("", "", "")), id, "") for id in ids]


def vote(item, order, number, choice, tokens=7):
    return Vote(item, order, number, choice, None if choice else "no_answer", tokens, "text")


BOTH = [("x", "forward"), ("x", "backward"), ("y", "forward"), ("y", "backward")]


def test_a_vote_survives_a_line_of_a_file():
    written = Vote("x", "backward", 3, None, "no_answer", 12, 'said "ü"\n')
    assert Vote.from_dict(json.loads(json.dumps(written.to_dict()))) == written
    assert Vote.from_dict(written.to_dict() | {"seconds": 0.5}) == written


def test_a_vote_that_cannot_be():
    fields = vote("x", "forward", 0, 1).to_dict()
    with pytest.raises(ValueError, match="item 'x', sideways, vote 0: order must be"):
        Vote.from_dict(fields | {"order": "sideways"})
    with pytest.raises(ValueError, match="item 'x', forward, vote 0: choice must be 1, 2 or null, got 0"):
        Vote.from_dict(fields | {"choice": 0})
    del fields["tokens"], fields["text"]
    with pytest.raises(ValueError, match="without tokens, text"):
        Vote.from_dict(fields)


def test_choices_are_numbered_as_in_the_forward_order():
    """x: says 1 in both orders, so prefers response 1 and then response 2. y: response 2, then nothing readable."""
    said = [
        vote("y", "backward", 0, None, tokens=9),
        vote("x", "forward", 0, 1),
        vote("x", "backward", 0, 1),
        vote("y", "forward", 0, 2, tokens=5),
    ]
    table = Table.build(items("x", "y"), said, BOTH)
    assert table.ids == ("x", "y") and table.num_votes == 1
    assert table.choices.tolist() == [[[1], [2]], [[2], [0]]]
    assert table.tokens.tolist() == [[[7], [7]], [[5], [9]]]
    assert table.judged.all()


def test_several_votes_in_any_order():
    said = [vote("x", "forward", 2, 2), vote("x", "forward", 0, 1), vote("x", "forward", 1, None)]
    table = Table.build(items("x", "y"), said, [("x", "forward")], num_votes=3)
    assert table.choices[0, 0].tolist() == [1, 0, 2]
    assert table.judged.tolist() == [[True, False], [False, False]]
    assert not table.choices[0, 1].any() and not table.tokens[1].any()


def test_missing_repeated_and_unwanted_votes_are_named():
    said = [vote("x", "forward", 0, 1), vote("x", "forward", 0, 1), vote("z", "forward", 0, 1), vote("x", "backward", 1, 1)]
    with pytest.raises(ValueError) as error:
        Table.build(items("x", "y"), said, BOTH[:3])
    assert str(error.value).splitlines()[1:] == [
        "  2 missing: item 'x', backward, vote 0; item 'y', forward, vote 0",
        "  1 repeated: item 'x', forward, vote 0",
        "  2 not asked for: item 'z', forward, vote 0; item 'x', backward, vote 1",
    ]


def test_an_order_that_was_not_asked_for_is_unwanted():
    with pytest.raises(ValueError, match="1 not asked for: item 'x', backward, vote 0"):
        Table.build(items("x"), [vote("x", o, 0, 1) for o in ("forward", "backward")], [("x", "forward")])


def test_a_long_list_is_cut_after_ten():
    ids = [f"i{n}" for n in range(12)]
    with pytest.raises(ValueError, match="12 missing: .*item 'i9', forward, vote 0; ... and 2 more$"):
        Table.build(items(*ids), [], [(id, "forward") for id in ids])


def test_items_that_cannot_be_told_apart_or_do_not_exist():
    with pytest.raises(ValueError, match="ids must be unique: x"):
        Table.build(items("x", "x"), [], [])
    with pytest.raises(ValueError, match="'z' is requested, but there is no such item"):
        Table.build(items("x"), [], [("z", "forward")])
    with pytest.raises(ValueError, match="num_votes must be at least 1"):
        Table.build(items("x"), [], [], num_votes=0)
