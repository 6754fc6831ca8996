import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1reward.rewards.verdict import PATTERNS, REJECTIONS, Verdict, parse

GOOD = "<think>Response 2 fits.</think><answer>2</answer>"

# Pieces from which texts near the format are put together.
PIECES = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "1",
        "2",
        "10",
        "Response 2",
        " ",
        "\n",
        "x",
        "<",
        "think>",
        "\u2028",
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join))


@pytest.mark.parametrize(
    "text, choice, reasoning",
    [
        (GOOD, 2, "Response 2 fits."),
        ("  \n<think>\na\nb\n</think>\n\n<answer> 1 \n</answer>\n", 1, "a\nb"),
        ("<think></think><answer>1</answer>", 1, ""),
        ("<think>1 < 2 and <b>bold</b></think> <answer>2</answer>", 2, "1 < 2 and <b>bold</b>"),
    ],
)
def test_strict_accepts(text, choice, reasoning):
    assert parse(text) == Verdict(choice, reasoning, None)
    assert parse(text).ok and parse(text).formatted


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("Response 1 is better.", "no_think"),
        ("<answer>1</answer>", "no_think"),
        ("a</think><answer>1</answer>", "no_think"),
        ("<think>Let me see, let me", "open_think"),
        ("<think>a<answer>1</answer>", "open_think"),
        ("<think><think>a</think><answer>1</answer>", "several_think"),
        ("<think>a</think></think><answer>1</answer>", "several_think"),
        ("<think>a</think>", "no_answer"),
        ("<think>a</think>1</answer>", "no_answer"),
        ("<think>a</think><answer>1", "open_answer"),
        ("<think>a</think><answer>1</answer><answer>2</answer>", "several_answer"),
        ("<think>or <answer>1</answer>?</think><answer>2</answer>", "several_answer"),
        ("<answer>1</answer><think>a</think>", "wrong_order"),
        ("<think>a<answer>1</answer></think>", "wrong_order"),
        ("</think>a<think><answer>1</answer>", "wrong_order"),
        ("So: <think>a</think><answer>1</answer>", "text_outside"),
        ("<think>a</think>Hence<answer>1</answer>", "text_outside"),
        ("<think>a</think><answer>1</answer>.", "text_outside"),
        ("<think>a</think><answer></answer>", "answer_not_1_or_2"),
        ("<think>a</think><answer>3</answer>", "answer_not_1_or_2"),
        ("<think>a</think><answer>12</answer>", "answer_not_1_or_2"),
        ("<think>a</think><answer>1.0</answer>", "answer_not_1_or_2"),
        ("<think>a</think><answer>Response 2</answer>", "answer_not_1_or_2"),
        ("<think>a</think><answer>\uff12</answer>", "answer_not_1_or_2"),  # a full-width 2
        ("<THINK>a</THINK><ANSWER>1</ANSWER>", "no_think"),
    ],
)
def test_strict_rejects_the_format(text, reason):
    assert parse(text).rejection == reason
    assert not parse(text).ok and not parse(text).formatted


SPELLINGS = """2 | Response 2 | Response #2 | **2** | $2$ | \\boxed{2} |
\\boxed{\\text{Response 2}} | 2. | (2) | [2] | "2" | 2.0 |
Response 2 is better. | The better response is Response 2. |
The answer is 2 | Answer: 2 | So the correct answer is **2**. |
```\n2\n``` | ```JSON\n{"answer": 2}\n``` | {"answer": "2"} |
<|begin_of_box|>2<|end_of_box|> | the second response | second |
The second one is better. | Response two | 2, because it is right |
2 is better | I choose response 2. | Option 2 | the latter |
Response 2 is better because it does not invent a dog. | Response 2: it counts all 5 dogs |
\uff12 | \u7b2c\u4e8c\u4e2a\u56de\u7b54\u66f4\u597d |
\u56de\u7b542\u66f4\u597d\u3002 | \u7b54\u6848\u662f2\u3002 | \u56de\u7b54\u4e8c"""
NO_CHOICE = """ | 0 | 3 | 12 | 1.5 | -2 | 2/10 |
1 and 2 | 2, or 1 | Not 2 but 1 | not 2 | Neither response 2 nor 1 | both | neither of them |
Response 2 is worse | Response 2 is wrong. |
Response 2? | If response 2 | two cats | 1 cat |
I would rather not say. | Response 12 | 1. Wait, 2 | the image | Response 2 isn't better"""


def each(answers: str) -> list[str]:
    return [answer.strip().replace("\\n", "\n") for answer in answers.split("|" if "<|" not in answers else " |")]


@pytest.mark.parametrize("answer", each(SPELLINGS))
def test_a_choice_in_its_usual_spellings(answer):
    for text in (f"<think>a</think><answer>{answer}</answer>", f"a\n<answer>\n{answer}\n</answer>\n"):
        assert parse(text).choice == 2 and parse(text).reasoning == "a"
    assert parse(f"<think>a</think><answer>{answer}</answer>").formatted == (answer == "2")


@pytest.mark.parametrize("answer", each(NO_CHOICE))
def test_both_neither_or_a_doubt_is_no_choice(answer):
    verdict = parse(f"<think>a</think><answer>{answer}</answer>")
    assert verdict == Verdict(None, "", "answer_not_1_or_2")


@pytest.mark.parametrize(
    "text, choice, reasoning",
    [
        ("<answer>1</answer>", 1, ""),
        ("<think>a<answer>1</answer>", 1, "a"),  # the closing tag was forgotten
        ("<think>I could say <answer>1</answer> and", None, ""),  # cut off while thinking
        ("<think>a<answer>1</answer></think>", None, ""),  # a thought
        ("<think>or <answer>1</answer>?</think><answer>2</answer>", 2, "or <answer>1</answer>?"),
        ("<think>a</think><answer>1</answer><answer>2</answer>", 2, "a<answer>1</answer>"),  # the last block
        ("<think>a</think><answer>2</answer> Done.", 2, "a"),
        ("<think>a</think><answer>1</answer><answer>2", None, ""),
        ("<think>a</think><answer>1", None, ""),
        ("Response 1", None, ""),
    ],
)
def test_a_choice_is_read_from_the_last_answer_block(text, choice, reasoning):
    verdict = parse(text)
    assert (verdict.choice, verdict.reasoning) == (choice, reasoning) and not verdict.formatted


def test_every_rejection_can_happen():
    strict = ["", "x", "<think>", "<think><think>", "<think></think>", "<think></think><answer>"]
    strict += [
        "<think></think><answer><answer>",
        "<answer></answer><think></think>",
        ".<think></think><answer></answer>",
    ]
    strict += ["<think></think><answer></answer>"]
    found = {parse(text).rejection for text in strict} | {parse(strict[-1], "released").rejection}
    assert found == set(REJECTIONS)


@pytest.mark.parametrize(
    "text, choice, rejection",
    [
        (GOOD, 2, None),
        (f"\n{GOOD} ", 2, None),
        ("<think>a</think><answer>Response 2</answer>", 2, None),
        ("<think>a</think><answer>The answer is 1.0</answer>", 1, None),
        ("<think>a</think><answer>not 1 but 2</answer>", 2, None),
        ("<think>a</think><answer>10</answer>", None, "unreadable_choice"),
        ("<think>a</think><answer>neither</answer>", None, "unreadable_choice"),
        ("<think>a</think><answer>neither of them</answer>", None, "unreadable_choice"),
        ("<think>a</think><answer>Response #2</answer>", None, "unreadable_choice"),  # wrong for the released grader
        ("<think>a</think><answer>-2</answer>", None, "unreadable_choice"),
        ("<think>a</think> <answer>2</answer>", 2, "text_outside"),  # white space between the blocks, as in the paper
        ("<think>a</think></think><answer>2</answer>", 2, None),  # closing tags are not counted
        ("<think>a</think><answer>1</answer></answer>", 1, None),
        ("<think>a</think><answer>1</answer><answer>2</answer>", 1, "several_answer"),  # the first block is read
        ("Response 2", 2, "no_think"),  # no answer block: the whole text is read
        ("<think>first 1, then 2", 2, "open_think"),
        ("<think>a</think><answer>1", 1, "open_answer"),
        ("<answer>2</answer><think>a</think>", 2, "wrong_order"),
        ("", None, "empty"),
    ],
)
def test_released_reads_choice_and_format_separately(text, choice, rejection):
    verdict = parse(text, "released")
    assert (verdict.choice, verdict.rejection) == (choice, rejection)
    assert verdict.ok == (rejection is None)
    assert verdict.formatted == (rejection in (None, "unreadable_choice"))


def test_released_reasoning_is_what_stands_before_the_answer_without_tags():
    assert parse("<think>a\nb</think>\nc<answer>2</answer>", "released").reasoning == "a\nb\nc"


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_released_format_is_the_released_regular_expression(text):
    content = text.strip()
    matches = re.match(r"^<think>.*?</think><answer>.*?</answer>$", content, re.DOTALL)
    expected = bool(matches) and content.count("<think>") == 1 and content.count("<answer>") == 1
    assert parse(text, "released").formatted == expected


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_strict_is_one_regular_expression_without_further_tags(text):
    found = re.fullmatch(r"\s*<think>(.*)</think>\s*<answer>\s*([12])\s*</answer>\s*", text, re.DOTALL)
    if found and not re.search(r"</?(think|answer)>", found[1]):
        assert parse(text) == Verdict(int(found[2]), found[1].strip(), None)
    else:
        assert parse(text).rejection in REJECTIONS and parse(text).choice in (None, 1, 2)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.sampled_from(PATTERNS))
def test_no_text_raises_and_ok_means_a_choice(text, pattern):
    verdict = parse(text, pattern)
    assert verdict.rejection is None or verdict.rejection in REJECTIONS
    if verdict.ok:
        assert verdict.choice in (1, 2)
    if pattern == "strict":
        assert verdict.ok == verdict.formatted


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("piece", ["<think>", "<answer>", "</think><answer>", "<think></think>", "1", "1.", " ", "<", "a\n"])
def test_a_megabyte_of_anything_is_read(piece, pattern):
    """Quadratic time would need hours here."""
    for text in (piece * (1_000_000 // len(piece)), "<think>" + piece * (1_000_000 // len(piece)) + "<answer>2"):
        assert parse(text, pattern).rejection in REJECTIONS
    long = parse(f"<think>{'a ' * 500_000}</think><answer>1</answer>", pattern)
    assert long.choice == 1 and len(long.reasoning) == 999_999


def test_unknown_pattern():
    with pytest.raises(ValueError, match="'loose'.*'strict', 'released'"):
        parse(GOOD, "loose")
