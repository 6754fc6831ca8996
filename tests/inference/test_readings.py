"""How R1-Reward's scripts read an answer, by hand from what they do."""

import time

import pytest

from r1reward.inference.readings import read_verdict, reading_of
from r1reward.rewards.verdict import parse

READ = [  # text, choice of the scripts, of the one for MM-RLHF-RewardBench
    ("<think>x</think><answer>1</answer>", 1, 1),
    ("<think>x</think><answer>2</answer>", 2, 2),
    ("<answer> 1.0\n</answer> and 2", 1, 1),
    ("<answer>Response 1</answer>", None, None),  # float() raises
    ("<answer>1</answer><answer>2</answer>", 1, 1),
    ("<answer>3</answer>", None, None),
    ("<answer></answer> 1", None, None),
    ("Response 1 is better than 2, so 1", 1, 1),
    ("Of 1 and 2\nI choose 1", 1, 2),  # the last digit of all, or of the first line with one
    ("no line\nthe first 12\n1", 1, 2),
    ("<answer>1", 1, 1),
    ("nothing at all", None, None),
    ("", None, None),
]


@pytest.mark.parametrize(("text", "scripts", "first_line"), READ)
def test_answers_are_read_as_the_scripts_do(text, scripts, first_line):
    assert read_verdict(text, "scripts").choice == scripts
    assert read_verdict(text, "scripts_first_line").choice == first_line
    assert (read_verdict(text, "scripts").rejection is None) == (scripts is not None)


def test_the_protocol_decides_unless_a_pattern_is_given():
    assert reading_of(None, "released", "vl_rewardbench") == "scripts"
    assert reading_of(None, "released", "mm_rlhf_rewardbench") == "scripts_first_line"
    assert reading_of(None, "both_orders", "vl_rewardbench") == reading_of(None, "official", "vl_rewardbench") == "strict"
    assert reading_of("strict", "released", "vl_rewardbench") == "strict"


def test_other_readings_are_those_of_verdicts():
    text = "<think>x</think><answer>Response 2</answer>"
    for pattern in ("strict", "released"):
        assert read_verdict(text, pattern) == parse(text, pattern)
    with pytest.raises(ValueError, match="unknown verdict pattern"):
        read_verdict(text, "loose")


@pytest.mark.parametrize(
    "text", ["<answer>" * 100_000, "1" * 1_000_000, "<answer>" + "1" * 1_000_000 + "</answer>", "\n" * 10**6]
)
def test_any_text_takes_linear_time(text):
    began = time.perf_counter()
    read_verdict(text, "scripts"), read_verdict(text, "scripts_first_line")
    assert time.perf_counter() - began < 1
