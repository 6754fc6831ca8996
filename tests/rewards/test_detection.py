import contextlib
import io
import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1reward.rewards import blocks, detection
from r1reward.rewards.detection import METRICS, REJECTIONS
from r1reward.rewards.score import SEMANTICS, Score

SQUARE = [0, 0, 100, 100]
FAR = [500, 500, 600, 600]
AFAR = [500, 0, 600, 100]


def item(box, label="cat"):
    return {"bbox_2d": box, "label": label}


def listed(*items) -> str:
    return json.dumps(list(items))


def said(*items) -> str:
    return f"<think>Look.</think>\n<answer>```json\n{listed(*items)}\n```</answer>"


def value(metric, text, solution, semantics="strict", to_pixels=None) -> float:
    (score,) = detection.score([text], [solution], metric, semantics, [to_pixels])
    return score.value


def test_a_perfect_answer_has_exactly_one():
    truth = [item(SQUARE), item(FAR), item(AFAR, "dog"), item([0.1, 0.2, 0.3, 0.7], "dog")]
    for metric in METRICS:
        for semantics in SEMANTICS:
            if (metric, semantics) != ("weighted_sum", "released"):  # which finds no overlap of less than a pixel
                assert value(metric, said(*truth), listed(*truth), semantics) == 1.0
                assert value(metric, said(*truth[::-1]), listed(*truth), semantics) == 1.0
    assert value("weighted_sum", said(*truth[:3]), listed(*truth[:3]), "released") == 1.0


def test_average_precision_by_hand():
    one, two = listed(item(SQUARE)), listed(item(SQUARE), item(FAR))
    # A false box before the right one: precision 1/2 at all recalls. After it: precision 1, and nothing lost.
    assert value("map", said(item(FAR), item(SQUARE)), one) == value("ap50", said(item(FAR), item(SQUARE)), one) == 0.5
    assert value("map", said(item(SQUARE), item(FAR)), one) == 1.0
    assert value("od_length", said(item(SQUARE), item(FAR)), one) == 0.5
    assert value("od_length", said(item(FAR), item(SQUARE)), one) == 0.25
    # One of two found: precision 1 at the 51 recalls 0.00 to 0.50 of 101, 0 beyond.
    assert value("map", said(item(SQUARE)), two) == value("od_length", said(item(SQUARE)), two) == pytest.approx(51 / 101)
    # IoU 0.82: right at the seven thresholds 0.50 to 0.80 of ten.
    assert value("map", said(item([0, 0, 100, 82])), one) == pytest.approx(0.7)
    assert value("ap50", said(item([0, 0, 100, 82])), one) == 1.0
    assert value("ap50", said(item([0, 0, 100, 49])), one) == 0.0
    # The same box twice: the second is false.
    assert value("map", said(item(SQUARE), item(SQUARE), item(FAR)), two) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert value("od_length", said(item(SQUARE), item(SQUARE), item(FAR)), two) == pytest.approx(
        (51 + 50 * 2 / 3) / 101 * 2 / 3
    )


def test_labels():
    truth = listed(item(SQUARE), item(FAR, "dog"))
    assert value("map", said(item(SQUARE)), truth) == value("od_length", said(item(SQUARE)), truth) == 0.5
    # A label that the truth lacks has AP 0 in `map`: 1 + 0 + 0 over three labels. In od_length it is a box too many.
    text = said(item(SQUARE), item(AFAR, "bird"), item(FAR, "bird"))
    for metric in ("map", "od_ap", "ap50"):
        assert value(metric, text, truth) == pytest.approx(1 / 3)
    assert value("od_length", text, truth) == pytest.approx(0.5 * 2 / 3)
    # Case and white space do not matter; the rest does.
    text = said(item(SQUARE, " Cat\n"), item(FAR, "DOG"))
    assert [value(metric, text, truth) for metric in METRICS] == [1.0] * 5
    shouted = listed(item(SQUARE, "CAT "), item(AFAR, "cat"))  # one label in the truth, too
    assert [value(metric, said(item(SQUARE), item(AFAR)), shouted) for metric in METRICS] == [1.0] * 5
    assert [value(metric, said(item(SQUARE, "cats")), listed(item(SQUARE))) for metric in METRICS] == [0.0] * 5


def test_degenerate_boxes_are_false_boxes():
    truth = listed(item(SQUARE))
    for box in ([5, 5, 5, 5], [9, 9, 3, 3], [3, 9, 9, 3], [9, 3, 3, 9]):
        assert value("map", said(item(box), item(SQUARE)), truth) == 0.5
        assert value("od_length", said(item(SQUARE), item(box)), truth) == 0.5
        assert value("weighted_sum", said(item(SQUARE), item(box)), truth) == pytest.approx((0.7 + 0.3 * 0.75) / 2)


def test_weighted_sum_by_hand():
    truth = listed(item(SQUARE), item(FAR, "dog"))
    assert value("weighted_sum", said(item([0, 0, 100, 82])), truth) == pytest.approx(0.7 * 0.41 + 0.3 * (0.5 + 1) / 2)
    # One right, one false: recall and precision 1/2.
    assert value("weighted_sum", said(item(SQUARE), item(AFAR)), truth) == pytest.approx(0.7 * 0.5 + 0.3 * 0.5)
    # Three false boxes more: precision 1/4 and four boxes for two.
    many = said(item(SQUARE), item(AFAR), item(AFAR, "dog"), item(AFAR, "bird"))
    assert value("weighted_sum", many, truth) == pytest.approx((0.7 * 0.5 + 0.3 * (0.5 + 0.25) / 2) / 2)
    assert value("weighted_sum", said(item([0, 0, 100, 49])), truth) == 0.0  # IoU 0.49 is no pair
    assert value("weighted_sum", said(item([0, 0, 100, 50])), truth) == pytest.approx(0.7 * 0.25 + 0.3 * (0.5 + 1) / 2)


def test_weighted_sum_matches_for_the_largest_total():
    # Greedily, the first takes the pair of 0.9 and leaves one of 0.4, which is none. Together: 2/3 + 0.8.
    truth = listed(item([0, 0, 100, 100]), item([0, 0, 100, 60]))
    text = said(item([0, 0, 100, 90]), item([0, 20, 100, 100]))
    assert value("weighted_sum", text, truth) == pytest.approx(0.7 * (2 / 3 + 0.8) / 2 + 0.3)
    assert value("weighted_sum", text, truth, "released") == pytest.approx(0.7 * 0.9 / 2 + 0.3 * (0.5 + 0.5) / 2)


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_to_be_found(metric):
    for nothing in ("None", "[]", "<answer> None </answer>"):
        for text in ("<answer>None</answer>", "<answer>[]</answer>", said()):
            assert detection.score([text], [nothing], metric) == [Score(1.0)]
        assert detection.score([said(item(SQUARE))], [nothing], metric) == [Score(0.0)]
        assert detection.score(["<answer>a cat</answer>"], [nothing], metric) == [Score(0.0, "not_json")]
        assert detection.score([""], [nothing], metric) == [Score(0.0, "empty")]
    assert detection.score(["<answer>None</answer>"], [listed(item(SQUARE))], metric) == [Score(0.0)]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "text, reason",
    [
        (listed(item(SQUARE)), "no_answer"),
        (said(item(SQUARE)) + said(item(SQUARE)), "several_answer"),
        (said(item(SQUARE))[:-9], "open_answer"),
        (f"<answer>```json\n{listed(item(SQUARE))[:-1]}</answer>", "not_json"),
        (said({"bbox_2d": SQUARE}), "not_a_box"),
        (said(item(SQUARE), item([1, 2, 3])), "bad_coordinates"),
    ],
)
def test_what_is_not_read_earns_nothing(metric, text, reason):
    for solution in (listed(item(SQUARE)), "None"):
        assert detection.score([text], [solution], metric) == [Score(0.0, reason)]
    assert reason in REJECTIONS + blocks.REJECTIONS


@pytest.mark.parametrize("metric", METRICS)
def test_boxes_are_mapped_row_by_row(metric):
    truth = listed(item([20, 40, 220, 240]))
    texts = [said(item([10, 20, 110, 120])), said(item([20, 40, 220, 240])), said(item([1, 2, 3, 4]))]
    maps = [lambda box: tuple(2 * edge for edge in box), None, lambda box: (5.0, 5.0, 5.0, 5.0)]
    scores = detection.score(texts, [truth] * 3, metric, to_pixels=maps)
    assert [score.value for score in scores] == [1.0, 1.0, 0.0]
    assert [score.value for score in detection.score(texts, [truth] * 3, metric)] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "mapped", [(math.nan,) * 4, (0.0, 0.0, math.inf, math.inf), (100.0, 0.0, 0.0, 100.0), (100.0, 100.0, 0.0, 0.0)]
)
def test_a_box_that_is_mapped_to_nonsense_is_a_false_box(mapped):
    truth = listed(item(SQUARE))
    for metric in METRICS:
        assert value(metric, said(item([1, 2, 3, 4])), truth, to_pixels=lambda box: mapped) == 0.0
    maps = iter([mapped, (0.0, 0.0, 100.0, 100.0)])
    assert value("map", said(item([1, 2, 3, 4]), item([1, 2, 3, 4])), truth, to_pixels=lambda box: next(maps)) == 0.5


def test_many_boxes_of_one_label():
    boxes = [[10 * i, 0, 10 * i + 9, 9] for i in range(120)]
    truth, few = listed(*map(item, boxes)), listed(item(SQUARE))
    assert value("od_length", said(*map(item, boxes)), truth) == 1.0  # more than COCO's 100 enter where the truth has more
    assert value("od_ap", said(*map(item, boxes)), truth, "released") == pytest.approx(84 / 101)  # recalls 0.00 to 0.83
    false = [item([1000 + i, 500, 1100 + i, 600]) for i in range(100)]
    assert value("map", said(*false[:99], item(SQUARE)), few) == pytest.approx(0.01)
    assert value("map", said(*false, item(SQUARE)), few) == 0.0  # the 101st does not enter
    assert value("weighted_sum", said(*false, item(SQUARE)), few) == 0.0
    assert value("od_length", said(item(SQUARE), *false), few) == pytest.approx(1 / 101)  # all are counted
    assert value("map", said(*false, item(SQUARE, "dog")), listed(item(SQUARE), item(SQUARE, "dog"))) == 0.5  # per label


@pytest.mark.parametrize("solution", ["", "a cat", "[1, 2, 3, 4]", listed({"bbox_2d": SQUARE}), listed(item([5, 5, 5, 9]))])
def test_a_wrong_solution_is_an_error(solution):
    for metric in METRICS:
        for semantics in SEMANTICS:
            with pytest.raises(ValueError, match="expected"):
                detection.score([""], [solution], metric, semantics)


def test_wrong_arguments_are_errors():
    with pytest.raises(ValueError, match="metric"):
        detection.score([""], ["None"], "mAP")
    with pytest.raises(ValueError, match="semantics"):
        detection.score([""], ["None"], "map", "lenient")
    for texts, solutions, maps in ((["", ""], ["None"], None), ([""], ["None"], [None, None])):
        with pytest.raises(ValueError):
            detection.score(texts, solutions, to_pixels=maps)


def perturbed(truth: list[dict], labels: list[str], rng: random.Random) -> list[dict]:
    """A prediction near the truth: boxes moved, left out, repeated, with other labels, in another order."""
    found = []
    for one in truth:
        size = max(one["bbox_2d"][2] - one["bbox_2d"][0], 10)
        noise = rng.choice([0, 0.02, 0.1, 0.3]) * size
        box = [round(edge + rng.uniform(-noise, noise), 1) for edge in one["bbox_2d"]]
        if box[0] >= box[2] or box[1] >= box[3] or rng.random() < 0.15:
            continue
        label = rng.choice(labels) if rng.random() < 0.15 else "unicorn" if rng.random() < 0.1 else one["label"]
        found += [item(box, label)] * (2 if rng.random() < 0.1 else 1)
    rng.shuffle(found)
    return found


def independent(truth: list[dict], found: list[dict], labels: list[str]) -> float:
    """COCO mAP of one row over the labels, by pycocotools; a label without true boxes has AP 0."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def corners_to_size(one):
        x1, y1, x2, y2 = one["bbox_2d"]
        return {"image_id": 7, "category_id": labels.index(one["label"]) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        annotations = [corners_to_size(one) | {"id": i + 1, "iscrowd": 0, "area": 1.0} for i, one in enumerate(truth)]
        categories = [{"id": i + 1, "name": label} for i, label in enumerate(labels)]
        coco.dataset = {"images": [{"id": 7}], "categories": categories, "annotations": annotations}
        coco.createIndex()
        results = [corners_to_size(one) | {"score": 1.0} for one in found if one["label"] in labels]
        if not results:
            return 0.0
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # thresholds, recalls, labels; all areas, at most 100
    return float(np.where(precision < 0, 0.0, precision).mean())


def published(shared_data) -> tuple[list[str], list[list[dict]]]:
    """The solutions of COCO128's detection rows, and their boxes."""
    rows = [json.loads(line) for line in (shared_data / "coco128" / "ovd.jsonl").read_text().splitlines()]
    solutions = [row["conversations"][1]["value"] for row in rows]
    return solutions, [[] if written == "None" else json.loads(written.split("```")[1][4:]) for written in solutions]


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_an_independent_evaluation_row_by_row(shared_data, seed):
    rng = random.Random(seed)
    solutions, truths = published(shared_data)
    founds = [perturbed(truth, [one["label"] for one in truth], rng) for truth in truths]
    texts = [said(*found) for found in founds]
    mean_precision, od_length = (detection.score(texts, solutions, metric) for metric in ("map", "od_length"))
    with_boxes = 0
    for truth, found, as_map, as_length in zip(truths, founds, mean_precision, od_length, strict=True):
        if not truth or not found:
            assert as_map == as_length == Score(float(not truth and not found))
            continue
        with_boxes += 1
        true_labels = sorted({one["label"] for one in truth})
        labels = sorted({one["label"] for one in truth + found})
        assert as_map.value == pytest.approx(independent(truth, found, labels), abs=1e-6)
        expected = independent(truth, found, true_labels) * min(1, len(truth) / len(found))
        assert as_length.value == pytest.approx(expected, abs=1e-6)
    assert with_boxes > 100
    assert 0.2 < np.mean([score.value for score in od_length]) < 0.8  # neither all right nor all wrong


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_row_has_the_same_score_in_any_batch(shared_data, metric, semantics):
    rng = random.Random(5)
    solutions, truths = (part[:40] for part in published(shared_data))
    texts = [said(*perturbed(truth, ["cat", "person"], rng)) for truth in truths] + ["", said(*[item(FAR)] * 300), "none"]
    solutions += ["None", listed(*[item([i, i, i + 50, i + 50]) for i in range(150)]), listed(item(SQUARE))]
    together = detection.score(texts, solutions, metric, semantics)
    alone = [detection.score([text], [truth], metric, semantics)[0] for text, truth in zip(texts, solutions, strict=True)]
    assert together == alone
    assert detection.score(texts[::-1], solutions[::-1], metric, semantics) == alone[::-1]
    assert detection.score([], [], metric, semantics) == []


def test_nothing_is_printed(capfd, caplog):
    with caplog.at_level("INFO"):
        assert value("map", said(item(SQUARE)), listed(item(SQUARE))) == 1.0
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_released_texts():
    truth, fence = listed(item(SQUARE)), f"```json\n{listed(item(SQUARE))}\n```"
    assert value("map", f"{fence} and so on", truth, "released") == 1.0  # no block needed
    assert value("map", f"```json\n[]\n``` {fence}", truth, "released") == 1.0  # the last fence
    assert value("map", f"{fence} ```json\n[]\n```", truth, "released") == 0.0
    assert detection.score([fence], [truth], "od_ap", "released") == [Score(0.0, "no_answer_block")]
    assert value("od_ap", f"<answer>x</answer> <answer>{fence}</answer>", truth, "released") == 1.0  # the last block
    assert value("ap50", said(item([0, 0, 100, 82])), truth, "released") == 1.0
    assert value("od_ap", said(item([0, 0, 100, 82])), truth, "released") == pytest.approx(0.7)
    assert value("od_length", said(item(SQUARE), item(FAR, "bird"), 5), truth, "released") == pytest.approx(1 / 3)
    assert detection.score([said(item(SQUARE))[:-20]], [truth], "map", "released") == [Score(0.0, "unreadable")]
    assert value("od_ap", said(item(SQUARE, "Cat")), truth, "released") == 0.0  # labels as they are
    assert value("weighted_sum", f"<answer>{fence} ```json []```</answer>", truth, "released") == 1.0  # the first fence
    assert value("weighted_sum", fence.upper(), listed(item(SQUARE, "CAT")), "released") == 1.0  # all lower case, without block
    for text in ("None.", "<answer> NONE </answer>", "<answer>a cat</answer> <answer>none</answer>"):
        assert value("weighted_sum", text, "None", "released") == 1.0
    for text in ("", said(), "nothing"):
        assert value("weighted_sum", text, "None", "released") == 0.0


def test_released_ignores_boxes_that_are_none():
    truth = listed(item(SQUARE))
    junk = ["1", None, [1, 2], {"a": 1}, ["1", 2, 3, 4], [10**400, 2, 3, 4], [1, 2, None, 4]]
    assert value("od_ap", said(*map(item, junk), item(SQUARE)), truth, "released") == 1.0
    assert value("weighted_sum", said(*map(item, junk), item(SQUARE)), truth, "released") == pytest.approx(
        0.7 + 0.3 * (1 + 1 / 8) / 2
    )
    assert value("od_ap", said(item([0, 0, 100, 100, 7])), truth, "released") == 1.0
    assert value("od_ap", said(item([200, 200, 200, 300]), item(SQUARE)), truth, "released") == 0.5  # no area: counted
    assert value("od_ap", '<answer>```json {"cat": 5}```</answer>', truth, "released") == 0.0


COORDINATES = st.sampled_from([0, 1, 50, 100, -3, 0.5, 99.5, 1e6, 1e300, True, None, "1"])
ITEM = st.fixed_dictionaries(
    {"bbox_2d": st.lists(COORDINATES, min_size=3, max_size=5) | st.just(SQUARE)},
    optional={"label": st.sampled_from(["cat", "Cat", "dog", "bird", 5])},
)


@pytest.mark.parametrize("semantics", SEMANTICS)
@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.lists(ITEM, max_size=4).map(lambda items: said(*items)) | st.text(max_size=20), min_size=1, max_size=4)
)
def test_every_text_has_a_value_in_range(semantics, texts):
    for solution in (listed(item(SQUARE), item(FAR, "dog")), listed(item([0, 0, 1e-200, 1e-200])), "None"):
        for metric in METRICS:
            for score in detection.score(texts, [solution] * len(texts), metric, semantics):
                assert 0 <= score.value <= 1 and type(score.value) is float
                assert score.rejection is None or score.rejection in REJECTIONS + blocks.REJECTIONS


RANDOM = random.Random(0)
SPAM = [item([x, 5, x + 30, 40], RANDOM.choice(["cat", "dog", f"l{x}"])) for x in range(25_000)]


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize(
    "text",
    [
        said(*SPAM),
        said(*[item([0, 0, 50, 49])] * 25_000),
        "<answer>" + "[" * 10**6 + "</answer>",
        "<answer>```json" + "[{" * 400_000 + "```</answer>",
        "```json" * 140_000,
        "<answer>```json[]```" * 50_000,
        "<answer>" * 125_000,
    ],
    ids=["boxes", "one box", "brackets", "objects", "fences", "empty lists", "tags"],
)
@pytest.mark.timeout(120)  # a second or so each; with a quadratic search hours
def test_long_texts_take_little_time(text, semantics):
    solution = listed(*[item([i, i, i + 50, i + 50], label) for i in range(20) for label in ("cat", "dog")])
    for metric in METRICS:
        assert 0 <= value(metric, text, solution, semantics) < 0.5
