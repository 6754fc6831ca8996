"""From texts to the numbers of a box evaluation, in the model's own coordinates."""

import json

import pytest
from PIL import Image

from r1reward.benchmarks.settings import BackendSettings, BenchmarkSettings, EvaluateSettings
from r1reward.benchmarks.tasks import print_task_results, read_rows, task_results, write_task_report
from r1reward.benchmarks.verdicts import Vote
from r1reward.data.rows import ImageSource, TaskRow
from r1reward.models.loading import ModelSettings


def settings(name: str, coordinates: str | None, **benchmark) -> EvaluateSettings:
    model = ModelSettings("embedded", coordinates=coordinates)
    return EvaluateSettings(BenchmarkSettings(name, **benchmark), model, BackendSettings("transformers"))


@pytest.fixture
def rows(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    image = (ImageSource(path=str(tmp_path / "a.png")),)
    return [TaskRow(str(n), image, "Where?", "[20, 10, 100, 60]", "rec", category="cat") for n in range(4)]


def said(*texts: str) -> list[Vote]:
    return [Vote(str(n), "forward", 0, None, None, 5, text) for n, text in enumerate(texts)]


def test_boxes_are_read_in_the_models_coordinates(rows, tmp_path, capsys):
    """The image is 200 x 100 pixels: 20, 10, 100, 60 are 100, 100, 500, 600 thousandths."""
    answer = "<think>x</think><answer>{}</answer>".format
    votes = said(answer("[100, 100, 500, 600]"), answer("[100, 100, 500, 600]"), answer("[20, 10, 100, 60]"), "no box")
    results = task_results(settings("referring", "thousand"), rows, votes)
    assert results["overall"]["with_object"]["accuracy"]["mean"] == 0.5
    assert results["overall"]["unreadable_rate"]["mean"] == 0.25 and results["mean_tokens"] == 5
    in_pixels = task_results(settings("referring", "pixels"), rows, votes)
    assert in_pixels["overall"]["with_object"]["accuracy"]["mean"] == 0.25
    write_task_report(tmp_path, "m", results)
    assert "| **m** | 4 | 50.0 [" in (tmp_path / "row.md").read_text()
    print_task_results(results, tmp_path)
    assert "accuracy at IoU >= 0.5" in capsys.readouterr().out


def test_detections_count_labels_that_were_asked_for(rows):
    from dataclasses import replace

    boxes = '[{"bbox_2d": [20, 10, 100, 60], "label": "cat"}]'
    asked = [replace(row, solution=boxes, prompt="Detect every instance of: cat, dog.", task="ovd") for row in rows]
    answer = f"<think>x</think><answer>{boxes}</answer>"
    results = task_results(settings("detection", "pixels"), asked, said(answer, answer, answer, answer))
    assert results["map"]["mean"] == results["recall"]["mean"] == 1.0 and results["absent_labels"]["n"] == 4


def test_rows_of_other_tasks_are_left_aside(tmp_path):
    lines = [
        '{"task": "rec", "image": "a.png", "conversations": [{"value": "Where?"}, {"value": "[1, 2, 3, 4]"}]}',
        '{"task": "yes_no", "conversations": [{"value": "Is it?"}, {"value": "yes"}]}',
    ]
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    assert [row.task for row in read_rows(BenchmarkSettings("referring", path=str(tmp_path / "rows.jsonl")))] == ["rec"]


def test_templates_stand_around_the_questions_of_a_file(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text(
        '{"image": "a.png", "conversations": [{"value": "Where?"}, {"value": "[1, 2, 3, 4]"}]}'
    )
    benchmark = BenchmarkSettings("referring", path=str(tmp_path / "rows.jsonl"))
    templates = {"rec": '{question} Give JSON, {"bbox_2d": [1, 2, 3, 4]}.', "ovd": "{question}"}
    assert [row.prompt for row in read_rows(benchmark)] == ["Where?"]
    assert [row.prompt for row in read_rows(benchmark, templates)] == ['Where? Give JSON, {"bbox_2d": [1, 2, 3, 4]}.']
    with pytest.raises(ValueError, match="template has no effect: it is for ovd, and referring asks for rec"):
        read_rows(benchmark, {"ovd": "{question}"})
    with pytest.raises(ValueError, match="template.rec: does not say where the question goes"):
        read_rows(benchmark, {"rec": "Where?"})


@pytest.mark.parametrize(("name", "task", "question"), [
    ("referring", "rec", "Locate the cat in this image."), ("detection", "ovd", "Detect every instance of: cat."),
])  # fmt: skip
def test_templates_take_the_place_of_the_instructions_for_coco_files(name, task, question, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "1.png")
    data = {
        "images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 30}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(data))
    benchmark = BenchmarkSettings(name, path=str(tmp_path / "instances.json"), image_root=str(tmp_path))
    (plain,), (changed,) = read_rows(benchmark), read_rows(benchmark, {task: "Now: {question} Go."})
    assert plain.prompt.startswith(f"{question}\nThink first") and changed.prompt == f"Now: {question} Go."


def test_a_server_does_not_say_how_its_model_writes_boxes(rows):
    behind = EvaluateSettings(BenchmarkSettings("referring"), ModelSettings("m"), BackendSettings("openai"))
    with pytest.raises(ValueError, match="set model.coordinates"):
        task_results(behind, rows, said("", "", "", ""))


def test_a_server_whose_way_of_writing_boxes_was_told(rows):
    """The box is (100, 100, 500, 600) thousandths of 200 x 100 pixels, in a model of which nothing but its address is here."""
    model = ModelSettings("some/model", coordinates="thousand")
    told = EvaluateSettings(BenchmarkSettings("referring"), model, BackendSettings("openai"))
    text = "<think>x</think><answer>[100, 100, 500, 600]</answer>"
    assert task_results(told, rows, said(*[text] * 4))["overall"]["with_object"]["mean_iou"]["mean"] == pytest.approx(1)
