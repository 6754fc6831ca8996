"""`python -m r1reward.evaluate` as a user types it: scores, resume after kills, several processes, wrong input."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from r1reward.benchmarks.paired import compare_evaluations
from tests.end_to_end.commands import only, run, start

SMALL = ["benchmark.num=12", "batch_size=8", "max_new_tokens=40"]


def evaluate(folder: Path, *arguments: str, code: int = 0) -> str:
    return run(folder, *arguments, module="evaluate", code=code)


def test_an_evaluation_leaves_numbers_verdicts_and_a_page(tmp_path):
    text = evaluate(tmp_path, *SMALL)
    folder = only(tmp_path, "evaluations/shapes/embedded_both_orders_1")
    results = json.loads((folder / "results.json").read_text())
    assert results["overall"]["n"] == 12 and results["protocol"] == "both_orders"
    assert (
        results["overall"]["accuracy"]["low"]
        <= results["overall"]["accuracy"]["mean"]
        <= results["overall"]["accuracy"]["high"]
    )
    lines = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    assert len(lines) == 24 and {line["order"] for line in lines} == {"forward", "backward"}
    assert (folder / "mistakes.html").read_text().startswith("<!doctype html>")
    assert (folder / "row.md").read_text().startswith("|")
    assert "accuracy" in text.lower()
    assert json.loads((folder / "run.json").read_text())["verdicts_made"] == 24
    # again: nothing is judged, another scoring of the same verdicts is allowed
    evaluate(tmp_path, *SMALL, "buckets=released", "mistakes=0")
    assert json.loads((folder / "run.json").read_text())["verdicts_made"] == 0


def test_other_settings_in_the_same_folder_are_refused_with_a_diff(tmp_path):
    evaluate(tmp_path, *SMALL)
    text = evaluate(tmp_path, *SMALL, "seed=3", "max_new_tokens=30", code=2)
    assert "max_new_tokens: 40 there, 30 now" in text and "seed: 0 there, 3 now" in text and "overwrite=true" in text
    evaluate(tmp_path, *SMALL, "seed=3", "overwrite=true")


def kill_while_it_judges(folder: Path, draw: random.Random, *arguments: str) -> int:
    """Start, wait for some verdicts, kill; returns the number of lines that are there."""
    verdicts = folder / "evaluations/shapes/embedded_both_orders_3/verdicts.jsonl"

    def size() -> int:
        return verdicts.stat().st_size if verdicts.is_file() else 0

    before, process = size(), start(folder, *arguments, module="evaluate")
    while size() <= before and process.is_alive():
        time.sleep(0.005)
    time.sleep(draw.uniform(0, 0.3))
    process.kill()
    process.join()
    return size()


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_evaluation_ends_with_the_same_results(tmp_path, kills):
    arguments = ["benchmark.num=90", "votes=3", "batch_size=6", "max_new_tokens=40", "mistakes=0"]
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    evaluate(tmp_path / "undisturbed", *arguments)
    draw, sizes = random.Random(0), []
    for _ in range(kills):
        sizes.append(kill_while_it_judges(tmp_path / "killed", draw, *arguments))
    assert sizes == sorted(sizes)
    evaluate(tmp_path / "killed", *arguments)
    names = ("results.json", "verdicts.jsonl")
    a, b = (only(tmp_path / name, "evaluations/shapes/*") for name in ("undisturbed", "killed"))
    assert sizes[-1] < (a / "verdicts.jsonl").stat().st_size  # the last kill did come before the end
    assert [(a / name).read_bytes() for name in names] == [(b / name).read_bytes() for name in names]


def test_two_processes_share_an_evaluation(tmp_path):
    """The launcher's option says GPU; the processes use those that there are, here none."""
    evaluate(tmp_path, *SMALL, "hydra.run.dir=alone")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    command += ["--mixed_precision=no", "--dynamo_backend=no", "-m", "r1reward.evaluate", *SMALL, "hydra.run.dir=together"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "together" / "verdicts-1.jsonl").is_file()
    assert (tmp_path / "alone/results.json").read_bytes() == (tmp_path / "together/results.json").read_bytes()


def test_two_evaluations_compare_item_by_item(tmp_path):
    evaluate(tmp_path, *SMALL, "hydra.run.dir=a")
    evaluate(tmp_path, *SMALL, "hydra.run.dir=b", "max_new_tokens=5")  # nothing but cut-off verdicts
    result = compare_evaluations(tmp_path / "a", tmp_path / "b")
    assert json.dumps(result)
    text = run(tmp_path, "a", "b", module="compare")
    assert "McNemar" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["benchmark=vl_rewardbench"], "benchmark.path is not set"),
        (["benchmark=vl_rewardbench", "benchmark.path=nowhere"], "nowhere"),
        (["votes=0"], "votes must be at least 1"),
        (["benchmark=referring", "benchmark.reading=last_fence"], "referring has strict, last_box, first_box"),
        (["mistakes=-1"], "mistakes must be at least 0"),
        (["votes=3", "temperature=0"], "raise temperature"),
        (["protocol=official"], "has no official protocol"),
        (["benchmark.num=0"], "at least 1 row"),
        (["model.path=./nowhere"], "no such folder"),
        (["backend=vllm"], "vllm is not installed"),
        (["hydra.run.dir=/proc/results"], "cannot be used as a folder"),
    ],
)
def test_wrong_input_is_one_clear_error(tmp_path, arguments, message):
    text = evaluate(tmp_path, *arguments, code=2)
    assert message in text and "Traceback" not in text


def test_processes_that_are_half_numbered_are_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    text = evaluate(tmp_path, *SMALL, code=2)
    assert "RANK=1 but no WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT" in text and "Traceback" not in text


def test_a_server_that_is_not_there_is_one_clear_error(tmp_path):
    text = evaluate(tmp_path, *SMALL, "backend=openai", "backend.base_url=http://localhost:9/v1", code=3)
    assert "error: no server answers at http://localhost:9/v1" in text and "Traceback" not in text
    assert "verdict/s" not in text  # it was not begun


@pytest.mark.parametrize(("name", "number"), [("referring", "accuracy at IoU"), ("detection", "AP50")])
def test_boxes_are_evaluated_on_rows_in_vlm_r1s_format(tmp_path, shared_data, name, number):
    """The embedded model writes no boxes; all its texts are counted as unreadable."""
    path = shared_data / "coco128" / {"referring": "rec.jsonl", "detection": "ovd.jsonl"}[name]
    text = evaluate(tmp_path, f"benchmark={name}", f"benchmark.path={path}", "benchmark.limit=6", "max_new_tokens=8")
    assert number in text and "100.0" in text
    folder = only(tmp_path, f"evaluations/{name}/*")
    results = json.loads((folder / "results.json").read_text())
    assert results["benchmark"] == name and results["mean_tokens"] > 0
    assert (folder / "row.md").read_text().startswith("| Model | rows |")
    assert f"votes, protocol and buckets have no effect on {name}" in evaluate(
        tmp_path, f"benchmark={name}", f"benchmark.path={path}", "votes=3", code=2
    )


def test_referring_expressions_from_coco_annotations(tmp_path):
    Image.new("RGB", (100, 80), "white").save(tmp_path / "a.png")
    annotations = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 10, 30, 40], "area": 1200, "iscrowd": 0}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(annotations))
    text = evaluate(
        tmp_path, "benchmark=referring", "benchmark.path=instances.json", "benchmark.image_root=.", "benchmark.num_absent=0",
        "max_new_tokens=8",
    )  # fmt: skip
    assert "rows" in text
    missing = evaluate(tmp_path, "benchmark=referring", "benchmark.path=instances.json", code=2)
    assert "benchmark.image_root is not set" in missing


def test_votes_print_the_whole_curve(tmp_path):
    text = evaluate(tmp_path, "benchmark.num=6", "votes=5", "batch_size=30", "max_new_tokens=40")
    results = json.loads((only(tmp_path, "evaluations/shapes/*") / "results.json").read_text())
    curve = results["overall"]["curve"]
    assert [point["k"] for point in curve] == [1, 2, 3, 4, 5]
    assert curve[-1]["accuracy"]["mean"] == pytest.approx(results["overall"]["accuracy"]["mean"])
    assert "curve" in text.lower()
