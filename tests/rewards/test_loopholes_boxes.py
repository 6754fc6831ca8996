"""Ways to be paid for errors, or not to be paid for right answers, with boxes: that the released code has them, and ours not.

Numbered as in the list of the released code's bugs (repository om-ai-lab/VLM-R1 at 90052f4); those without a number are others.
"""

import json

import pytest

from r1reward.rewards import detection, formats, grounding, shaping
from r1reward.rewards.score import Score

SQUARE, FAR = [0, 0, 100, 100], [500, 500, 600, 600]
TRUTH_BOX = "[10, 20, 110, 120]"


def item(box, label="cat"):
    return {"bbox_2d": box, "label": label}


def fenced(*items) -> str:
    return f"```json\n{json.dumps(list(items))}\n```"


def said(answer: str) -> str:
    return f"<think>Look.</think><answer>{answer}</answer>"


def listed(*items) -> str:
    return said(fenced(*items))


def both(metric: str, text: str, solution: str) -> tuple[float, float]:
    """What the released code pays for the text, and what ours pays."""
    return tuple(detection.score([text], [solution], metric, semantics)[0].value for semantics in ("released", "strict"))


def test_vlm_r1_bug_1_every_answer_counts_as_right_for_the_length():
    assert shaping.cosine_length(0, correct=0.0, semantics="released") == 1.0
    assert shaping.cosine_length(0, correct=0.0) == -0.5
    assert shaping.cosine_length(1024, correct=0.0, semantics="released") == pytest.approx(0.5)
    assert shaping.cosine_length(1024, correct=0.0) == 0.0


def test_vlm_r1_bug_1_the_length_reward_rises_again_beyond_its_limit():
    assert shaping.cosine_length(2048, correct=1.0, semantics="released") == pytest.approx(1.0)
    assert shaping.cosine_length(2048, correct=1.0) == shaping.cosine_length(1024, correct=1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("metric", ["od_ap", "ap50", "od_length"])
@pytest.mark.parametrize("answer", ["", "asdf", "a cat at [1, 2, 3, 4]", "```json\n[{", json.dumps([item(SQUARE)])])
def test_vlm_r1_bug_2_unparsable_answer_pays_on_negative_rows(metric, answer):
    assert both(metric, said(answer), "None") == (1.0, 0.0)
    assert both("map", f"so {answer}", "None") == (1.0, 0.0)


def test_vlm_r1_bug_2_our_negative_rows_pay_for_saying_so():
    for metric in detection.METRICS:
        assert both(metric, said("None"), "None") == (1.0, 1.0)
        assert both(metric, listed(item(SQUARE)), "None") == (0.0, 0.0)


def test_vlm_r1_bug_3_boxes_of_invented_labels_are_free():
    truth = fenced(item(SQUARE))
    text = listed(*[item(FAR, f"thing {number}") for number in range(9)], item(SQUARE))
    for metric in ("map", "od_ap", "ap50"):
        assert both(metric, text, truth) == (1.0, pytest.approx(0.1))  # one of ten labels
    assert both("od_length", text, truth) == (pytest.approx(0.1), pytest.approx(0.1))  # here the released code counts them too


def test_vlm_r1_bug_3_false_boxes_after_the_right_ones_are_free():
    truth = fenced(item(SQUARE))
    false = [item([500 + n, 500, 600 + n, 600]) for n in range(40)]
    # That is what average precision is, and ours is the same: the reward to train with is od_length.
    assert both("map", listed(item(SQUARE), *false), truth) == (1.0, 1.0)
    assert both("map", listed(*false, item(SQUARE)), truth) == (pytest.approx(1 / 41), pytest.approx(1 / 41))
    assert both("od_length", listed(item(SQUARE), *false), truth) == (pytest.approx(1 / 41), pytest.approx(1 / 41))


def test_vlm_r1_bug_4_malformed_ground_truth_ends_the_training():
    def released(solution):  # stand-in for `map_reward`: the truth's JSON is parsed without a guard, in the middle of a step
        return json.loads(solution.split("```json")[1].split("```")[0])

    malformed = fenced(item(SQUARE))[:-5] + "```"
    with pytest.raises(json.JSONDecodeError):
        released(malformed)
    for metric in detection.METRICS:  # ours says what is wrong, before the training: the data is checked with an empty text
        with pytest.raises(ValueError, match='ground truth.*expected.*"bbox_2d"'):
            detection.score([""], [malformed], metric)


def test_vlm_r1_bug_4_a_box_without_a_label_takes_the_label_of_the_pair_before():
    truth = fenced(item(SQUARE), item(FAR))
    assert both("weighted_sum", listed(item(SQUARE), {"bbox_2d": FAR}), truth) == (1.0, 0.0)
    assert both("weighted_sum", listed({"bbox_2d": SQUARE}, item(FAR)), truth) == (0.0, 0.0)  # raises UnboundLocalError there
    (score,) = detection.score([listed(item(SQUARE), {"bbox_2d": FAR})], [truth], "weighted_sum")
    assert score == Score(0.0, "not_a_box")


def test_vlm_r1_bug_5_swapped_labels_are_paid():
    truth = fenced(item(SQUARE, "cat"), item(FAR, "dog"))
    assert both("weighted_sum", listed(item(SQUARE, "dog"), item(FAR, "cat")), truth) == (pytest.approx(0.3), 0.0)


def test_vlm_r1_bug_5_eight_false_boxes_cost_little():
    truth = fenced(item(SQUARE), item(FAR))
    text = listed(item(SQUARE), item(FAR), *[item([1000 + n, 0, 1100 + n, 100]) for n in range(8)])
    assert both("weighted_sum", text, truth) == (pytest.approx(0.88), pytest.approx(0.88 * 2 / 10))


def test_vlm_r1_bug_6_an_overlap_of_one_pixel_is_none():
    assert grounding.iou(said("[1, 1, 3, 3]"), "[0, 0, 2, 2]", "released").value == 0.0
    assert grounding.iou(said("[1, 1, 3, 3]"), "[0, 0, 2, 2]").value == pytest.approx(1 / 7)
    assert both("weighted_sum", listed(item([0, 0, 1, 90])), fenced(item([0, 0, 1, 100]))) == (0.0, pytest.approx(0.93))


def test_vlm_r1_bug_6_boxes_in_units_of_the_image_are_always_wrong():
    def from_units(box):  # of an image 200 pixels wide and 400 high
        return (200 * box[0], 400 * box[1], 200 * box[2], 400 * box[3])

    text = said("[0.05, 0.05, 0.55, 0.3]")
    for to_pixels in (None, from_units):
        assert grounding.iou(text, TRUTH_BOX, "released", to_pixels).value == 0.0  # it reads no decimals
        assert grounding.iou(text, "[0.05, 0.05, 0.55, 0.3]", "released", to_pixels).value == 0.0
    assert grounding.iou(text, TRUTH_BOX, to_pixels=from_units).value == pytest.approx(1.0)
    assert grounding.iou(text, "[0.05, 0.05, 0.55, 0.3]").value == 1.0


def test_vlm_r1_bug_6_two_boxes_without_area_divide_by_zero():
    def released(box, other):  # stand-in for `iou` of both modules, on boxes that do not meet
        return 0 / sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))

    with pytest.raises(ZeroDivisionError):
        released([5, 5, 5, 5], [7, 7, 7, 9])
    assert grounding.iou(said("[5, 5, 5, 5]"), TRUTH_BOX) == Score(0.0, "degenerate")
    with pytest.raises(ValueError, match="degenerate"):
        grounding.iou("", "[7, 7, 7, 9]")


@pytest.mark.parametrize(
    "box", ["[10.0, 20.0, 110.0, 120.0]", "[ 10, 20, 110, 120 ]", "[10 , 20 , 110 , 120]", "[-0, 20, 110, 120]"]
)
def test_vlm_r1_bug_7_floats_negatives_and_inner_spaces_are_not_read(box):
    assert grounding.iou(said(box), TRUTH_BOX, "released") == Score(0.0, "no_integers")
    assert grounding.iou(said(box), TRUTH_BOX).value > 0.9
    assert formats.box_format(said(box), "released", "internvl").value == 0.0
    assert formats.box_format(said(box)).value == 1.0


def test_vlm_r1_bug_7_the_format_matches_across_answer_tags():
    text = "<think>a</think><answer>{</answer> I mean [1, 2, 3, 4] } <answer></answer>"
    assert formats.box_format(text, "released").value == 1.0
    assert formats.box_format(text).value == 0.0


def test_vlm_r1_bug_7_junk_around_is_allowed():
    text = "junk " + said('junk {"bbox_2d": [10, 20, 110, 120]} or [0, 0, 5, 5] junk') + " junk"
    assert formats.box_format(text, "released").value == 1.0
    assert formats.box_format(text).value == 0.0
    assert grounding.iou(text, TRUTH_BOX, "released").value == 1.0
    assert grounding.iou(text, TRUTH_BOX).value == 0.0


def test_vlm_r1_bug_7_no_negative_samples():
    for text in (said("None"), said("[]"), said(TRUTH_BOX)):
        assert grounding.iou(text, "None", "released").value == 0.0
    assert grounding.iou(said("None"), "None").value == grounding.iou(said("[]"), "None").value == 1.0
    assert grounding.iou(said(TRUTH_BOX), "None").value == 0.0


def test_vlm_r1_bug_8_the_format_fails_on_a_line_break_at_the_end():
    text = said("None") + "\n"
    assert formats.think_answer(text, "released").value == 0.0
    assert formats.think_answer(text).value == 1.0


def test_vlm_r1_bug_8_the_format_accepts_two_answer_blocks():
    text = said("[1, 2, 3, 4]") + "<answer>[5, 6, 7, 8]</answer>"
    assert formats.think_answer(text, "released").value == 1.0
    assert formats.think_answer(text) == Score(0.0, "several_answer")


def test_many_guesses_for_one_expression():
    guesses = said("[[10, 20, 110, 120], [0, 0, 50, 50], [60, 60, 90, 90]]")
    assert grounding.iou(guesses, TRUTH_BOX, "released").value == 1.0  # the first counts
    assert grounding.iou(guesses, TRUTH_BOX) == Score(0.0, "several_boxes")


def test_an_answer_in_the_reasoning_and_another_one_at_the_end():
    text = f"<think>Maybe <answer>{TRUTH_BOX}</answer>?</think><answer>None</answer>"
    assert grounding.iou(text, TRUTH_BOX, "released").value == 1.0
    assert grounding.iou(text, TRUTH_BOX) == Score(0.0)  # the answer is None


@pytest.mark.parametrize("box", [[0, 0, 300_000, 300_000], [9, 3, 3, 9]])
def test_boxes_that_coco_ignores_are_free(box):
    """COCO neither rewards nor punishes a detection of more than 1e10 square pixels, or of a negative area."""
    text, truth = listed(*[item(box)] * 3, item(SQUARE)), fenced(item(SQUARE))
    assert both("map", text, truth) == (1.0, 0.25)
    assert both("od_length", text, truth) == (0.25, 0.0625)


def test_one_box_under_two_spellings_of_a_label():
    text, truth = listed(item(SQUARE, "Cat"), item(SQUARE)), fenced(item(SQUARE))
    assert both("map", text, truth) == (1.0, 1.0)  # a repeated box after the right one, as in bug 3
    assert both("map", listed(item(FAR, "Cat"), item(SQUARE)), truth) == (1.0, 0.5)
    assert both("od_length", text, truth) == (0.5, 0.5)


def test_repetition_behind_a_harmless_list():
    text = "round and round we go " * 200 + fenced(item(SQUARE), item(FAR))
    assert shaping.repetition(text, "released").value == 0.0
    assert shaping.repetition(text).value < -0.9


def test_repetition_without_spaces():
    text = "again-and-" * 500
    assert shaping.repetition(text, "released").value == 0.0
    assert shaping.repetition(text).value < -0.9


def test_an_empty_answer_is_well_formed():
    assert formats.think_answer("<think></think><answer></answer>", "released").value == 1.0
    assert formats.think_answer("<think></think><answer></answer>") == Score(0.0, "empty_answer")
