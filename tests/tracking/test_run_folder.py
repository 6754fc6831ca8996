import json
import logging
import math
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import datetime, timedelta

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image

from r1reward.models.adapters import AdapterSettings
from r1reward.tracking import lock, provenance, run_folder
from r1reward.tracking.config_changes import config_changes
from r1reward.tracking.run_folder import RunFolder, git_commit, numbers, versions

CONFIG = {"algorithm": {"pre_clip": 1e-3, "name": "paper"}, "seeds": [0, 1], "note": None}


@pytest.fixture(autouse=True)
def unlocked():
    """What a test has locked is given back, as at the end of a process."""
    yield
    for held in list(lock._held):
        held.release()


def start(path, config=CONFIG, command="train") -> RunFolder:
    return RunFolder(path).open_run(config, command)


def test_metrics_come_back_as_written_with_steps_and_rising_seconds(tmp_path):
    folder = RunFolder(tmp_path / "run").open_run(CONFIG, "python -m r1reward.train")
    folder.write_metrics(1, {"loss": 0.5, "completions/mean_length": 7})
    folder.write_metrics(2, {"loss": np.float32(0.25), "text": "skipped", "none": None, "many": [1, 2]})
    rows = RunFolder(tmp_path / "run").read_metrics()
    seconds = [row.pop("seconds") for row in rows]
    assert rows == [{"step": 1, "loss": 0.5, "completions/mean_length": 7}, {"step": 2, "loss": 0.25}]
    assert 0 <= seconds[0] <= seconds[1]
    assert folder.read_config() == CONFIG
    assert (folder.path / "command.txt").read_text() == "python -m r1reward.train\n"


def test_non_finite_numbers_are_valid_json_and_come_back(tmp_path):
    folder = start(tmp_path)
    folder.write_metrics(1, {"loss": math.nan, "grad_norm": math.inf, "low": -math.inf})

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    raw = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert (raw["loss"], raw["grad_norm"], raw["low"]) == ("NaN", "Infinity", "-Infinity")
    (row,) = folder.read_metrics()
    assert math.isnan(row["loss"]) and row["grad_norm"] == math.inf and row["low"] == -math.inf


def test_a_torn_last_line_is_ignored_and_a_broken_line_inside_is_named(tmp_path):
    folder = start(tmp_path)
    folder.write_metrics(1, {"loss": 1.0})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    assert [row["step"] for row in folder.read_metrics()] == [1]
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('\n{"step": 3}\n')
    with pytest.raises(ValueError, match="metrics.jsonl, line 2: not JSON"):
        folder.read_metrics()


def test_the_same_command_continues_an_unfinished_run(tmp_path):
    first = start(tmp_path)
    assert not first.finished
    for step in (1, 2, 3, 4):
        first.write_metrics(step, {"loss": float(step), "old": 1})
        first.write_samples([{"step": step}])
        if step == 2:
            position = first.position()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "seconds": 90.0}\n{"torn')
    first.unlock()
    second = start(tmp_path, command="train again")
    assert second.read_metrics()[-1]["seconds"] == 90.0
    second.rewind(position)
    second.write_metrics(3, {"loss": 30.0})
    second.write_samples([{"step": 3, "again": True}])
    assert [(row["step"], row["loss"]) for row in second.read_metrics()] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert second.read_samples() == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]
    assert (tmp_path / "command.txt").read_text() == "train\ntrain again\n"
    assert not list(tmp_path.glob("config.before-resume-*"))


def test_a_resumed_clock_goes_on_from_the_checkpoint(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "seconds": 500.0}\n{"step": 2, "seconds": 900.0}\n')
    folder = start(tmp_path)
    folder.write_metrics(3, {})
    assert 900 <= folder.read_metrics()[2]["seconds"] < 1000
    folder.rewind({"metrics.jsonl": 30, "samples.jsonl": 0})
    folder.write_metrics(2, {})
    assert 500 <= folder.read_metrics()[1]["seconds"] < 600
    folder.rewind(None)
    folder.write_metrics(1, {})
    assert folder.read_metrics()[0]["seconds"] < 100


def test_setting_the_clock_changes_no_duration(tmp_path, monkeypatch):
    folder = start(tmp_path)
    folder.write_metrics(1, {})
    monkeypatch.setattr(time, "time", lambda: 0.0)  # back to 1970
    folder.write_metrics(2, {})
    monkeypatch.setattr(time, "time", lambda: 4e9)  # on to 2096
    folder.write_metrics(3, {})
    seconds = [row["seconds"] for row in folder.read_metrics()]
    assert 0 <= seconds[0] <= seconds[1] <= seconds[2] < 100


def test_rewinding_to_nothing_empties_both_files(tmp_path):
    folder = start(tmp_path)
    folder.rewind(None)  # nothing there yet
    folder.write_metrics(1, {"loss": 1.0})
    folder.write_samples([{"step": 1}])
    folder.rewind(None)
    assert folder.read_metrics() == folder.read_samples() == []
    assert folder.position() == {"metrics.jsonl": 0, "samples.jsonl": 0}


@pytest.mark.parametrize(
    ("content", "kept"),
    [('{"step": 1}\n', [1]), ('{"step": 1}\n{"st', [1]), ("", []), ('{"step": 1}\n{"step": 2, "a": 123456}\n', [1])],
)
def test_a_file_that_lost_rows_keeps_its_whole_lines_and_says_so(tmp_path, caplog, content, kept):
    folder = start(tmp_path)
    for step in (1, 2):
        folder.write_metrics(step, {})
    position = folder.position()
    (tmp_path / "metrics.jsonl").write_text(content)
    position["metrics.jsonl"] = 30  # within the second line of the last case
    with caplog.at_level(logging.WARNING):
        folder.rewind(position)
    assert "metrics.jsonl: rows are missing" in caplog.text and "samples.jsonl" not in caplog.text
    assert [row["step"] for row in folder.read_metrics()] == kept
    folder.write_metrics(3, {})
    assert [row["step"] for row in folder.read_metrics()] == [*kept, 3]


def test_the_position_counts_bytes_of_whole_rows(tmp_path):
    folder = start(tmp_path)
    folder.write_samples([{"text": "é"}])
    assert folder.position() == {"metrics.jsonl": 0, "samples.jsonl": len(b'{"text": "\xc3\xa9"}\n')}


def test_another_config_is_refused_with_what_differs(tmp_path):
    start(tmp_path).unlock()
    changed = {"algorithm": {"pre_clip": 1e-2, "name": "paper"}, "seeds": [0, 2], "note": None, "new": {"a": True}}
    with pytest.raises(ValueError) as caught:
        start(tmp_path, changed)
    assert str(caught.value) == (
        f"{tmp_path} holds a run begun with other settings:\n  algorithm.pre_clip: 0.001 -> 0.01\n  new.a: (not set) -> true\n"
        "  seeds: [0, 1] -> [0, 2]\nname another study=..., or give the old settings, or set trainer.resume=force to go on "
        "with the new ones"
    )
    assert RunFolder(tmp_path).read_config() == CONFIG and (tmp_path / "command.txt").read_text() == "train\n"
    start(tmp_path)  # the refusal has given the lock back


def test_many_changes_are_cut_after_ten(tmp_path):
    start(tmp_path, {"a": {f"{i:02}": 0 for i in range(25)}}).unlock()
    with pytest.raises(ValueError, match=r"a\.09: 0 -> 1\n  \.\.\. and 15 more\n"):
        start(tmp_path, {"a": {f"{i:02}": 1 for i in range(25)}})


def test_an_accepted_config_replaces_the_former_which_is_kept(tmp_path, caplog):
    start(tmp_path).unlock()
    changed = CONFIG | {"note": "longer"}
    with caplog.at_level(logging.WARNING):
        RunFolder(tmp_path).open_run(changed, "train", on_change="accept").unlock()
    assert 'goes on with another setting: note: null -> "longer"' in caplog.text
    third = RunFolder(tmp_path).open_run(CONFIG, "train", on_change="accept")
    assert third.read_config() == CONFIG
    former = [yaml.safe_load((tmp_path / f"config.before-resume-{n}.yaml").read_text()) for n in (1, 2)]
    assert former == [CONFIG, changed]


def test_settings_that_do_not_change_the_result_may_change(tmp_path, caplog):
    def config(value) -> dict:
        names = ("resume", "save_steps", "keep_last", "keep_best")
        return {"logger": {"kind": value, "tags": [value]}, "trainer": {name: value for name in names}}

    start(tmp_path, config("a")).unlock()
    with caplog.at_level(logging.WARNING):
        start(tmp_path, config("b")).unlock()
    assert not caplog.text and RunFolder(tmp_path).read_config() == config("b")
    for name in ("trainer.max_steps", "trainer.resume_from", "loggers", "resume"):
        assert config_changes({}, {name: 1}) == [f"{name}: (not set) -> 1"]


def config_of_before(**more) -> dict:
    return {"clip": {"pre_clip": True}, "reward": {"tasks": {"rec": {"terms": {"iou": {"weight": 2.0}}}}}} | more


@pytest.mark.parametrize(
    ("now", "changes"),
    [
        ({"stage": "rl", "adapter": asdict(AdapterSettings()), "clip": {"pre_clip": True, "epsilon_low": 0.2}}, []),
        ({"reward": {"tasks": {"rec": {"terms": {"iou": {"weight": 2.0, "semantics": "strict"}}}}}}, []),
        ({"stage": "sft"}, ['stage: "rl" -> "sft"']),
        ({"clip": {"pre_clip": True, "epsilon_low": 0.1}}, ["clip.epsilon_low: 0.2 -> 0.1"]),
        ({"reward": {"tasks": {"rec": {"terms": {"iou": {}}}}}}, ["reward.tasks.rec.terms.iou.weight: 2.0 -> 1.0"]),
    ],
)
def test_a_setting_that_came_later_has_had_its_default(now, changes):
    assert config_changes(config_of_before(), config_of_before(**now)) == changes


def test_a_new_term_is_a_change_though_all_its_settings_are_defaults():
    now = config_of_before()
    now["reward"]["tasks"]["rec"]["terms"]["format"] = {}
    found = config_changes(config_of_before(), now)
    assert found and all(line.startswith("reward.tasks.rec.terms.format.") for line in found)


def test_a_finished_run_is_shown_and_never_changed(tmp_path):
    folder = start(tmp_path)
    folder.write_summary({"steps": 1})
    folder.unlock()
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    again = start(tmp_path)
    assert again.finished and again.read_summary() == {"steps": 1}
    start(tmp_path)  # not locked: there is nothing to write
    for how in ("refuse", "accept"):
        with pytest.raises(ValueError, match="holds a finished run with other settings:(.|\n)*trainer.resume=restart"):
            RunFolder(tmp_path).open_run({"a": 1}, "train", on_change=how)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_restart_moves_the_former_run_aside(tmp_path):
    path = tmp_path / "arm-s0"
    folder = RunFolder(path)
    assert folder.set_aside() is None
    for number in (1, 2):
        folder.open_run({"run": number}, "train")
        folder.write_metrics(1, {"loss": number})
        assert folder.set_aside() == tmp_path / f"arm-s0.former-{number}"
        with pytest.raises(ValueError, match="in use"):
            RunFolder(path).lock()
        RunFolder(tmp_path / f"arm-s0.former-{number}").lock()  # belongs to nobody
    folder.open_run({"run": 3}, "train")
    folder.rewind(None)
    folder.write_metrics(1, {"loss": 3.0})
    assert [row["loss"] for row in folder.read_metrics()] == [3.0]
    assert [RunFolder(tmp_path / f"arm-s0.former-{n}").read_metrics()[0]["loss"] for n in (1, 2)] == [1, 2]


def test_a_run_at_work_is_neither_opened_nor_moved(tmp_path):
    first = start(tmp_path / "run")
    for do in (lambda other: other.open_run(CONFIG, "train"), lambda other: other.set_aside()):
        with pytest.raises(ValueError, match="is in use by process"):
            do(RunFolder(tmp_path / "run"))
    first.write_metrics(1, {})
    assert len(first.read_metrics()) == 1 and (tmp_path / "run" / "command.txt").read_text() == "train\n"


@pytest.mark.parametrize("content", ["", "a: [", "- 1"])
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match="config.yaml is damaged: mend it, or move"):
        start(tmp_path)


def test_states_come_back_and_damaged_ones_count_as_missing(tmp_path, caplog):
    folder = start(tmp_path)
    value = {"accuracy": math.inf, "counts": [1, 2.5, None, True], "text": "é"}
    folder.write_state("before.json", value)
    assert folder.read_state("before.json") == value and folder.read_state("other.json") is None
    content = (tmp_path / "before.json").read_bytes()
    for damaged in (content[:-5], b"", b"\x00" * 100, b"\xff\xfe"):
        (tmp_path / "before.json").write_bytes(damaged)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert folder.read_state("before.json") is None
        assert "before.json is damaged" in caplog.text


def test_every_start_is_recorded_and_other_versions_are_told(tmp_path, monkeypatch, caplog):
    start(tmp_path).unlock()
    with caplog.at_level(logging.WARNING):
        start(tmp_path).unlock()
    assert not caplog.text
    begun = RunFolder(tmp_path).begun()
    assert datetime.fromisoformat(begun["started"]).utcoffset() == timedelta(0)
    assert begun["versions"] == versions() and begun["git_commit"] == git_commit()
    there = {name: version for name, version in versions().items() if name != "peft"}
    monkeypatch.setattr(run_folder, "versions", lambda: there | {"torch": "1.0"})
    monkeypatch.setattr(run_folder, "git_commit", lambda: "abc")
    with caplog.at_level(logging.WARNING):
        folder = start(tmp_path)
    for change in (
        f"torch {begun['versions']['torch']} -> 1.0",
        f"peft {begun['versions']['peft']} -> (none)",
        "commit of the code",
        "-> abc",
    ):
        assert change in caplog.text
    assert "trl " not in caplog.text
    assert folder.begun() == begun and len(folder.read_state("run.json")["starts"]) == 3
    with pytest.raises(ValueError, match="run.json does not say when the run began"):
        RunFolder(tmp_path / "nothing").begun()


def test_a_step_is_recorded_once_and_in_order(tmp_path):
    folder = start(tmp_path)
    folder.write_metrics(2, {"loss": 1.0, "step": 99, "seconds": -1})
    (row,) = folder.read_metrics()
    assert (row["step"], row["loss"]) == (2, 1.0) and row["seconds"] >= 0
    for step in (1, 2):
        with pytest.raises(ValueError, match=f"step {step} come after those of step 2"):
            folder.write_metrics(step, {"loss": 1.0})
    folder.unlock()
    with pytest.raises(ValueError, match="step 2 come after those of step 2"):
        start(tmp_path).write_metrics(2, {})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2}\n')
    with pytest.raises(ValueError, match="metrics.jsonl: step 2 comes after step 2; each step must be there once"):
        folder.read_metrics()


def test_a_config_that_is_not_plain_or_not_resolved_is_refused(tmp_path):
    with pytest.raises(ValueError, match="plain dicts.*to_container"):
        start(tmp_path, {"model": OmegaConf.create({"a": 1})})
    with pytest.raises(ValueError, match="unresolved.*to_container"):
        start(tmp_path, {"model": {"name": "${oc.env:HOME}"}})
    assert not (tmp_path / "config.yaml").exists()


def test_samples_keep_texts_and_restore_numbers(tmp_path):
    folder = start(tmp_path)
    record = {"step": 1, "id": "a", "completion": "NaN", "verdict": None, "reward": np.float64(1.5), "kept": True}
    folder.write_samples([record | {"advantage": math.inf, "terms": {"result": 1.0, "consistency": math.nan}}])
    folder.write_samples([{"step": 2, "id": "é\n"}])
    first, second = folder.read_samples()
    assert {key: first[key] for key in record} == record
    assert first["advantage"] == math.inf and math.isnan(first["terms"]["consistency"])
    assert second == {"step": 2, "id": "é\n"}
    assert len((tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_thumbnails_are_small_rgb_and_written_once(tmp_path):
    folder = start(tmp_path)
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
    folder = start(tmp_path)
    with pytest.raises(ValueError, match="summary.json is missing: the run has not finished"):
        folder.read_summary()
    folder.write_summary({"steps": 1})
    with pytest.raises(TypeError):
        folder.write_summary({"steps": object()})
    assert folder.read_summary() == {"steps": 1}
    folder.write_summary({"steps": np.int64(2), "accuracy": math.nan, "nested": {1: (0.5,)}})
    summary = folder.read_summary()
    assert summary["steps"] == 2 and math.isnan(summary["accuracy"]) and summary["nested"] == {"1": [0.5]}
    files = [".lock", "command.txt", "config.yaml", "run.json", "summary.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


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
