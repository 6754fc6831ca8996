"""The commands as a user types them, each in a process of its own, on models small enough for seconds."""

import functools
import json
import math
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from r1reward.models.tiny import build_model, build_processor, tokenizer_corpus
from tests.end_to_end.commands import only, run
from tests.rewards.judges.judge_server import Answer, JudgeServer
from tests.tracking.wandb_file import read_run

SMALL = [
    "trainer.max_steps=2", "trainer.rollout_batch_size=16", "trainer.train_batch_size=8", "trainer.micro_batch_size=8",
    "trainer.max_completion_length=8", "data.num_train=32", "data.num_eval=4", "advantage_filter.threshold=2",
]  # fmt: skip


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    processor = build_processor(tokenizer_corpus(num_rows=200), vocab_size=400)
    build_model(processor, hidden_size=32, num_layers=1, vision_hidden_size=16, vision_depth=1).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_run_leaves_a_complete_folder(tmp_path, model_folder):
    text = run(tmp_path, f"model.path={model_folder}", *SMALL, cold=True)
    folder = only(tmp_path, "runs/train/*")
    assert f"run folder  {folder.relative_to(tmp_path)}" in text
    assert "held out: 4 items, each judged in both orders" in text
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary) == {"run", "evaluation", "collapse", "steps", "seconds"}
    assert summary["steps"] == 2
    assert summary["run"]["seed"] == 0
    for moment in ("before", "after"):
        for split in ("held_out", "out_of_distribution"):
            entry = summary["evaluation"][moment][split]
            assert entry["n"] == 4
            assert entry["accuracy"]["low"] <= entry["accuracy"]["mean"] <= entry["accuracy"]["high"]
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [1, 2]
    for key in ("loss", "reward", "rewards/result/mean", "rewards/format/mean", "advantage_filter/fraction", "entropy"):
        assert key in metrics[0], key
    sample = json.loads((folder / "samples.jsonl").read_text().splitlines()[0])
    assert set(sample["terms"]) == {"result", "consistency", "format"}
    assert (folder / sample["images"][0]).is_file()
    assert (folder / "curves.png").stat().st_size > 10_000
    assert (folder / "model" / "model.safetensors").is_file()
    assert "trainer.max_steps=2" in (folder / "command.txt").read_text()
    record = read_run(folder)
    assert record.config["clip"]["pre_clip"] is True
    assert len(record.history) == 2


def test_a_study_runs_without_m_and_reports(tmp_path, model_folder):
    text = run(
        tmp_path, "+experiment=ablate_clip", f"model.path={model_folder}", *SMALL, "trainer.num_iterations=2",
        "trainer.max_steps=4", "seed=0,1", "logger=none",
    )  # fmt: skip
    study = tmp_path / "runs" / "ablate_clip"
    jobs = {path.parent.name for path in study.glob("*/summary.json")}
    assert jobs == {f"clip-{clip}-s{seed}" for clip in ("pre_clip", "ppo", "none") for seed in (0, 1)}
    for name in ("index.html", "table.md", "curves.png", "accuracy.png"):
        assert (study / "report" / name).is_file()
        assert name in text
    assert "clip=pre_clip" in (study / "report" / "table.md").read_text()


def test_a_sweep_over_experiments_is_refused(tmp_path, model_folder):
    text = run(
        tmp_path, "-m", "+experiment=ablate_clip,ablate_filter", f"model.path={model_folder}", *SMALL, code=2
    )  # fmt: skip
    assert "sweeps over clip, seed itself" in text
    assert "python -m r1reward.train +experiment=ablate_clip" in text


def test_a_sweep_of_ones_own_names_its_arms(tmp_path, model_folder):
    run(
        tmp_path, "-m", "reward.format_weight=0,0.5", "clip=pre_clip,ppo", "seed=0", f"model.path={model_folder}", *SMALL,
        "logger=none", "trainer.evaluate=false", "trainer.save_model=false",
    )  # fmt: skip
    arms = {json.loads(path.read_text())["run"]["arm"] for path in tmp_path.glob("runs/train/*/summary.json")}
    assert len(arms) == 4
    assert arms == {f"clip={clip},reward.format_weight={weight}" for clip in ("pre_clip", "ppo") for weight in ("0", "0.5")}
    folders = {path.parent.name for path in tmp_path.glob("runs/train/*/summary.json")}
    assert folders == {f"{arm.replace('=', '-').replace(',', '+')}-s0" for arm in arms}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip=soft"], "Available options in 'clip'"),
        (["reward/judge=opnai"], "Did you mean reward/judge=openai?"),
        (["+experiment=ablate_clp"], "Did you mean +experiment=ablate_clip?"),
        (["trainer.max_step=3"], "Could not override 'trainer.max_step'"),
        (["trainr=paper"], "Could not override 'trainr'. There is no such setting or group. Did you mean trainer?"),
        (["model.path=/proc"], "no model"),
        (["hydra.run.dir=/proc/results"], "cannot be used as a folder"),
        (["study=sk-0123456789abcdefghij0123"], "study: the config holds a key"),
        (["data=r1_reward_jsonl"], "data.path is not set"),
        (["data=r1_reward_jsonl", "data.path=nowhere.jsonl"], "nowhere.jsonl: there is no such file"),
        (["model.path=./nowhere"], "model.path=./nowhere: no such folder"),
        (["algorithm.loss_type=foo"], "algorithm.loss_type=foo: choose one of grpo"),
        (["trainer.resume=maybe"], "trainer.resume=maybe: choose one of auto, force, restart"),
        (["trainer.keep_best=1"], "set trainer.save_steps to a multiple of trainer.eval_steps"),
        (["trainer.max_steps=many"], "trainer.max_steps=many: expected a whole number"),
    ],
)
def test_wrong_input_is_one_clear_error(tmp_path, arguments, message):
    text = run(tmp_path, *arguments, code=1 if re.search("override|options|Did you mean", message) else 2)
    assert message in text
    assert "Traceback" not in text
    assert not list(tmp_path.glob("runs/*/*/metrics.jsonl"))


@pytest.mark.parametrize("module", ["train", "evaluate"])
def test_hydra_full_error_shows_the_whole_traceback(tmp_path, monkeypatch, module):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in run(tmp_path, "model.path=./nowhere", module=module, code=1)


@pytest.mark.parametrize(
    ("variables", "arguments", "message", "code"),
    [
        ({"RANK": "1"}, [], "RANK=1 but no WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT", 2),
        ({"RANK": "one"}, [], "RANK=one", 2),
        ({"WORLD_SIZE": "2", "RANK": "0"}, [], "no LOCAL_RANK", 2),
        ({"WANDB_MODE": "foo"}, [], "WANDB_MODE=foo: choose one of", 2),
        ({"WANDB_MODE": "online", "HOME": "/nowhere", "WANDB_API_KEY": ""}, [], "WANDB_API_KEY", 2),
        (
            {
                "WANDB_MODE": "online",
                "WANDB_BASE_URL": "http://localhost:9",
                "WANDB_HTTP_TIMEOUT": "1",
                "WANDB_API_KEY": "9" * 40,
            },
            [],
            "W&B could not begin the run (WANDB_MODE=online): Failed to authenticate with http://localhost:9",
            2,
        ),
        ({}, ["model=qwen2_5_vl_3b"], "model.path=Qwen/Qwen2.5-VL-3B-Instruct: it is neither", 2),
        (
            {},
            ["reward/judge=openai", "reward.judge.base_url=http://localhost:9/v1"],
            "no judge answers at http://localhost:9/v1",
            3,
        ),
    ],
)
def test_a_wrong_environment_is_one_clear_error(tmp_path, monkeypatch, variables, arguments, message, code):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text = run(tmp_path, *SMALL, *arguments, code=code)
    assert message in text and "Traceback" not in text
    assert not list(tmp_path.glob("runs/*/*/before.json"))  # nothing was evaluated


def test_a_disk_that_is_full_at_the_start_is_one_clear_error(tmp_path, model_folder):
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (0, 0))
    command = [sys.executable, "-m", "r1reward.train", *SMALL, "logger=none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 5 and "error: could not write" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_deleted_while_the_run_is_going_ends_it(tmp_path, model_folder):
    from r1reward.tracking.lock import FolderGone
    from r1reward.tracking.run_folder import RunFolder

    folder = RunFolder(tmp_path / "run")
    folder.open_run({"a": 1}, "command")
    folder.write_metrics(1, {"loss": 1.0})
    folder.path.rename(tmp_path / "elsewhere")
    folder.path.mkdir()  # as a checkpoint would
    with pytest.raises(FolderGone, match="deleted or moved"):
        folder.write_metrics(2, {"loss": 1.0})
    folder.unlock()


def test_a_model_with_code_of_its_own_is_one_clear_error(tmp_path):
    own = {"model_type": "my_own", "auto_map": {"AutoConfig": "conf.C", "AutoModelForImageTextToText": "m.M"}}
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text(json.dumps(own))
    text = run(tmp_path, "model.path=own/", *SMALL, code=2)
    assert "set model.trust_remote_code=true" in text and "Traceback" not in text


def test_what_a_run_prints_at_its_end_can_be_pasted(tmp_path, model_folder):
    text = run(tmp_path, f"model.path={model_folder}", *SMALL, "logger=none", "study='my study (1)'", "arm='a=b, c'")
    assert "run folder  runs/my_study_1/a-b+_c-s0\n" in text
    assert "python -m r1reward.evaluate model.path=runs/my_study_1/a-b+_c-s0/model\n" in text
    assert "python -m r1reward.compare runs/my_study_1\n" in text


def test_a_finished_run_prints_the_command_that_trains_it_on(tmp_path, model_folder):
    small = [setting for setting in SMALL if not setting.startswith("trainer.max_steps")]
    text = run(tmp_path, f"model.path={model_folder}", *small, "trainer.max_steps=2", "trainer.save_steps=1", "logger=none")
    (printed,) = (line for line in text.splitlines() if line.startswith("train on "))
    arguments = shlex.split(printed)[2:]
    assert arguments[:3] == ["python", "-m", "r1reward.train"]
    run(tmp_path, *arguments[3:])
    assert json.loads((only(tmp_path, "runs/train/*") / "summary.json").read_text())["steps"] == 4


def test_a_folder_of_ones_own_stands_in_what_is_printed(tmp_path, model_folder):
    text = run(tmp_path, f"model.path={model_folder}", *SMALL, "trainer.save_steps=1", "logger=none", "hydra.run.dir=mine/run")
    assert "python -m r1reward.compare mine/run\n" in text and " hydra.run.dir=mine/run\n" in text
    text = run(tmp_path, f"model.path={model_folder}", *SMALL, "trainer.save_steps=0", "logger=none")
    assert "train on" not in text  # without a checkpoint it cannot be


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_signal_stops_a_run_and_the_same_command_finishes_it(tmp_path, model_folder):
    """The exit code says that the command can be given again; no step is missing, none is there twice."""
    arguments = [*SMALL, f"model.path={model_folder}", "trainer.max_steps=120", "trainer.learning_rate=0", "study=s", "arm=a"]
    command = [sys.executable, "-m", "r1reward.train", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    folder = tmp_path / "runs" / "s" / "a-s0"
    started = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while started.poll() is None and (not (folder / "metrics.jsonl").exists() or len(steps(folder)) < 3):
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    _, text = started.communicate(timeout=120)
    assert started.returncode == 75, text
    assert "SIGTERM: writing a checkpoint after this micro-step" in text
    assert "stopped by SIGTERM; the same command goes on from here" in text and "Traceback" not in text
    reached = steps(folder)[-1]
    assert 3 <= reached < 120
    assert (folder / "checkpoints" / f"checkpoint-{reached}" / "manifest.json").is_file()
    text = run(tmp_path, *arguments)
    assert "accuracy before training" not in text  # it was measured before
    assert steps(folder) == list(range(1, 121))
    assert len((folder / "command.txt").read_text().splitlines()) == 2
    assert json.loads((folder / "summary.json").read_text())["steps"] == 120
    assert len(list(folder.glob("wandb_id*"))) == 1


def test_a_disk_that_refuses_a_checkpoint_ends_the_run_and_the_same_command_finishes_it(tmp_path, model_folder):
    """A limit on the size of files stands in for a full disk: a checkpoint's weights do not fit."""
    arguments = [*SMALL, f"model.path={model_folder}", "logger=none", "trainer.evaluate=false", "study=s", "arm=a"]
    arguments += ["trainer.save_steps=1", "trainer.max_steps=3"]
    size = (model_folder / "model.safetensors").stat().st_size // 2
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
    text = run(tmp_path, *arguments, code=5, before=limit)
    assert "error: could not write" in text and "raise the limit" in text and "Traceback" not in text
    assert "The same command goes on from its newest checkpoint" in text
    assert """add: 'arm="a"' trainer.resume=force""" in text
    folder = tmp_path / "runs" / "s" / "a-s0"
    assert not list((folder / "checkpoints").iterdir())  # nothing half-written stays
    run(tmp_path, *arguments)
    assert steps(folder) == [1, 2, 3]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["checkpoint-2", "checkpoint-3"]


def test_a_finished_run_is_shown_and_what_changed_is_refused(tmp_path, model_folder):
    path = released_rows(tmp_path)
    small = [
        *(s for s in SMALL if "num_train" not in s),
        f"model.path={model_folder}",
        "data=r1_reward_jsonl",
        f"data.path={path}",
    ]
    arguments = [*small, "data.held_out_fraction=0.2", "logger=none", "study=s", "arm=a", "trainer.save_model=false"]
    run(tmp_path, *arguments)
    folder = tmp_path / "runs" / "s" / "a-s0"
    written = (folder / "summary.json").read_bytes()
    text = run(tmp_path, *arguments)
    assert "is finished; trainer.resume=restart begins it anew" in text and "held out: 4 items" in text
    assert (folder / "summary.json").read_bytes() == written
    text = run(tmp_path, *arguments, "trainer.learning_rate=0.5", code=2)
    assert "holds a finished run with other settings:\n  trainer.learning_rate: 0.0002 -> 0.5" in text
    path.write_text(path.read_text().replace("A cat.", "A cow.", 1))
    text = run(tmp_path, *arguments, code=2)
    assert "the data changed since the run" in text and "1 row changed" in text and "trainer.resume=restart" in text
    run(tmp_path, *arguments, "trainer.resume=restart")
    assert (folder.with_name("a-s0.former-1") / "summary.json").read_bytes() == written
    assert (folder / "summary.json").read_bytes() != written


def released_rows(folder: Path, count: int = 24) -> Path:
    """Rows in the released format, with small photographs of noise."""
    from PIL import Image

    lines = []
    for index in range(count):
        name = f"photo_{index}.jpg"
        Image.effect_noise((60, 40), 60).convert("RGB").save(folder / name)
        text = f"Judge.\n\n[Question]\nQ{index}?\n\n[Response 1]\nA cat.\n\n[Response 2]\nA dog."
        message = [{"role": "user", "content": [{"type": "text", "text": text}, {"type": "image", "image": name}]}]
        answer = [f"<answer>{1 + index % 2}</answer>"]
        lines.append({"question": f"Q{index}?", "message": json.dumps(message), "answer": answer, "image": name})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_broken_rows_are_listed(tmp_path, model_folder):
    path = released_rows(tmp_path)
    small = [setting for setting in SMALL if "num_train" not in setting]
    data = ["data=r1_reward_jsonl", f"data.path={path}", "data.held_out_fraction=0.2"]
    broken = path.read_text().replace("photo_3.jpg", "gone.jpg").replace("<answer>1</answer>", "<answer>3</answer>", 1)
    path.write_text(broken)
    text = run(tmp_path, *data, f"model.path={model_folder}", *small, "logger=none", code=2)
    assert f"{path}: 2 rows have problems" in text
    assert "row 1, field answer" in text
    assert "row 4, field image" in text


def test_released_rows_train_on_photographs(tmp_path, model_folder, shared_data):
    run(
        tmp_path, "data=r1_reward_jsonl", f"data.path={shared_data / 'coco128' / 'preference.jsonl'}",
        f"model.path={model_folder}", *[setting for setting in SMALL if "num_train" not in setting], "logger=none",
    )  # fmt: skip
    folder = only(tmp_path, "runs/train/*")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["evaluation"]["after"]["held_out"]["n"] == 4
    assert list((folder / "images").glob("*.png"))


def test_help_and_config_come_without_torch(tmp_path):
    """What makes them quick: nothing heavy is imported before a job starts."""
    code = (
        "import sys; sys.argv = ['train', '--cfg', 'job']\n"
        "from r1reward.train import main\nmain()\n"
        "heavy = {'torch', 'transformers', 'trl', 'wandb', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "delta_max: 1000.0" in done.stdout
    text = run(tmp_path, "--help", cold=True)
    for group in ("advantage_filter: none, paper, released", "clip: cispo, clip_higher", "experiment: ablate_clip"):
        assert group in text


JUDGED = [
    "trainer.max_steps=2", "trainer.rollout_batch_size=64", "trainer.train_batch_size=32", "trainer.micro_batch_size=32",
    "data.num_train=64", "trainer.evaluate=false", "reward/judge=openai", "reward.judge.cache=judge.sqlite",
]  # fmt: skip


def test_a_language_model_behind_a_server_judges_consistency(tmp_path):
    """The embedded model writes well-formed verdicts, of which the right ones are judged: every other one as inconsistent."""
    with JudgeServer(lambda request: Answer(str(request.number % 2))) as server:
        run(tmp_path, *JUDGED, f"reward.judge.base_url={server.url}")
    (folder,) = tmp_path.glob("runs/train/*")
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert 10 < len(server.requests) < 64
    assert metrics[0]["judge/calls"] == len(server.requests)
    assert 0.2 < metrics[0]["rewards/consistency/mean"] < 0.8
    assert metrics[0]["judge/failure_rate"] == metrics[0]["judge/timeout"] == 0.0
    assert (tmp_path / "judge.sqlite").is_file()


def test_a_judge_that_keeps_failing_ends_the_run_with_a_clear_error(tmp_path):
    with JudgeServer(lambda request: Answer(status=401)) as server:
        text = run(tmp_path, *JUDGED, f"reward.judge.base_url={server.url}", code=3)
    assert "opinions of the judge failed (rejected " in text and "Traceback" not in text
    assert "raise reward.max_failure_rate" in text and "what was recorded is in" in text


def test_rows_of_several_tasks_train_together(tmp_path, model_folder):
    """Boxes, a choice and a text-only sum in one file, and a reward function of one's own: each has its metrics."""
    Image.new("RGB", (84, 84), "white").save(tmp_path / "white.png")
    turns = [{"from": "human", "value": "<image>Well?"}, {"from": "gpt", "value": "B"}]
    kinds = [
        {"task": "rec", "image": "white.png", "conversations": [turns[0], {"from": "gpt", "value": "[1, 2, 30, 40]"}]},
        {"accu_reward_method": "mcq", "image": ["white.png", "white.png"], "conversations": turns},
        {"task": "number", "conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": 2}]},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in kinds * 8))
    (tmp_path / "my_rewards.py").write_text("def short(completions, **columns):\n    return [1.0] * len(completions)\n")
    run(
        tmp_path, f"model.path={model_folder}", *SMALL[:5], "advantage_filter=none", "data=vlm_r1_jsonl",
        "data.path=rows.jsonl", "data.held_out_fraction=0",
        "+reward.tasks.number.terms.short={function: my_rewards.short, weight: 0.5}",
    )  # fmt: skip
    (folder,) = tmp_path.glob("runs/train/*")
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for key in ("rec/iou", "rec/format", "multiple_choice/multiple_choice", "number/number", "number/short"):
        assert any(f"rewards/{key}/mean" in row for row in metrics), key
    assert all(row["rewards/number/short/mean"] == 1.0 for row in metrics if row.get("rewards/number/short/mean") is not None)
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert {sample["task"] for sample in samples} == {"rec", "multiple_choice", "number"}


TASK_SIZES = [*SMALL[:4], "trainer.max_completion_length=16", "advantage_filter=none", "logger=none", "study=s", "arm=a"]


@pytest.mark.parametrize("name", ["rec", "ovd"])
def test_boxes_train_on_photographs(tmp_path, shared_data, model_folder, name):
    """216 expressions and 128 detections on COCO's photographs, whose tasks follow from their answers."""
    path = shared_data / "coco128" / f"{name}.jsonl"
    text = run(tmp_path, f"model.path={model_folder}", *TASK_SIZES, "data=vlm_r1_jsonl", f"data.path={path}", "data.num_eval=8")
    folder = tmp_path / "runs" / "s" / "a-s0"
    term = {"rec": "rec/iou", "ovd": "ovd/od_length"}[name]
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == 2 and math.isfinite(metrics[0][f"rewards/{term}/mean"])
    for moment in ("before", "after"):
        held_out = json.loads((folder / "summary.json").read_text())["evaluation"][moment]["held_out"]
        assert held_out["n"] == 8 and set(held_out["by_task"]) == {name}
    assert name in text


def test_rows_with_two_images_one_and_none_lie_in_one_batch(tmp_path, shared_data, model_folder):
    """Three photographs in turns, a comparison of two, a sum: with shared prompts, and as TRL does."""
    photographs = sorted(path.name for path in (shared_data / "coco128" / "images").iterdir())[:24]
    rows = []
    for first, second in zip(photographs, photographs[1:] + photographs[:1], strict=True):
        for question, answer, images in (("Same?", "no", [first, second]), ("What?", "A", [first]), ("1 + 1?", 2, [])):
            turns = [{"from": "human", "value": "<image>" * len(images) + question}, {"from": "gpt", "value": answer}]
            rows.append({"conversations": turns} | ({"image": images} if images else {}))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = ["data=vlm_r1_jsonl", "data.path=rows.jsonl", f"data.image_root={shared_data / 'coco128' / 'images'}"]
    data += ["data.held_out_fraction=0"]  # the comparisons tie all photographs together
    for share in ("true", "false"):
        sizes = [size for size in TASK_SIZES[:-1] if "rollout" not in size] + ["trainer.rollout_batch_size=32"]
        arguments = [*sizes, f"arm=share-{share}", f"trainer.share_prefix={share}", "trainer.evaluate=false"]
        arguments += ["algorithm=grpo", "algorithm.num_generations=2", "model.max_pixels=3136"]
        run(tmp_path, f"model.path={model_folder}", *arguments, *data, "trainer.samples_per_batch=32")
        samples = (tmp_path / "runs" / "s" / f"share-{share}-s0" / "samples.jsonl").read_text().splitlines()
        assert {len(json.loads(sample)["images"]) for sample in samples} == {0, 1, 2}


def test_preferences_boxes_detections_and_choices_are_one_run(tmp_path):
    """Each task's terms are in the metrics and in the summary; the page shows them."""
    tasks = ["preference", "rec", "ovd", "multiple_choice"]
    run(
        tmp_path, "model=embedded_visual", *TASK_SIZES[:4], "advantage_filter=none", "logger=none", "study=s", "arm=a",
        "trainer.max_completion_length=100", f"data.tasks=[{','.join(tasks)}]", "data.num_train=64", "data.num_eval=8",
    )  # fmt: skip
    folder = tmp_path / "runs" / "s" / "a-s0"
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for term in ("preference/result", "rec/iou", "ovd/od_length", "multiple_choice/multiple_choice"):
        assert any(row.get(f"rewards/{term}/mean") is not None for row in metrics), term
    assert not any(isinstance(value, float) and math.isnan(value) for row in metrics for value in row.values())
    after = json.loads((folder / "summary.json").read_text())["evaluation"]["after"]["held_out"]
    assert {task: block["n"] for task, block in after["by_task"].items()} == dict.fromkeys(tasks, 2)
    text = run(tmp_path, "runs/s", module="compare")
    assert all(task in text for task in tasks)


def test_supervised_training_on_the_rows_of_an_experiment(tmp_path):
    text = run(
        tmp_path, "+experiment=shapes_rec", "stage=sft", "trainer.max_steps=2", "trainer.rollout_batch_size=64",
        "trainer.train_batch_size=32", "trainer.micro_batch_size=32", "data.num_train=64", "data.num_eval=8", "logger=none",
    )  # fmt: skip
    folder = only(tmp_path, "runs/shapes_rec/*")
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["rewards/rec/iou/mean"] == 1.0 and len(metrics) == 2  # the targets are right
    assert json.loads((folder / "summary.json").read_text())["run"]["stage"] == "sft"
    assert "accuracy" in text
