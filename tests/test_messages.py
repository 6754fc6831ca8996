"""Values and lists in messages are cut, and say so."""

import pytest

from r1reward.messages import LONGEST_REPR, listed, short_repr


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, ""), (1, "0"), (10, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"), (11, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... and 1 more")],
)
def test_ten_are_listed(number, expected):
    assert listed([str(i) for i in range(number)], ", ") == expected


def test_lines_of_a_list_and_another_number():
    assert listed(["a", "b", "c"], most=2) == "a\n  b\n  ... and 1 more"


@pytest.mark.parametrize("value", ["a" * 10**6, b"a" * 10**6, ["a"] * 10**5])
def test_a_long_value_is_cut(value):
    text = short_repr(value)
    assert len(text) == LONGEST_REPR + 3 and text.endswith("...") and text[:9] == repr(value[:LONGEST_REPR])[:9]


@pytest.mark.parametrize("value", ["", "it's", "\ud83d", None, [1, "a"], "a" * (LONGEST_REPR - 2)])
def test_a_short_value_is_its_repr(value):
    assert short_repr(value) == repr(value)


def test_a_value_within_itself_within_itself():
    value = []
    for _ in range(100_000):
        value = [value]
    assert short_repr(value) == "a deeply nested value"
    while value:  # or freeing it would go as deep
        value = value.pop()
