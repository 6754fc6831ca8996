import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1reward.rewards import blocks
from r1reward.rewards.grounding import REJECTIONS, hit, iou, overlap
from r1reward.rewards.score import SEMANTICS, Score

TRUTH = "[10, 20, 110, 120]"  # 100 x 100


def said(answer: str) -> str:
    return f"<think>There.</think>\n<answer>{answer}</answer>"


@pytest.mark.parametrize(
    "box, value",
    [
        ("[10, 20, 110, 120]", 1.0),
        ("[10, 20, 110, 70]", 0.5),  # the upper half
        ("[60, 20, 160, 120]", 1 / 3),  # 5000 of 15000
        ("[60, 70, 160, 170]", 1 / 7),  # 2500 of 17500
        ("[0, 0, 200, 200]", 0.25),  # all around it
        ("[110, 20, 210, 120]", 0.0),  # side by side
        ("[300, 300, 310, 310]", 0.0),
        ("[-90, 20, 110, 120]", 0.5),  # sticks out: not clipped
        ("[10.5, 20, 110, 120]", 0.995),
    ],
)
def test_iou_by_hand(box, value):
    assert iou(said(box), TRUTH) == Score(pytest.approx(value, abs=1e-12))
    assert iou(said(f'```json\n[{{"bbox_2d": {box}, "label": "cat"}}]\n```'), TRUTH).value == pytest.approx(value, abs=1e-12)


def test_a_perfect_answer_has_exactly_one():
    for box in ("[0.1, 0.2, 0.3, 0.7]", "[1, 3, 1000, 999]", "[0, 0, 0.333333, 1e-5]"):
        assert iou(said(box), box) == hit(said(box), box) == Score(1.0)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "empty"),
        ("[10, 20, 110, 120]", "no_answer"),
        (said("[10, 20, 110, 120]") + said("[10, 20, 110, 120]"), "several_answer"),
        (said("[10, 20, 110, 120]") + " or so", "text_outside"),
        ("<answer>[10, 20, 110, 120]", "open_answer"),
        (said("[[10, 20, 110, 120], [0, 0, 5, 5]]"), "several_boxes"),
        (said("at [10, 20, 110, 120"), "not_json"),
        (said("[110, 120, 10, 20]"), "degenerate"),
        (said("[10, 20, 110, true]"), "bad_coordinates"),
        (said('"cat"'), "not_a_box"),
    ],
)
def test_what_is_not_read_earns_nothing(text, reason):
    for truth in (TRUTH, "None"):
        assert iou(text, truth) == hit(text, truth) == Score(0.0, reason)
    assert reason in REJECTIONS + blocks.REJECTIONS


def test_nothing_to_be_found():
    for nothing in ("None", "[]", "<answer> None </answer>"):
        assert iou(said("None"), nothing) == iou(said("[]"), nothing) == hit(said("None"), nothing) == Score(1.0)
        assert iou(said("[10, 20, 110, 120]"), nothing) == hit(said("[10, 20, 110, 120]"), nothing) == Score(0.0)
        assert iou(said("a cat there"), nothing) == Score(0.0, "not_json")
    assert iou(said("None"), TRUTH) == hit(said("None"), TRUTH) == Score(0.0)


def test_boxes_are_mapped_to_the_space_of_the_truth():
    def from_thousandths(box):  # of an image 200 pixels wide and 400 high
        return (box[0] * 0.2, box[1] * 0.4, box[2] * 0.2, box[3] * 0.4)

    text = said("[50, 50, 550, 300]")  # thousandths of 10, 20, 110, 120
    assert iou(text, TRUTH, to_pixels=from_thousandths).value == pytest.approx(1.0)
    assert hit(text, TRUTH, to_pixels=from_thousandths).value == 1.0
    assert iou(text, TRUTH).value == pytest.approx(60 * 70 / (500 * 250 + 100 * 100 - 60 * 70))
    assert iou(text, TRUTH, "released", from_thousandths).value == pytest.approx(1.0)


@pytest.mark.parametrize(
    "mapped", [(5.0, 5.0, 5.0, 5.0), (math.nan,) * 4, (0.0, 0.0, math.inf, math.inf), (9.0, 9.0, 3.0, 3.0)]
)
@pytest.mark.parametrize("semantics", SEMANTICS)
def test_a_box_that_is_mapped_to_nonsense_earns_nothing(mapped, semantics):
    assert iou(said("[1, 2, 3, 4]"), TRUTH, semantics, lambda box: mapped).value == 0.0


def test_hit():
    assert hit(said("[10, 20, 110, 70]"), TRUTH).value == 1.0  # IoU 0.5: reached
    assert hit(said("[10, 20, 110, 69]"), TRUTH).value == 0.0  # 0.49
    assert hit(said("[10, 20, 110, 70]"), TRUTH, "released").value == 0.0  # > 0.5
    assert hit(said("[10, 20, 110, 71]"), TRUTH, "released").value == 1.0
    assert hit(said("[10, 20, 110, 95]"), TRUTH, threshold=0.75).value == 1.0
    assert hit(said("[10, 20, 110, 94]"), TRUTH, threshold=0.75).value == 0.0


@pytest.mark.parametrize("threshold", [0, -1, 1.01, math.nan])
def test_a_threshold_that_every_box_reaches_is_an_error(threshold):
    with pytest.raises(ValueError, match="threshold"):
        hit("", TRUTH, threshold=threshold)


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("solution", ["", "cat", "[1, 2, 3]", "[5, 5, 5, 9]", "the answer is [1, 2, 3, 4]"])
def test_a_wrong_solution_is_an_error(solution, semantics):
    for function in (iou, hit):
        with pytest.raises(ValueError, match="expected"):
            function("", solution, semantics)


def test_unknown_semantics_are_an_error():
    with pytest.raises(ValueError, match="semantics"):
        iou("", TRUTH, "lenient")


def test_released_reads_the_first_integers_of_the_first_block():
    assert iou("<answer>a [10,20, 110,\n120] b [0, 0, 5, 5]", TRUTH, "released") == Score(
        0.0, "no_integers"
    )  # block not closed
    text = "x <answer>a [10,20, 110,\n120] b [0, 0, 5, 5]</answer> <answer>[0, 0, 5, 5]</answer>"
    assert iou(text, TRUTH, "released") == Score(1.0)
    assert iou(said("[10, 20, 110, 70]"), TRUTH, "released").value == 0.5
    assert iou(said("[5, 5, 5, 5]"), TRUTH, "released").value == 0.0
    assert iou(said("[300, 20, 200, 121]"), TRUTH, "released") == Score(0.0)  # -10100 + 10000: a negative union
    assert iou(said(f"[{'9' * 5000}, 1, 2, 3]"), TRUTH, "released") == Score(0.0, "error")
    assert iou(said(f"[1, 2, {'9' * 400}, 3]"), TRUTH, "released") == Score(0.0, "error")


def test_overlap_is_symmetric_and_bounded():
    boxes = [(0.0, 0.0, 10.0, 10.0), (5.0, 5.0, 15.0, 15.0), (3.0, 3.0, 3.0, 9.0), (0.0, 0.0, 1e-200, 1e-200)]
    for one in boxes:
        for other in boxes:
            assert overlap(one, other) == overlap(other, one)
            assert 0 <= overlap(one, other) <= 1


ANY = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<answer>", "</answer>", "[", "]", "1", "20", ",", " ", "-", ".", "e9", "{", "}", "None"]
    ),
    max_size=25,
).map("".join)


@pytest.mark.parametrize("semantics", SEMANTICS)
@settings(deadline=None)
@given(text=ANY | st.text(max_size=30) | ANY.map(said), solution=st.sampled_from([TRUTH, "None", "[0, 0, 1e-200, 1e-200]"]))
def test_every_text_has_a_value_in_range(semantics, text, solution):
    for score in (iou(text, solution, semantics), hit(text, solution, semantics)):
        assert 0 <= score.value <= 1
        assert score.rejection is None or (score.value == 0 and score.rejection in REJECTIONS + blocks.REJECTIONS)


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize(
    "text",
    [
        "<answer>" * 125_000,
        "<answer>" * 60_000 + "</answer>" * 60_000,
        "<answer>" + "[" * 10**6 + "</answer>",
        "<answer>" + "[1," * 300_000 + "</answer>",
        "<answer>[" + "1" * 10**6 + "</answer>",
        "<answer>[1," + " " * 10**6 + "</answer>",
        "<answer>" + "[1, " * 250_000 + "]</answer>",
        "<answer>" + "[1,2,3,4]" * 110_000 + "</answer>",
    ],
)
def test_long_texts_take_little_time(text, semantics):
    start = time.process_time()
    iou(text, TRUTH, semantics)
    assert time.process_time() - start < 2
