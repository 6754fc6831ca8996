import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1reward.rewards.boxes import (
    REJECTIONS,
    Detection,
    Reading,
    read_box,
    read_detections,
    same_label,
    true_box,
    true_detections,
)

BOX = (1.0, 2.0, 30.0, 40.0)


@pytest.mark.parametrize(
    "answer, box",
    [
        ("[1, 2, 30, 40]", BOX),
        ("[ 1,2 ,30,\n40 ]", BOX),
        ("[1.0, 2e0, 30, 40.00]", BOX),
        ("[-5, -0.5, 30, 40]", (-5.0, -0.5, 30.0, 40.0)),  # not clipped
        ('{"bbox_2d": [1, 2, 30, 40], "label": "the cat"}', BOX),
        ('{"bbox_2d": [1, 2, 30, 40]}', BOX),
        ('{"bbox": [1, 2, 30, 40], "score": 0.9}', BOX),
        ('[{"bbox_2d": [1, 2, 30, 40], "label": "the cat"}]', BOX),
        ("[[1, 2, 30, 40]]", BOX),
        ('```json\n[{"bbox_2d": [1, 2, 30, 40]}]\n```', BOX),
        ("```json[1, 2, 30, 40]```", BOX),
        ("```\n[1, 2, 30, 40]\n```", BOX),
        ("  [1, 2, 30, 40]\n", BOX),
        ("[0.1, 0.2, 0.3, 0.4]", (0.1, 0.2, 0.3, 0.4)),
    ],
)
def test_one_box(answer, box):
    assert read_box(answer) == Reading((Detection(box),))


@pytest.mark.parametrize(
    "answer", ["None", "none", "NONE", "null", '"None"', "[]", "[ ]", "```json\n[]\n```", "```json\nNone\n```"]
)
def test_nothing(answer):
    assert read_box(answer) == Reading(()) == read_detections(answer)


LOOSELY_READ = [
    "the cat is at [1, 2, 30, 40]",
    "[1, 2, 30, 40].",
    "[1, 2, 30, 40] [1, 2, 30, 40]",
    "```json\n[1, 2, 30, 40]",
    "```json\n[1, 2, 30, 40]\n``` ```json\n[1, 2, 30, 40]\n```",
    "(1, 2, 30, 40)",
    "None, it is not there",
    "{}",
    '{"box": [1, 2, 30, 40]}',
    '[{"bbox_2d": [1, 2, 30, 40]}, {"bbox_2d": [1, 2, 30, 40]}]',
]


@pytest.mark.parametrize(
    "answer, reason",
    [
        ("", "not_json"),
        ("the cat is at [1, 2, 30, 40]", "not_json"),
        ("[1, 2, 30, 40].", "not_json"),
        ("[1, 2, 30, 40", "not_json"),
        ("[1, 2, 30, 40] [1, 2, 30, 40]", "not_json"),
        ("```json\n[1, 2, 30, 40]", "not_json"),  # a fence that is cut off
        ("```json\n[1, 2, 30, 40]\n``` ```json\n[1, 2, 30, 40]\n```", "not_json"),
        ("(1, 2, 30, 40)", "not_json"),
        ("[1, 2, NaN, 40]", "not_json"),
        ("[1, 2, Infinity, 40]", "not_json"),
        ('{"bbox_2d": [1, 2, 30, 40], "bbox_2d": [5, 6, 70, 80]}', "not_json"),  # two boxes under one key
        ("None, it is not there", "not_json"),
        ("``", "not_json"),
        ("```", "not_json"),
        ("5", "not_a_box"),
        ("true", "not_a_box"),
        ('"a cat"', "not_a_box"),
        ("{}", "not_a_box"),
        ('{"box": [1, 2, 30, 40]}', "not_a_box"),
        ('{"bbox_2d": [1, 2, 30, 40], "bbox": [5, 6, 70, 80]}', "not_a_box"),
        ("[[1, 2, 30, 40], [5, 6, 70, 80]]", "several_boxes"),
        ('[{"bbox_2d": [1, 2, 30, 40]}, {"bbox_2d": [1, 2, 30, 40]}]', "several_boxes"),
        ("[1, 2, 30]", "bad_coordinates"),
        ("[1, 2, 30, 40, 5]", "bad_coordinates"),
        ("[1, 2, 30, 40, 5, 6, 70, 80]", "bad_coordinates"),
        ('["1", "2", "30", "40"]', "bad_coordinates"),
        ("[true, 2, 30, 40]", "bad_coordinates"),
        ("[null, 2, 30, 40]", "bad_coordinates"),
        ("[[]]", "bad_coordinates"),
        ("[null]", "bad_coordinates"),
        ('{"bbox_2d": []}', "bad_coordinates"),
        ('{"bbox_2d": null}', "bad_coordinates"),
        ("[1, 2, 1e999, 40]", "bad_coordinates"),
        ("[-1e999, 2, 30, 40]", "bad_coordinates"),
        ("[1, 2, 1000001, 40]", "bad_coordinates"),
        (f"[1, 2, {'9' * 5000}, 40]", "bad_coordinates"),  # int() of so many digits raises
        ("[30, 40, 1, 2]", "degenerate"),  # corners are not swapped
        ("[30, 2, 1, 40]", "degenerate"),
        ("[1, 2, 1, 40]", "degenerate"),
        ("[1, 2, 30, 2]", "degenerate"),
    ],
)
def test_rejected_boxes(answer, reason):
    assert read_box(answer, loose=False) == Reading((), reason)
    if answer not in LOOSELY_READ:
        assert read_box(answer) == Reading((), reason)


@pytest.mark.parametrize(
    "answer",
    [
        "the cat is at [1, 2, 30, 40]",
        "[1, 2, 30, 40].",
        "[1, 2, 30, 40] [1, 2, 30, 40]",
        "cat[[1, 2, 30, 40]]",
        "Box: (1, 2, 30, 40)",
        "(1,2),(30,40)",
        "The cat: bbox_2d = [1, 2, 30, 40]",
        "\u8fb9\u754c\u6846\u4e3a\uff1a[1, 2, 30, 40]\u3002",
        "<|begin_of_box|>[[1, 2, 30, 40]]<|end_of_box|>",
        "$\\boxed{[1, 2, 30, 40]}$",
        "**[1, 2, 30, 40]**",
        "```json\n[1, 2, 30, 40]",
        "```JSON\n[1, 2, 30, 40]\n```\nIt lies on the left.",
        "Here it is:\n```json\n[1, 2, 30, 40]\n```",
        "{'bbox_2d': [1, 2, 30, 40], 'label': 'cat', 'crowd': False}",
        '{"bbox_2d": [1, 2, 30, 40,],}',
        '{"box": [1, 2, 30, 40]}',
        '{"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}',
        '{"the cat": [1, 2, 30, 40]}',
        '{"bbox_2d": [1, 2, 30, 40], "bbox": [1, 2, 30, 40]}',
        '[{"bbox_2d": [1, 2, 30, 40]}, {"bbox_2d": [1, 2, 30, 40]}]',
    ],
)
def test_a_box_in_its_usual_spellings(answer):
    assert read_box(answer) == Reading((Detection(BOX),))
    assert read_box(answer, loose=False).rejection


@pytest.mark.parametrize(
    "answer",
    [
        "[1, 2, 30, 40] or [5, 6, 70, 80]",
        "[1, 2, 30, 40], perhaps 5 pixels off",
        "```json\n[1, 2, 30, 40]\n``` or [5, 6, 70, 80]",
        "the cat is at [1, 2, 30, 40",
        "{'bbox_2d': [1, 2, 30, 40], 'bbox': [5, 6, 70, 80]}",
        "{'cat': [1, 2, 30, 40], 'dog': [5, 6, 70, 80]}",
        "I have no idea",
        "No, it is at the left, but I cannot see it",
        "1, 2, 30, 40 and so on",
        "a cat",
    ],
)
def test_several_boxes_or_none_in_words(answer):
    assert read_box(answer).rejection and not read_box(answer).boxes


@pytest.mark.parametrize(
    "answer",
    ["None.", "**None**", "N/A", "{}", "\u65e0", "There is no cat.", "There are no such objects in the image.", "Nothing there"]
    + ["No objects were found", "None, it is not there"],
)
def test_nothing_in_its_usual_spellings(answer):
    assert read_box(answer) == Reading(()) == read_detections(answer)
    assert read_box(answer, loose=False).rejection


def test_largest_coordinate():
    assert read_box("[0, 0, 1000000, 1e6]").rejection is None


def test_detections():
    written = (
        '```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "Cat"}, {"label": "dog", "bbox": [0.5, -1, 3, 4], "score": 1}]\n```'
    )
    assert read_detections(written) == Reading((Detection(BOX, "Cat"), Detection((0.5, -1.0, 3.0, 4.0), "dog")))
    assert read_detections('{"bbox_2d": [1, 2, 30, 40], "label": "cat"}') == Reading((Detection(BOX, "cat"),))


def test_degenerate_detections_are_read():
    assert read_detections('[{"bbox_2d": [9, 9, 3, 3], "label": "cat"}]') == Reading((Detection((9.0, 9.0, 3.0, 3.0), "cat"),))


@pytest.mark.parametrize(
    "answer, reason",
    [
        ('[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}', "not_json"),
        ('Here: [{"bbox_2d": [1, 2, 30, 40], "label": "cat"}]', "not_json"),
        ('[{"bbox_2d": [1, 2, 30, 40]}]', "not_a_box"),
        ('[{"bbox_2d": [1, 2, 30, 40], "label": 5}]', "not_a_box"),
        ('[{"bbox_2d": [1, 2, 30, 40], "label": null}]', "not_a_box"),
        ('[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}, null]', "not_a_box"),
        ("[[1, 2, 30, 40]]", "not_a_box"),
        ("[1, 2, 30, 40]", "not_a_box"),
        ('[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}, {"bbox_2d": [1, 2, 30], "label": "cat"}]', "bad_coordinates"),
        ('[{"bbox_2d": "1, 2, 30, 40", "label": "cat"}]', "bad_coordinates"),
    ],
)
def test_rejected_detections(answer, reason):
    assert read_detections(answer, loose=False) == Reading((), reason)
    if not answer.startswith("Here"):
        assert read_detections(answer) == Reading((), reason)


@pytest.mark.parametrize(
    "answer",
    [
        'Here:\n```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}, {"bbox_2d": [5, 6, 7, 8], "label": "dog"}]\n```\nDone.',
        '{"bbox_2d": [1, 2, 30, 40], "label": "cat"}\n{"bbox_2d": [5, 6, 7, 8], "label": "dog"}',
        '```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}]\n```\n'
        '```json\n[{"bbox_2d": [5, 6, 7, 8], "label": "dog"}]\n```',
        '{"objects": [{"box": [1, 2, 30, 40], "name": "cat"}, {"bbox": [5, 6, 7, 8], "class": "dog"}]}',
        "[{'bbox_2d': [1, 2, 30, 40], 'label': 'cat'}, {'bbox_2d': [5, 6, 7, 8], 'label': 'dog'},]",
    ],
)
def test_detections_in_their_usual_spellings(answer):
    assert read_detections(answer) == Reading((Detection(BOX, "cat"), Detection((5.0, 6.0, 7.0, 8.0), "dog")))
    assert read_detections(answer, loose=False).rejection


def test_labels_without_case_and_white_space():
    assert same_label("  Traffic\n LIGHT ") == same_label("traffic light") == "traffic light"
    assert same_label("A traffic light") == same_label("the traffic light") == "traffic light"
    assert same_label("trafficlight") != same_label("traffic light") and same_label("a") != same_label("the")


def test_solutions():
    assert true_box("[1, 2, 30, 40]") == true_box("<answer> [1, 2, 30, 40] </answer>") == BOX
    assert true_box("<answer> None </answer>") is None and true_box("[]") is None
    written = '```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}]\n```'
    assert true_detections(written) == true_detections(f"<answer> {written} </answer>") == (Detection(BOX, "cat"),)
    assert true_detections("<answer> None </answer>") == () == true_detections("[]")


@pytest.mark.parametrize(
    "solution", ["", "cat", "[1, 2, 30]", "[30, 40, 1, 2]", "[[1, 2, 3, 4], [1, 2, 3, 4]]", None, [1, 2, 30, 40]]
)
def test_a_wrong_true_box_is_an_error(solution):
    with pytest.raises(ValueError, match="ground truth"):
        true_box(solution)


@pytest.mark.parametrize(
    "solution",
    ["", "cat", "[1, 2, 30, 40]", '[{"bbox_2d": [1, 2, 30, 40]}]', '[{"bbox_2d": [1, 2, 1, 40], "label": "cat"}]', 5],
)
def test_wrong_true_detections_are_an_error(solution):
    with pytest.raises(ValueError, match="ground truth"):
        true_detections(solution)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["bbox_2d", "bbox", "label", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.text(max_size=40) | JSON.map(json.dumps))
def test_any_answer_is_read_or_rejected(answer):
    for reading in (read_box(answer), read_detections(answer)):
        assert reading.rejection is None or (reading.rejection in REJECTIONS and reading.boxes == ())
        for found in reading.boxes:
            assert len(found.box) == 4 and all(abs(edge) <= 1e6 for edge in found.box)


@pytest.mark.parametrize(
    "answer",
    [
        "[" * 10**6,
        '{"bbox_2d":' * 90_000,
        "[" + "9" * 10**6,
        "[0." + "0" * 10**6 + "1]",
        "`" * 10**6,
        "[-" * 500_000,
        '"' * 10**6,
    ],
)
def test_long_answers_take_little_time(answer):
    start = time.process_time()
    assert read_box(answer).rejection and read_detections(answer).rejection
    assert time.process_time() - start < 1
