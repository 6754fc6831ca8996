import json
from collections import Counter

import pytest
from PIL import Image

from r1reward.benchmarks import detection, grounding
from r1reward.benchmarks.coco_files import PROMPTS, read
from r1reward.benchmarks.items import MissingFiles
from r1reward.rewards import boxes

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 90, "name": "traffic light"}, {"id": 7, "name": "bed"}]


def annotation(image, category, box, crowd=0):
    return {"image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}


ANNOTATIONS = [
    annotation(10, 1, [1.5, 2.25, 10, 20]),
    annotation(10, 90, [0, 0, 5, 5]),
    annotation(10, 1, [0.1, 0.2, 0.2, 0.1]),
    annotation(11, 3, [4, 4, 8, 8]),
    annotation(11, 1, [0, 0, 30, 10], crowd=1),
    annotation(11, 1, [2, 2, 3, 3]),
]


def write(folder, annotations=ANNOTATIONS, numbers=(10, 11, 12), categories=CATEGORIES, **fields):
    """An annotation file and its images, 40 wide and 30 high."""
    (folder / "images").mkdir(exist_ok=True)
    entries = []
    for number in numbers:
        Image.new("RGB", (40, 30)).save(folder / "images" / f"{number}.png")
        entries.append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 30})
    path = folder / "instances.json"
    data = {"images": entries, "annotations": list(annotations), "categories": list(categories), "licenses": []}
    path.write_text(json.dumps(data | fields))
    return path, folder / "images"


def test_detection_rows(tmp_path):
    coco = read(*write(tmp_path), num_absent=None)
    assert [row.id for row in coco.rows] == ["10", "11", "12"]
    cats, dogs, none = coco.rows
    assert cats.images[0].path == str(tmp_path / "images" / "10.png") and len(cats.images) == 1
    assert {row.task for row in coco.rows} == {"ovd"} and cats.category == ""
    assert cats.solution == (
        '```json\n[{"bbox_2d": [1.5, 2.25, 11.5, 22.25], "label": "cat"}, '
        '{"bbox_2d": [0.1, 0.2, 0.3, 0.3], "label": "cat"}, {"bbox_2d": [0, 0, 5, 5], "label": "traffic light"}]\n```'
    )
    assert [one.label for one in boxes.true_detections(dogs.solution)] == ["dog"] and none.solution == "None"
    assert set(coco.asked[0]) == set(coco.asked[2]) == {"cat", "dog", "traffic light", "bed"}
    # Nobody counted the cats of the crowd: the question does not name cats, and the one cat beside it is no solution.
    assert set(coco.asked[1]) == {"dog", "traffic light", "bed"}
    assert coco.notes == {
        "images": 3,
        "images_without_question": 0,
        "crowd": 1,
        "degenerate": 0,
        "many_boxes": 0,
        "several": 0,
        "boxes_left_out": 2,
    }


def test_the_prompt_names_the_labels(tmp_path):
    files = write(tmp_path)
    coco = read(*files, num_absent=1)
    for row, asked in zip(coco.rows, coco.asked, strict=True):
        assert row.prompt == PROMPTS["ovd"].replace("{labels}", ", ".join(asked))
        assert detection.asked_labels(row.prompt) == asked
    assert read(*files, prompt="Boxes of {labels}?", num_absent=0).rows[1].prompt == "Boxes of dog?"
    (row,) = [row for row in read(*files, task="rec", num_absent=0).rows if row.category == "dog"]
    assert row.prompt == PROMPTS["rec"].replace("{labels}", "dog") and row.prompt.startswith("Locate the dog in this image.")
    with pytest.raises(ValueError, match="where the labels go"):
        read(*files, prompt="Detect everything.")


def test_absent_labels_are_drawn_by_image(tmp_path):
    categories = [{"id": number, "name": f"thing {number}"} for number in range(1, 41)]
    annotations = [annotation(image, 1 + image % 40, [1, 1, 5, 5]) for image in range(30)]
    files = write(tmp_path, annotations, range(30), categories)
    coco = read(*files, num_absent=3)
    assert all(len(asked) == len(set(asked)) == 4 for asked in coco.asked)
    present = [boxes.true_detections(row.solution)[0].label for row in coco.rows]
    assert all(label in asked for label, asked in zip(present, coco.asked, strict=True))
    places = Counter(asked.index(label) for label, asked in zip(present, coco.asked, strict=True))
    assert len(places) == 4  # the present one may stand anywhere
    drawn = Counter(label for asked in coco.asked for label in asked)
    assert len(drawn) > 30
    assert read(*files, num_absent=3).rows == coco.rows
    assert read(*files, num_absent=3, seed=1).asked != coco.asked
    assert read(*files, num_absent=3, limit=7).rows == coco.rows[:7]
    few = write(tmp_path, annotations[5:], range(5, 30), categories)
    assert read(*few, num_absent=3).rows == coco.rows[5:]  # whatever other images there are
    assert all(len(asked) == 40 for asked in read(*files, num_absent=100).asked)


def test_nothing_to_ask_is_counted(tmp_path):
    coco = read(*write(tmp_path), num_absent=0)
    assert [row.id for row in coco.rows] == ["10", "11"] and coco.notes["images_without_question"] == 1
    assert [set(asked) for asked in coco.asked] == [{"cat", "traffic light"}, {"dog"}]


def test_categories_with_many_boxes_are_left_out(tmp_path):
    annotations = [annotation(10, 1, [i, 0, 3, 3]) for i in range(11)]
    annotations += [annotation(10, 3, [i, 9, 3, 3]) for i in range(10)] + [annotation(11, 1, [1, 1, 2, 2])]
    files = write(tmp_path, annotations)
    assert len(boxes.true_detections(read(*files).rows[0].solution)) == 21
    coco = read(*files, num_absent=None, max_boxes_per_category=10)
    assert [one.label for one in boxes.true_detections(coco.rows[0].solution)] == ["dog"] * 10
    assert "cat" not in coco.asked[0] and "cat" in coco.asked[1] and "cat" in coco.asked[2]
    assert coco.notes["many_boxes"] == 1 and coco.notes["boxes_left_out"] == 11


def test_boxes_without_area_are_left_out(tmp_path):
    annotations = [annotation(10, 1, [5, 5, 0, 3]), annotation(10, 3, [5, 5, 3, 0.001]), annotation(10, 90, [5, 5, 3, 3])]
    coco = read(*write(tmp_path, annotations), num_absent=None)
    assert set(coco.asked[0]) == {"traffic light", "bed"}
    assert coco.notes["degenerate"] == 2 and coco.notes["boxes_left_out"] == 2


def test_single_objects(tmp_path):
    coco = read(*write(tmp_path), task="rec", num_absent=1)
    by_id = {row.id: row for row in coco.rows}
    # Two cats in the first image and a crowd of them in the second: "the cat" is asked for in neither.
    assert "10-cat" not in by_id and "11-cat" not in by_id
    assert by_id["10-traffic light"].solution == "[0, 0, 5, 5]" and by_id["11-dog"].solution == "[4, 4, 12, 12]"
    assert by_id["11-dog"].category == "dog" and by_id["11-dog"].task == "rec"
    absent = [row for row in coco.rows if row.solution == "None"]
    assert len(coco.rows) == 5 and len(absent) == 3
    assert coco.asked == [(row.category,) for row in coco.rows]
    assert coco.notes["several"] == 1 and coco.notes["crowd"] == 1 and coco.notes["boxes_left_out"] == 4
    texts = [f"<answer>{row.solution}</answer>" for row in coco.rows]
    overall = grounding.summarise(coco.rows, texts)["overall"]
    assert overall["with_object"]["accuracy"]["mean"] == overall["without_object"]["accuracy"]["mean"] == 1.0
    assert (overall["with_object"]["n"], overall["without_object"]["n"]) == (2, 3)


def test_real_annotations(tmp_path, shared_data):
    folder = shared_data / "coco128"
    known = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    names = sorted({one["label"] for image in known for one in image["objects"]})
    annotations, images = [], []
    for number, image in enumerate(known, start=1):
        images.append({"id": number, "file_name": image["image"], "width": image["width"], "height": image["height"]})
        for one in image["objects"]:
            x1, y1, x2, y2 = one["bbox"]
            annotations.append(annotation(number, names.index(one["label"]), [x1, y1, x2 - x1, y2 - y1]))
    path = tmp_path / "instances.json"
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    coco = read(path, folder)
    assert len(coco.rows) == coco.notes["images"] == 128
    found = [len(boxes.true_detections(row.solution)) for row in coco.rows]
    assert sum(found) + coco.notes["boxes_left_out"] == len(annotations) == 929
    texts = [f"<answer>{row.solution}</answer>" for row in coco.rows]
    summary = detection.summarise(coco.rows, texts, asked=coco.asked)
    assert [summary[name]["mean"] for name in ("map", "ap50", "precision", "recall", "count_ratio")] == [1.0] * 5
    assert summary["absent_labels"]["n"] == 3 * 128 and summary["absent_labels"]["false_positive_rate"]["mean"] == 0.0
    published = [tuple(json.loads(line)["id"].split("-", 1)) for line in (folder / "rec.jsonl").read_text().splitlines()]
    ours = read(path, folder, task="rec", num_absent=0).rows
    assert {(row.images[0].path.split("/")[-1][:-4], row.category) for row in ours} == set(published)
    assert len(ours) == len(published) == 216


def test_missing_files_are_named_with_the_remedy(tmp_path):
    path, folder = write(tmp_path)
    (folder / "10.png").unlink()
    (folder / "12.png").unlink()
    for check_images in (True, False):
        with pytest.raises(
            MissingFiles, match="2 files are missing, of 3 images(.|\n)*10.png(.|\n)*curl -LO .*val2017.zip"
        ) as error:
            read(path, folder, check_images=check_images)
        assert error.value.missing == [str(folder / "10.png"), str(folder / "12.png")]
    with pytest.raises(MissingFiles, match="no.json(.|\n)*annotations_trainval2017.zip"):
        read(tmp_path / "no.json", folder)


def test_images_that_are_not_asked_about_may_be_missing(tmp_path):
    path, folder = write(tmp_path)
    (folder / "12.png").unlink()
    assert len(read(path, folder, num_absent=0).rows) == len(read(path, folder, limit=2).rows) == 2


def test_images_of_another_size_are_errors(tmp_path):
    path, folder = write(tmp_path)
    Image.new("RGB", (20, 15)).save(folder / "10.png")
    (folder / "11.png").write_bytes(b"not an image")
    turned = Image.new("RGB", (30, 40))
    turned.getexif()[0x0112] = 6  # stored lying on its side, upright 40 x 30
    turned.save(folder / "12.png", exif=turned.getexif())
    with pytest.raises(
        ValueError, match=r"2 rows have problems(.|\n)*10.png: \(20, 15\) .*\(40, 30\)(.|\n)*11.png: unreadable"
    ):
        read(path, folder)
    assert len(read(path, folder, check_images=False).rows) == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"annotations": [annotation(10, 1, [1, 2, 3])]}, "annotations, entry 1: field bbox: must be x, y, width, height"),
        ({"annotations": [ANNOTATIONS[0], annotation(10, 1, [1, 2, 3, "4"])]}, "entry 2: field bbox"),
        ({"annotations": [annotation(10, 1, [1, 2, 3, float("nan")])]}, "entry 1: field bbox"),
        ({"annotations": [annotation(99, 1, [1, 2, 3, 4])]}, "entry 1: field image_id: 99 is not among"),
        ({"annotations": [annotation(10, 2, [1, 2, 3, 4])]}, "entry 1: field category_id: 2 is not among"),
        (
            {"annotations": [annotation([], 1, [1, 2, 3, 4]), None]},
            "2 rows have problems(.|\n)*image_id(.|\n)*entry 2: must be",
        ),
        ({"categories": [*CATEGORIES, {"id": 1, "name": "cow"}]}, "categories, entry 5: needs an id of its own"),
        ({"categories": [*CATEGORIES, {"id": 2, "name": " CAT"}]}, "categories, entry 5: the name ' CAT' occurs twice"),
        ({"categories": [*CATEGORIES, {"id": 2}, "cow"]}, "entry 5(.|\n)*entry 6: needs an id of its own and a name"),
        ({"images": [{"id": 10, "file_name": "10.png"}] * 2}, "images, entry 2: needs an id of its own and a file_name"),
        (
            {"images": [{"id": 10, "file_name": "../10.png"}]},
            "images, entry 1, field file_name: '../10.png' lies outside of .*benchmark.image_root",
        ),
        ({"images": []}, "no COCO annotations(.|\n)*cocodataset.org"),
        ({"categories": {}}, "no COCO annotations"),
    ],
)
def test_bad_annotations_are_errors(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        read(*write(tmp_path, **{"annotations": ANNOTATIONS} | fields))


def test_bad_files_and_settings_are_errors(tmp_path):
    path, folder = write(tmp_path)
    for setting in ({"num_absent": -1}, {"max_boxes_per_category": 0}, {"limit": 0}, {"task": "map"}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            read(path, folder, **setting)
    path.write_text("[1, 2")
    with pytest.raises(ValueError, match="not JSON(.|\n)*cocodataset.org"):
        read(path, folder)
    path.write_text("[]")
    with pytest.raises(ValueError, match="no COCO annotations"):
        read(path, folder)
