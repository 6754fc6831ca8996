import contextlib
import io
import json
import random
import time

import numpy as np
import pytest

from r1reward.benchmarks import detection
from r1reward.benchmarks.detection import RANKINGS, READINGS, Detected, _Ranked, average_precisions, score, summarise
from r1reward.data.rows import ImageSource, TaskRow
from r1reward.data.vlm_r1_jsonl import read
from r1reward.models.coordinates import coordinates_of

SQUARE = [0, 0, 100, 100]
FAR = [500, 500, 600, 600]
AFAR = [500, 0, 600, 100]


def item(box, label="cat"):
    return {"bbox_2d": list(box), "label": label}


def listed(*items) -> str:
    return json.dumps(list(items)) if items else "None"


def said(*items) -> str:
    return f"<think>Look.</think>\n<answer>```json\n{listed(*items)}\n```</answer>"


def row(*items, id="a", image=None):
    return TaskRow(id, (ImageSource(path=image or f"{id}.jpg"),), "Detect.", listed(*items), "ovd")


def numbered(*solutions) -> list[TaskRow]:
    return [row(*items, id=str(number)) for number, items in enumerate(solutions)]


def means(rows, texts, *names, **settings) -> tuple:
    summary = summarise(rows, texts, resamples=20, map_resamples=5, **settings)
    return tuple(
        summary[name] and summary[name]["mean"] for name in names or ("map", "ap50", "precision", "recall", "count_ratio")
    )


def test_a_perfect_predictor_and_an_empty_one():
    solutions = [[item(SQUARE), item(FAR, "dog")], [item(SQUARE), item(AFAR)], [], [item([0.1, 0.2, 0.3, 0.7], "dog")]]
    rows, asked = numbered(*solutions), [("cat", "dog", "bird")] * 4
    perfect = summarise(rows, [said(*items) for items in solutions], asked=asked)
    for name in ("map", "ap50", "precision", "recall", "count_ratio"):
        assert perfect[name]["mean"] == perfect[name]["high"] == 1.0
    assert perfect["unreadable_rate"]["mean"] == perfect["unasked_rate"]["mean"] == 0.0
    assert perfect["nothing_to_find"]["accuracy"]["mean"] == 1.0
    of_cats, of_dogs = ({"true_boxes": count, "ap": 1.0, "ap50": 1.0} for count in (3, 2))
    assert perfect["by_label"] == {"cat": of_cats, "dog": of_dogs}
    assert (perfect["n"], perfect["true_boxes"], perfect["predicted_boxes"]) == (4, 5, 5)
    empty = summarise(rows, [said()] * 4, asked=asked)
    for name in ("map", "ap50", "precision", "recall", "count_ratio", "unreadable_rate"):
        assert empty[name]["mean"] == 0.0
    assert empty["nothing_to_find"]["accuracy"]["mean"] == 1.0 and empty["unasked_rate"] is None
    for summary in (perfect, empty):
        assert summary["nothing_to_find"]["n"] == 1 and summary["nothing_to_find"]["false_positive_rate"]["mean"] == 0.0
        # cat, dog and bird of the third row; bird of the first; dog and bird of the second; cat and bird of the last
        assert summary["absent_labels"]["n"] == 8 and summary["absent_labels"]["false_positive_rate"]["mean"] == 0.0


def test_the_ranking_by_hand():
    rows = numbered([item(SQUARE)], [item(SQUARE)])
    texts = [said(item(SQUARE), item(FAR)), said(item(SQUARE))]
    # order: both first boxes, then the false one. equal: right, false, right: precision 1 up to recall 1/2, then 2/3.
    assert means(rows, texts, "map", "ap50") == (1.0, 1.0)
    expected = (51 + 50 * 2 / 3) / 101
    assert means(rows, texts, "map", "ap50", ranking="equal") == pytest.approx((expected, expected))
    # False first, then right in one row, right in the other: 0/1, 1/2, 2/3 by either ranking.
    texts = [said(item(FAR), item(SQUARE)), said(item(SQUARE))]
    for ranking in RANKINGS:
        assert means(rows, texts, "map", ranking=ranking) == pytest.approx((2 / 3,))
    # Boxes of one rank count in the order of the rows.
    rows, texts = numbered([item(SQUARE)], [item(AFAR, "dog")]), [said(item(SQUARE)), said(item(FAR), item(AFAR, "dog"))]
    assert means(rows, texts, "map") == (1.0,)
    assert means(rows[::-1], texts[::-1], "map") == (0.75,)


def test_the_rank_is_that_within_the_label():
    rows = numbered([item(SQUARE), item(FAR, "dog")], [item(AFAR, "dog")])
    # The dog of the first row comes after two cats, but is its first dog, and so before the second dog of the other row.
    texts = [said(item(SQUARE), item(SQUARE), item(FAR, "dog")), said(item(AFAR, "dog"), item(SQUARE, "dog"))]
    assert average_precisions(score(rows, texts))["dog"].tolist() == [1.0] * 10


def test_thresholds_and_labels_by_hand():
    one = numbered([item(SQUARE)])
    assert means(one, [said(item([0, 0, 100, 82]))], "map", "ap50") == pytest.approx((0.7, 1.0))  # 0.50 to 0.80 of ten
    assert means(one, [said(item([0, 0, 100, 50]))]) == pytest.approx((0.1, 1.0, 1.0, 1.0, 1.0))
    assert means(one, [said(item([0, 0, 100, 49]))]) == (0.0, 0.0, 0.0, 0.0, 1.0)
    assert means(one, [said(item(SQUARE, " CAT\n"))])[0] == 1.0
    assert means(one, [said(item(SQUARE, "cats"))]) == (0.0, 0.0, 0.0, 0.0, 1.0)
    # A label that no row has costs no average precision, but half the precision; one that another row has costs both.
    two = numbered([item(SQUARE)], [item(SQUARE, "dog")])
    texts = [said(item(SQUARE), item(FAR, "unicorn")), said(item(SQUARE, "dog"), item(FAR, "unicorn"))]
    assert means(two, texts) == (1.0, 1.0, 0.5, 1.0, 2.0)
    texts = [said(item(SQUARE), item(FAR, "dog")), said(item(SQUARE, "dog"))]
    assert means(two, texts) == pytest.approx((0.75, 0.75, 2 / 3, 1.0, 1.5))


def test_pairs_are_taken_greedily():
    # The first box overlaps both: 0.9 with the large one, 2/3 with the small one. The second has 0.8 with the large, 0.4 with
    # the small one. Greedily the first takes the large one, and nothing is left for the second.
    truth = [item([0, 0, 100, 100]), item([0, 0, 100, 60])]
    text = said(item([0, 0, 100, 90]), item([0, 20, 100, 100]))
    assert means([row(*truth)], [text], "precision", "recall") == (0.5, 0.5)
    # Each true box is found once, and by its label.
    assert means([row(item(SQUARE))], [said(item(SQUARE), item(SQUARE))], "precision", "recall") == (0.5, 1.0)
    swapped = said(item(SQUARE, "dog"), item(FAR))
    assert means([row(item(SQUARE), item(FAR, "dog"))], [swapped], "precision", "recall") == (0.0, 0.0)
    # Rates are over boxes, not rows.
    rows = numbered([item(SQUARE)], [item(SQUARE)] * 9)
    assert means(rows, [said(item(SQUARE)), said(*[item(FAR)] * 3)], "precision", "recall", "count_ratio") == (0.25, 0.1, 0.4)


def test_degenerate_and_giant_boxes_are_false():
    # The last but one has the true box's area, negative: a union of nothing.
    for box in ([5, 5, 5, 5], [9, 9, 3, 3], [3, 9, 9, 3], [100, 0, 0, 100], [-9e5, -9e5, 9e5, 9e5]):
        for ranking in RANKINGS:
            found = means([row(item(SQUARE))], [said(item(box), item(SQUARE))], ranking=ranking)
            assert found == (0.5, 0.5, 0.5, 1.0, 2.0)


def test_a_hundred_boxes_of_a_label_enter_the_average_precision():
    guesses = [item([i, 200, i + 50, 250]) for i in range(detection.MAX_DETECTIONS)]
    for ranking in RANKINGS:
        late = means([row(item(SQUARE))], [said(*guesses, item(SQUARE))], ranking=ranking)
        assert late == pytest.approx((0.0, 0.0, 1 / 101, 1.0, 101.0))
        last = means([row(item(SQUARE))], [said(*guesses[1:], item(SQUARE))], "map", "precision", ranking=ranking)
        assert last == pytest.approx((0.01, 0.01))


def test_unreadable_texts_and_rows_with_nothing():
    rows = numbered([item(SQUARE)], [item(SQUARE)], [], [], [], [])
    texts = [said(item(SQUARE)), said(item(SQUARE))[:-20], said(), "<answer>None</answer>", "nothing", said(item(FAR))]
    summary = summarise(rows, texts)
    assert summary["rejections"] == {"no_answer": 1, "open_answer": 1}
    assert summary["unreadable_rate"]["mean"] == pytest.approx(2 / 6)
    assert summary["nothing_to_find"]["n"] == 4
    assert summary["nothing_to_find"]["accuracy"]["mean"] == 0.5
    assert summary["nothing_to_find"]["false_positive_rate"]["mean"] == 0.25
    # The unreadable row's box is missed. The box in the empty row is false for cats, and ranks after the right one.
    assert summary["recall"]["mean"] == summary["precision"]["mean"] == 0.5
    assert summary["map"]["mean"] == pytest.approx(51 / 101)
    nothing = summarise(rows[2:], texts[2:5] + [said()])
    assert [nothing[name] for name in ("map", "ap50", "precision", "recall", "count_ratio")] == [None] * 5
    assert nothing["by_label"] == {} and nothing["n"] == 4
    garbage = summarise(rows, ["oops"] * 6)
    assert garbage["unreadable_rate"]["mean"] == 1.0 and garbage["nothing_to_find"]["accuracy"]["mean"] == 0.0
    assert garbage["precision"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_absent_and_unasked_labels():
    rows = numbered([item(SQUARE, "Cat")], [], [item(SQUARE, "dog")])
    asked = [("cat ", "dog", "bird"), ("cat",), ("dog", "bird")]
    texts = [said(item(SQUARE), item(FAR, "BIRD"), item(AFAR, "bird")), said(item(FAR)), said(item(SQUARE, "cow"))]
    summary = summarise(rows, texts, asked=asked)
    # absent: dog, bird | cat | bird. Claimed: bird and cat.
    assert summary["absent_labels"]["n"] == 4 and summary["absent_labels"]["false_positive_rate"]["mean"] == 0.5
    assert summary["unasked_rate"]["mean"] == 0.2  # the cow of five boxes
    without = summarise(rows, texts)
    assert without["absent_labels"] == {"n": 0, "false_positive_rate": None} and without["unasked_rate"] is None
    with pytest.raises(ValueError):
        summarise(rows, texts, asked=asked[:2])


def test_asked_labels_of_prompts():
    assert detection.asked_labels("Detect every instance of: cat, traffic light.") == ("cat", "traffic light")
    assert detection.asked_labels("Look.\nDetect every instance of: cat ,dog\nAnswer so: [1, 2]. Box of: x.") == ("cat", "dog")
    assert detection.asked_labels("Where is the cat?") == ()


def test_the_last_fence():
    fence = f"```json\n{listed(item(SQUARE))}\n```"
    for text in (
        f"Here: {fence} and so on",
        f"```json\n[]\n``` {fence}",
        said(item(SQUARE)),
        listed(item(SQUARE)),
        fence.replace("json", ""),
    ):
        assert means([row(item(SQUARE))], [text], "precision", reading="last_fence") == (1.0,)
    assert summarise([row(item(SQUARE))], [f"Here: {fence}"])["rejections"] == {"no_answer": 1}
    for text, fault in (
        (f"{fence} ```json\n[1, 2]\n```", "not_a_box"),
        ("a cat", "not_json"),
        (f"{fence} ```json [", "not_json"),
    ):
        assert summarise([row(item(SQUARE))], [text], reading="last_fence")["rejections"] == {fault: 1}


def test_predictions_are_brought_to_pixels():
    rows = numbered([item([64, 48, 640, 480])], [item([10, 10, 100, 200])])
    texts = [said(item([100, 100, 1000, 1000])), said(item([100, 50, 1000, 1000]))]
    thousand = coordinates_of("qwen3_vl", None, "thousand")
    sizes = [(640, 480), (100, 200)]
    transforms = [lambda box, size=size: thousand.to_pixels(box, size) for size in sizes]
    assert means(rows, texts, to_pixels=transforms) == (1.0,) * 5
    assert means(rows, texts)[0] < 0.3


def perturbed(truth: list[dict], labels: list[str], rng: random.Random) -> list[dict]:
    """A prediction near the truth: boxes moved, left out, repeated, invented, with other labels, in another order."""
    found = []
    for one in truth:
        x1, y1, x2, y2 = one["bbox_2d"]
        noise = rng.choice([0, 0.02, 0.1, 0.3]) * max(x2 - x1, 10)
        box = [round(edge + rng.uniform(-noise, noise), 1) for edge in one["bbox_2d"]]
        if box[0] < box[2] and box[1] < box[3] and rng.random() > 0.15:
            label = rng.choice(labels) if rng.random() < 0.15 else one["label"]
            found += [item(box, label)] * (2 if rng.random() < 0.1 else 1)
    for _ in range(rng.randint(0, 3)):
        x, y = rng.randint(0, 400), rng.randint(0, 300)
        found.append(item([x, y, x + rng.randint(20, 200), y + rng.randint(20, 200)], rng.choice([*labels, "unicorn"])))
    rng.shuffle(found)
    return found


def real(shared_data, seed):
    """COCO128's detection rows, their boxes, predictions, and texts; some of the texts are cut off."""
    rng = random.Random(seed)
    rows = read(shared_data / "coco128" / "ovd.jsonl", "ovd", check_images=False)
    truths = [[] if each.solution == "None" else json.loads(each.solution.split("```")[1][4:]) for each in rows]
    labels = sorted({one["label"] for truth in truths for one in truth})
    founds = [perturbed(truth, [one["label"] for one in truth] or labels, rng) for truth in truths]
    texts = [said(*found) for found in founds]
    for cut in rng.sample(range(len(rows)), 5):
        texts[cut], founds[cut] = texts[cut][:-12], []
    return rows, truths, founds, texts


def by_pycocotools(truths, founds, ranking) -> tuple[float, float, dict[str, float]]:
    """mAP, AP50 and the average precision of each label, from COCO's own code and plain lists."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = sorted({one["label"] for truth in truths for one in truth})
    annotations, results = [], []
    for image, (truth, found) in enumerate(zip(truths, founds, strict=True), start=1):
        for one in truth:
            x1, y1, x2, y2 = one["bbox_2d"]
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            annotations.append(box | {"id": len(annotations) + 1, "image_id": image, "category_id": labels.index(one["label"])})
        seen = {}
        for one in found:
            x1, y1, x2, y2 = one["bbox_2d"]
            seen[one["label"]] = rank = seen.get(one["label"], 0) + 1
            if one["label"] in labels:
                confidence = 1 / rank if ranking == "order" else 1.0
                box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": confidence}
                results.append(box | {"image_id": image, "category_id": labels.index(one["label"])})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in range(1, len(truths) + 1)],
            "categories": [{"id": number} for number in range(len(labels))],
            "annotations": annotations,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # thresholds, recalls, labels; all areas, at most 100
    return precision.mean(), precision[0].mean(), dict(zip(labels, precision.mean((0, 1)), strict=True))


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("seed", range(3))
def test_average_precision_agrees_with_pycocotools(shared_data, seed, ranking):
    rows, truths, founds, texts = real(shared_data, seed)
    summary = summarise(rows, texts, ranking=ranking, resamples=20, map_resamples=5)
    mean_precision, at_50, by_label = by_pycocotools(truths, founds, ranking)
    assert summary["map"]["mean"] == pytest.approx(mean_precision, abs=1e-6)
    assert summary["ap50"]["mean"] == pytest.approx(at_50, abs=1e-6)
    assert {label: one["ap"] for label, one in summary["by_label"].items()} == pytest.approx(by_label, abs=1e-6)
    assert len(by_label) == 71 and 0.2 < mean_precision < at_50 < 0.8  # neither all right nor all wrong
    assert summary["rejections"] == {"open_answer": 5} and summary["n"] == 128


def iou(one, other) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared)


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_agree_with_a_loop(shared_data, seed):
    rows, truths, founds, texts = real(shared_data, seed)
    matched = 0
    for truth, found in zip(truths, founds, strict=True):
        pairs = [
            (iou(one["bbox_2d"], other["bbox_2d"]), -i, -j)
            for i, one in enumerate(found)
            for j, other in enumerate(truth)
            if one["label"] == other["label"]
        ]
        used, taken = set(), set()
        for overlap, i, j in sorted(pairs, reverse=True):
            if overlap >= 0.5 and i not in used and j not in taken:
                used.add(i)
                taken.add(j)
        matched += len(used)
    num_true, num_found = (sum(map(len, part)) for part in (truths, founds))
    found = means(rows, texts, "precision", "recall", "count_ratio")
    assert found == pytest.approx((matched / num_found, matched / num_true, num_found / num_true))
    assert 0.2 < matched / num_found < 0.9


@pytest.mark.parametrize("ranking", RANKINGS)
def test_a_weighted_accumulation_is_that_of_repeated_rows(shared_data, ranking):
    rows, _, _, texts = real(shared_data, 0)
    detected = score(rows, texts)
    times = np.random.default_rng(0).multinomial(len(rows), np.ones(len(rows)) / len(rows))
    for weights in (np.ones(len(rows), dtype=int), times):
        repeated = [one for one, count in zip(detected, weights, strict=True) for _ in range(count)]
        expected = average_precisions(repeated, ranking)
        ours = {label: _Ranked.of(label, detected, ranking).average_precision(weights) for label in expected}
        if ranking == "order" or weights.max() == 1:  # else copies of a row mix their boxes in the tie of all
            for label in expected:
                assert ours[label] == pytest.approx(expected[label], abs=1e-9)
        absent = sorted({label for one in detected for label in one.truth} - expected.keys())
        assert [_Ranked.of(label, detected, ranking).average_precision(weights) for label in absent] == [None] * len(absent)


def test_a_threshold_that_is_met_exactly_is_reached():
    for height in range(50, 100, 5):
        detected = score([row(item(SQUARE))], [said(item([0, 0, 100, height]))])
        expected = average_precisions(detected)["cat"]
        assert _Ranked.of("cat", detected, "order").average_precision(np.ones(1, dtype=int)).tolist() == expected.tolist()
        assert expected.sum() >= (height - 45) // 5 - 1  # 0.6 and its like are a little more than 60 / 100


def test_intervals(shared_data):
    rows, _, _, texts = real(shared_data, 1)
    summary = summarise(rows, texts)
    for name in ("map", "ap50", "precision", "recall", "count_ratio", "unreadable_rate"):
        interval = summary[name]
        assert interval["low"] < interval["mean"] < interval["high"] < interval["low"] + 0.35
        off_centre = (interval["low"] + interval["high"]) / 2 - interval["mean"]
        assert abs(off_centre) < 0.15 * (interval["high"] - interval["low"])
    assert summary == summarise(rows, texts)  # the same values, the same intervals
    # Two rows of one image that fare alike say no more than one.
    pairs = numbered(*[[item(SQUARE)]] * 20)
    texts = [said(item(SQUARE if number % 3 else FAR)) for number in range(20)]
    doubled = [row(item(SQUARE), id=f"{number}-{k}", image=f"{number}.jpg") for number in range(20) for k in range(2)]
    for name in ("precision", "recall", "map"):
        alone = summarise(pairs, texts)[name]
        assert summarise(doubled, [text for text in texts for _ in range(2)])[name]["low"] == pytest.approx(alone["low"])


def test_a_few_rows_have_an_interval():
    summary = summarise([row(item(SQUARE)), *numbered(*[[]] * 9)], [said(item(SQUARE)), *[said()] * 9])
    assert summary["map"]["mean"] == 1.0 and summary["map"]["low"] == pytest.approx(1 / (1 + 1.96**2), abs=1e-3)


def test_one_result_per_row():
    rows = numbered([item(SQUARE, "Cat"), item(FAR, "cat")], [item(SQUARE)])
    one, other = score(rows, [said(item([0, 0, 100, 90], "cat")), "no"])
    assert one == Detected({"cat": [(0, 0, 100, 100), (500, 500, 600, 600)]}, {"cat": [(0, 0, 100, 90)]}, 1)
    assert (one.num_true, one.num_found) == (2, 1)
    assert other == Detected({"cat": [(0, 0, 100, 100)]}, {}, 0, "no_answer")


def test_bad_input_is_an_error():
    bad = [row(item(SQUARE)), TaskRow("b", (), "Detect.", "a cat", "ovd"), row(item([5, 5, 5, 9]), id="c")]
    with pytest.raises(ValueError, match="solutions: 2 rows have problems(.|\n)*row 'b'(.|\n)*row 'c'"):
        summarise(bad, [""] * 3)
    with pytest.raises(ValueError, match="unknown reading 'lenient'"):
        summarise([row()], [""], reading="lenient")
    with pytest.raises(ValueError, match="unknown ranking 'random'"):
        summarise([row()], [""], ranking="random")
    with pytest.raises(ValueError, match="no rows"):
        summarise([], [])
    for texts, maps in ((["", ""], None), ([], None), ([""], [None, None])):
        with pytest.raises(ValueError):
            summarise([row()], texts, maps)


@pytest.mark.parametrize("reading", READINGS)
def test_absurd_texts_are_read_fast_and_raise_nothing(reading):
    texts = [piece * 50_000 for piece in ("```json", "[", "{", "```", "<answer>", "[1,", "9")]
    texts.append(said(*[item([i, i, i + 9, i + 9]) for i in range(2_000)]))
    start = time.perf_counter()
    detected = score(
        [row(*[item([i, i, i + 9, i + 9]) for i in range(20)], id=str(k)) for k in range(len(texts))], texts, None, reading
    )
    assert time.perf_counter() - start < 5
    assert [one.matched for one in detected] == [0] * (len(texts) - 1) + [20]


def test_nothing_is_printed(capfd, caplog):
    with caplog.at_level("INFO"):
        assert means([row(item(SQUARE))], [said(item(SQUARE))], "map") == (1.0,)
    assert capfd.readouterr() == ("", "") and not caplog.records
