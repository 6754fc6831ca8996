"""True boxes in another space than pixels: one error with row and remedy, or a setting that says so."""

import json

import pytest
from PIL import Image

from r1reward.benchmarks import coco_files
from r1reward.data import vlm_r1_jsonl
from r1reward.data.build import build_splits
from r1reward.data.images import upright_size
from r1reward.rewards.boxes import true_detections
from r1reward.settings import DataSettings

PIXELS = (20.0, 10.0, 100.0, 60.0)  # of an image of 200 x 100
SPACES = {
    "unit": [0.1, 0.1, 0.5, 0.6],
    "thousand": [100, 100, 500, 600],
    "thousand_y_first": [100, 100, 600, 500],
    "pixels": [20, 10, 100, 60],
}


def write(folder, answers, task="rec", question="<image>Where?", **fields):
    Image.new("RGB", (200, 100)).save(folder / "a.png")
    turns = [[{"value": question}, {"value": answer}] for answer in answers]
    rows = [{"conversations": turn, "image": "a.png", "task": task} | fields for turn in turns]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


@pytest.mark.parametrize("space", SPACES)
def test_a_stated_space_is_brought_to_pixels(space, tmp_path):
    box = SPACES[space]
    one, text, nothing = vlm_r1_jsonl.read(write(tmp_path, [box, json.dumps(box), "None"]), None, box_space=space)
    assert json.loads(one.solution) == json.loads(text.solution) == list(PIXELS) and nothing.solution == "None"
    listed = [{"bbox_2d": box, "label": "caf\u00e9"}]
    answers = [listed, f"```json\n{json.dumps(listed)}\n```", f"<answer>{json.dumps(listed)}</answer>"]
    for row in vlm_r1_jsonl.read(write(tmp_path, answers, "ovd"), None, box_space=space):
        (found,) = true_detections(row.solution)
        assert (found.box, found.label) == (PIXELS, "caf\u00e9")


@pytest.mark.parametrize(
    ("box", "remedy"),
    [
        (SPACES["unit"], "box_space=unit"),
        ([0, 0, 1, 1], "box_space=unit"),
        (SPACES["thousand"], "box_space=thousand"),
        ([150, 20, 260, 90], "box_space=thousand"),
        ([1200, 100, 3000, 2000], "image of another size"),
        ([-40, 10, 60, 60], "image of another size"),
        ([20, 10, 100, 103], "box_space=thousand"),
    ],
)
@pytest.mark.parametrize("task", ["rec", "ovd", "ovd_map"])
def test_boxes_that_are_no_pixels_are_one_error(task, box, remedy, tmp_path):
    wrong = box if task == "rec" else [{"bbox_2d": box, "label": "cat"}]
    sound = SPACES["pixels"] if task == "rec" else [{"bbox_2d": SPACES["pixels"], "label": "cat"}]
    path = write(tmp_path, [sound, wrong, wrong], task)
    with pytest.raises(ValueError) as caught:
        vlm_r1_jsonl.read(path, None)
    text = str(caught.value)
    assert "2 rows have problems" in text and "rows.jsonl, row 2, field conversations: the box" in text and remedy in text
    assert len(vlm_r1_jsonl.read(path, None, box_space="pixels")) == 3  # meant so


def test_edges_may_lie_outside_by_what_rounding_explains(tmp_path):
    assert len(vlm_r1_jsonl.read(write(tmp_path, [[-1, -1, 201.5, 101.5], [0, 0, 200, 100], [1, 1, 3, 2]]), "rec")) == 3


PHOTOGRAPH = (1920, 1080)
THOUSANDTHS = ([100, 200, 900, 950], [0, 0, 1000, 1000], [500, 1, 700, 2])


@pytest.mark.parametrize(
    ("sizes", "found", "warns"),
    [
        ([PHOTOGRAPH] * 3, THOUSANDTHS, True),
        ([PHOTOGRAPH, (1000, 1400), (4000, 3000)], THOUSANDTHS, True),
        ([PHOTOGRAPH], THOUSANDTHS[:1], True),
        ([PHOTOGRAPH] * 3, [*THOUSANDTHS[:2], [100, 200, 1001, 950]], False),  # one edge beyond
        ([PHOTOGRAPH, (999, 1400), PHOTOGRAPH], [*THOUSANDTHS[:1], [1, 1, 999, 1000], *THOUSANDTHS[2:]], False),
        ([(1000, 1000)], THOUSANDTHS[:1], False),  # pixels and thousandths are the same
        ([PHOTOGRAPH], ["None"], False),
    ],
)
@pytest.mark.parametrize("task", ["rec", "ovd"])
def test_boxes_that_could_be_thousandths_of_photographs_are_one_warning(task, sizes, found, warns, tmp_path, caplog):
    rows = []
    for number, (size, box) in enumerate(zip(sizes, found, strict=True)):
        Image.new("L", size).save(tmp_path / f"{number}.png")
        answer = box if task == "rec" or box == "None" else [{"bbox_2d": box, "label": "cat"}]
        rows.append({"conversations": [{"value": "Where?"}, {"value": answer}], "image": f"{number}.png", "task": task})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for space in (None, "pixels", *(["thousand"] if warns else [])):
        caplog.clear()
        assert len(vlm_r1_jsonl.read(tmp_path / "rows.jsonl", None, box_space=space)) == len(rows)
        assert ["box_space=thousand" in record.message for record in caplog.records] == [True] * (warns and space is None)


@pytest.mark.parametrize("space", [None, "thousand"])
def test_an_image_of_many_rows_is_measured_once(space, tmp_path, monkeypatch):
    measured = []

    def measure(source, limits):
        measured.append(source.path)
        return upright_size(source, limits)

    monkeypatch.setattr("r1reward.data.box_space.upright_size", measure)
    path = write(tmp_path, [[1, 2, 30, 40]] * 50 + ["None"])
    assert len(vlm_r1_jsonl.read(path, None, box_space=space, check_images=False)) == 51
    assert measured == [str(tmp_path / "a.png")]


def test_numbers_that_are_no_boxes_are_left_alone(tmp_path):
    assert vlm_r1_jsonl.read(write(tmp_path, ["[0.1, 0.2, 0.5, 0.6]"], "exact"), None)[0].solution == "[0.1, 0.2, 0.5, 0.6]"


def test_boxes_beyond_the_stated_space(tmp_path):
    with pytest.raises(ValueError, match="row 1, field conversations: .*not within 0 to 1,"):
        vlm_r1_jsonl.read(write(tmp_path, [[10, 20, 50, 60]]), None, box_space="unit")


@pytest.mark.parametrize("task", ["rec", "ovd", "ovd_ap50"])
def test_a_task_with_boxes_needs_an_image(task, tmp_path):
    for fields in ({"image": None}, {"image": []}):
        with pytest.raises(ValueError, match=f"row 1, field image: missing, and the task {task} asks for boxes"):
            vlm_r1_jsonl.read(write(tmp_path, ["None"], task, question="Where?", **fields), None)


def test_the_given_rows(shared_cases, shared_data):
    """Fractions of photographs of 640 x 480 and the like: refused as they are, pixels as told."""
    path, root = str(shared_cases / "case04_rec_unit_boxes.jsonl"), str(shared_data / "coco128")
    settings = DataSettings("vlm_r1_jsonl", path=path, image_root=root, task="rec", held_out_fraction=0)
    with pytest.raises(ValueError, match="row 1, field conversations.*box_space=unit"):
        build_splits(settings)
    rows = vlm_r1_jsonl.read(path, "rec", root, box_space="unit")
    assert json.loads(rows[0].solution) == [64, 96, 320, 288]  # of 640 x 480


@pytest.mark.parametrize("bbox", [[0.1, 0.1, 0.4, 0.5], [100, 100, 400, 500], [20, 10, 300, 50]])
def test_coco_boxes_in_another_space(bbox, tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "1.png")
    data = {
        "images": [{"id": 1, "file_name": "1.png", "width": 200, "height": 100}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": bbox, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="annotations of image 1: the box"):
        coco_files.read(tmp_path / "instances.json", tmp_path)
