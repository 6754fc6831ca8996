import json
import math
import subprocess
import sys

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image

from r1reward.tracking import provenance
from r1reward.tracking.run_folder import RunFolder, git_commit, numbers, versions

CONFIG = {"algorithm": {"pre_clip": 1e-3, "name": "paper"}, "seeds": [0, 1], "note": None}


def test_metrics_come_back_as_written_with_steps_and_rising_seconds(tmp_path):
    folder = RunFolder.create(tmp_path / "run", CONFIG, "python -m r1reward.train")
    folder.write_metrics(1, {"loss": 0.5, "completions/mean_length": 7})
    folder.write_metrics(2, {"loss": np.float32(0.25), "text": "skipped", "none": None, "many": [1, 2]})
    rows = RunFolder(tmp_path / "run").read_metrics()
    seconds = [row.pop("seconds") for row in rows]
    assert rows == [{"step": 1, "loss": 0.5, "completions/mean_length": 7}, {"step": 2, "loss": 0.25}]
    assert 0 <= seconds[0] <= seconds[1]
    assert folder.read_config() == CONFIG
    assert (folder.path / "command.txt").read_text() == "python -m r1reward.train\n"


def test_non_finite_numbers_are_valid_json_and_come_back(tmp_path):
    folder = RunFolder.create(tmp_path, CONFIG, "train")
    folder.write_metrics(1, {"loss": math.nan, "grad_norm": math.inf, "low": -math.inf})

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    raw = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert (raw["loss"], raw["grad_norm"], raw["low"]) == ("NaN", "Infinity", "-Infinity")
    (row,) = folder.read_metrics()
    assert math.isnan(row["loss"]) and row["grad_norm"] == math.inf and row["low"] == -math.inf


def test_a_torn_last_line_is_ignored_and_a_broken_line_inside_is_named(tmp_path):
    folder = RunFolder.create(tmp_path, CONFIG, "train")
    folder.write_metrics(1, {"loss": 1.0})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    assert [row["step"] for row in folder.read_metrics()] == [1]
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('\n{"step": 3}\n')
    with pytest.raises(ValueError, match="metrics.jsonl, line 2: not JSON"):
        folder.read_metrics()


def test_a_folder_with_a_run_is_refused_and_resume_continues_it(tmp_path):
    first = RunFolder.create(tmp_path, CONFIG, "train")
    for step in (1, 2, 3, 4):
        first.write_metrics(step, {"loss": float(step), "old": 1})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "seconds": 90.0}\n{"torn')
    with pytest.raises(ValueError, match="already holds a run.*resume"):
        RunFolder.create(tmp_path, CONFIG, "train")
    changed = CONFIG | {"note": "longer"}
    second = RunFolder.create(tmp_path, changed, "train resume=true", exist_ok=True)
    second.write_metrics(3, {"loss": 30.0})  # the checkpoint was at step 2: steps 3 to 5 are done again
    rows = second.read_metrics()
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert "old" not in rows[2] and rows[2]["seconds"] >= 90.0
    assert second.read_config() == changed
    assert yaml.safe_load((tmp_path / "config.before-resume-1.yaml").read_text()) == CONFIG
    assert (tmp_path / "command.txt").read_text() == "train\ntrain resume=true\n"


def test_lines_of_one_step_are_merged_and_a_step_back_is_an_error(tmp_path):
    folder = RunFolder.create(tmp_path, CONFIG, "train")
    folder.write_metrics(2, {"loss": 1.0, "step": 99, "seconds": -1})
    folder.write_metrics(2, {"evaluation/accuracy": 0.5})
    (row,) = folder.read_metrics()
    assert (row["step"], row["loss"], row["evaluation/accuracy"]) == (2, 1.0, 0.5) and row["seconds"] >= 0
    with pytest.raises(ValueError, match="step 1 come after those of step 2"):
        folder.write_metrics(1, {"loss": 1.0})


def test_a_config_that_is_not_plain_or_not_resolved_is_refused(tmp_path):
    with pytest.raises(ValueError, match="plain dicts.*to_container"):
        RunFolder.create(tmp_path, {"model": OmegaConf.create({"a": 1})}, "train")
    with pytest.raises(ValueError, match="unresolved.*to_container"):
        RunFolder.create(tmp_path, {"model": {"name": "${oc.env:HOME}"}}, "train")
    assert not (tmp_path / "config.yaml").exists()


def test_samples_keep_texts_and_restore_numbers(tmp_path):
    folder = RunFolder.create(tmp_path, CONFIG, "train")
    record = {"step": 1, "id": "a", "completion": "NaN", "verdict": None, "reward": np.float64(1.5), "kept": True}
    folder.write_samples([record | {"advantage": math.inf, "terms": {"result": 1.0, "consistency": math.nan}}])
    folder.write_samples([{"step": 2, "id": "é\n"}])
    first, second = folder.read_samples()
    assert {key: first[key] for key in record} == record
    assert first["advantage"] == math.inf and math.isnan(first["terms"]["consistency"])
    assert second == {"step": 2, "id": "é\n"}
    assert len((tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_thumbnails_are_small_rgb_and_written_once(tmp_path):
    folder = RunFolder.create(tmp_path, CONFIG, "train")
    assert folder.save_thumbnail(Image.new("RGBA", (1024, 512), "red"), "row-0") == "images/row-0.png"
    with Image.open(tmp_path / "images/row-0.png") as saved:
        assert (saved.size, saved.mode, saved.getpixel((0, 0))) == ((256, 128), "RGB", (255, 0, 0))
    folder.save_thumbnail(Image.new("RGB", (9, 9), "blue"), "row-0")
    with Image.open(tmp_path / "images/row-0.png") as saved:
        assert saved.getpixel((0, 0)) == (255, 0, 0)
    with Image.open(tmp_path / folder.save_thumbnail(Image.new("L", (9, 4)), "row-1")) as saved:
        assert (saved.size, saved.mode) == ((9, 4), "RGB")  # never enlarged
    odd = {folder.save_thumbnail(Image.new("RGB", (2, 2)), name) for name in ("a/b", "a_b", "../c", "a b")}
    assert len(odd) == 4 and len(list((tmp_path / "images").iterdir())) == 6


def test_summary_is_replaced_whole_and_a_missing_one_is_explained(tmp_path):
    folder = RunFolder.create(tmp_path, CONFIG, "train")
    with pytest.raises(ValueError, match="summary.json is missing: the run has not finished"):
        folder.read_summary()
    folder.write_summary({"steps": 1})
    with pytest.raises(TypeError):
        folder.write_summary({"steps": object()})
    assert folder.read_summary() == {"steps": 1}
    folder.write_summary({"steps": np.int64(2), "accuracy": math.nan, "nested": {1: (0.5,)}})
    summary = folder.read_summary()
    assert summary["steps"] == 2 and math.isnan(summary["accuracy"]) and summary["nested"] == {"1": [0.5]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["command.txt", "config.yaml", "summary.json"]


def test_numbers_keeps_what_is_one_number():
    found = numbers({"a": True, "b": np.int64(3), "c": np.array([2.5]), "d": "1", "e": np.zeros(2), "f": None, "g": 1})
    assert found == {"a": 1, "b": 3, "c": 2.5, "g": 1}
    assert all(type(value) in (int, float) for value in found.values())


def test_numbers_takes_tensors_of_one_element():
    torch = pytest.importorskip("torch")
    assert numbers({"a": torch.tensor(0.5), "b": torch.ones(2)}) == {"a": 0.5}


def test_versions_name_the_packages_and_need_no_heavy_import():
    assert versions()["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"trl", "transformers", "torch"} <= set(versions())
    code = "import sys, r1reward.tracking.run_folder, r1reward.tracking.trackers as t\n"
    code += "print({'torch', 'transformers', 'wandb', 'trackio'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_git_commit_is_that_of_the_checkout_and_marks_changes(tmp_path, monkeypatch):
    package = tmp_path / "r1reward"
    (package / "tracking").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "__file__", str(package / "tracking" / "provenance.py"))
    assert git_commit() is None  # no checkout
    git(tmp_path, "init", "-q")
    assert git_commit() is None  # a checkout that does not track the package, such as one around an environment
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git_commit()
    assert len(commit) == 40 and int(commit, 16)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as inside a git hook
    (package / "__init__.py").write_text("changed")
    assert git_commit() == commit + "+dirty"
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None  # no git at all
