import base64
import http.server
import json
import math
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from r1reward.tracking.trackers import SECTIONS, NullTracker, WandbTracker, build_tracker, section
from tests.tracking.wandb_file import read_run

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = {"project": "r1reward-tests", "study": "ablation", "name": "paper-s3", "arm": "paper", "seed": 3}
NESTED = {"evaluation": {"after": {"held_out": {"n": 8, "accuracy": {"mean": 0.75}}}}}


def start(folder: Path, **changes) -> WandbTracker:
    return build_tracker("wandb", **{**ARGUMENTS, "config": {"clip": {"name": "paper"}}, "folder": folder, **changes})


def test_an_offline_wandb_run_keeps_config_every_step_and_summary(tmp_path):
    with start(tmp_path, tags=["tiny", "paper"]) as tracker:
        for step in range(1, 41):
            tracker.log({"loss": step / 4, "rewards/result/mean": 0.5, "note": "not a number"}, step=step)
        tracker.summary(NESTED)
        assert tracker.sync_command is None
    found = read_run(tmp_path)
    assert (found.run.project, found.run.run_group, found.run.display_name) == (
        "r1reward-tests",
        "ablation",
        "paper-s3",
    )
    assert (found.run.job_type, sorted(found.run.tags)) == ("train", ["paper", "tiny"])
    assert found.config["clip"] == {"name": "paper"}
    assert found.config["job"] == {"study": "ablation", "arm": "paper", "seed": 3}
    assert [row["step"] for row in found.history] == list(range(1, 41))
    assert [row["train/loss"] for row in found.history] == [step / 4 for step in range(1, 41)]
    assert found.history[0]["reward/result/mean"] == 0.5 and "train/note" not in found.history[0]
    assert found.summary["evaluation/after/held_out/accuracy/mean"] == 0.75
    assert found.exit_code == 0
    (run_dir,) = tmp_path.glob("wandb/offline-run-*")
    assert tracker.sync_command == f"wandb sync {run_dir}"


def test_a_nan_loss_and_a_step_back_survive_in_wandb(tmp_path):
    with start(tmp_path) as tracker:
        tracker.log({"loss": math.nan, "grad_norm": math.inf}, step=5)
        tracker.log({"loss": 1.0}, step=4)  # as after a resume from an earlier checkpoint
    history = read_run(tmp_path).history
    assert math.isnan(history[0]["train/loss"]) and history[0]["train/grad_norm"] == math.inf
    assert (history[1]["step"], history[1]["train/loss"]) == (4, 1.0)


KEY = "sk-proj-0123456789abcdefghij"


def test_no_file_of_wandb_holds_a_key(tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_API_KEY", "correct-horse-battery")
    monkeypatch.setattr(sys, "argv", ["train.py", "hydra.job.env_set.JUDGE_API_KEY=correct-horse-battery", f"x={KEY}"])
    config = {"base_url": "http://me:my-password@localhost:8000/v1", "extra": {"list": [KEY], "hub_token": "my-hub-token"}}
    with start(tmp_path, config=config, tags=[KEY], name=f"run {KEY}") as tracker:
        tracker.log({"loss": 1.0}, step=1)
        tracker.summary({"run": {"command": "x=correct-horse-battery"}})
    found = read_run(tmp_path)
    assert found.config["base_url"] == "http://me:***@localhost:8000/v1"
    assert found.config["extra"] == {"list": ["***"], "hub_token": "***"}
    assert found.run.display_name == "run ***" and "***" in found.run.tags
    assert found.summary["run/command"] == "x=***"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3
    for secret in (b"correct-horse-battery", KEY.encode(), b"my-password", b"my-hub-token"):
        assert [path for path in files if secret in path.read_bytes()] == []
    assert sys.argv[2] == f"x={KEY}"


def test_an_exception_finishes_the_run_as_failed(tmp_path):
    with pytest.raises(RuntimeError, match="boom"), start(tmp_path) as tracker:
        tracker.log({"loss": 2.0}, step=1)
        raise RuntimeError("boom")
    found = read_run(tmp_path)
    assert found.exit_code == 1 and len(found.history) == 1


def test_runs_of_one_process_never_merge(tmp_path):
    first = start(tmp_path / "a", arm="a", job_type="evaluate")
    first.log({"loss": 1.0}, step=1)
    with start(tmp_path / "b", arm="b") as second:  # the first is still open
        second.log({"loss": 2.0}, step=1)
    first.finish()  # harmless
    a, b = read_run(tmp_path / "a"), read_run(tmp_path / "b")
    assert [row["train/loss"] for row in a.history] == [1.0] and [row["train/loss"] for row in b.history] == [2.0]
    assert a.run.run_id != b.run.run_id and a.run.job_type == "evaluate" and a.config["job"]["arm"] == "a"


def test_a_resumed_job_continues_the_same_wandb_run(tmp_path):
    for _ in range(2):
        with start(tmp_path) as tracker:
            tracker.log({"loss": 1.0}, step=1)
    names = {path.name for path in tmp_path.glob("wandb/offline-run-*/run-*.wandb")}
    assert names == {f"run-{(tmp_path / 'wandb_id.train.txt').read_text().strip()}.wandb"}


def test_an_id_that_a_full_disk_cut_off_is_made_anew(tmp_path):
    (tmp_path / "wandb_id.train.txt").write_text("")
    with start(tmp_path) as tracker:
        tracker.log({"loss": 1.0}, step=1)
    assert len((tmp_path / "wandb_id.train.txt").read_text().strip()) == 8


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


WANDB_JOB = """
import sys
from r1reward.tracking.trackers import build_tracker
folder, seed = sys.argv[1], int(sys.argv[2])
facts = dict(project="p", study="s", name=f"a-s{seed}", arm="a", seed=seed)
with build_tracker("wandb", **facts, config={}, folder=folder) as run:
    for step in range(1, 301):
        run.log({"loss": 1000 * seed + step}, step=step)
    run.summary({"accuracy": seed / 10})
"""


def test_parallel_offline_processes_lose_nothing(tmp_path):
    jobs = [run_python(WANDB_JOB, str(tmp_path / str(seed)), str(seed)) for seed in (1, 2)]
    for job in jobs:
        _, error = job.communicate(timeout=120)
        assert job.returncode == 0, error
    for seed in (1, 2):
        found = read_run(tmp_path / str(seed))
        assert [row["train/loss"] for row in found.history] == [1000 * seed + step for step in range(1, 301)]
        assert found.summary["accuracy"] == seed / 10 and found.config["job"]["seed"] == seed


class WandbServer(http.server.BaseHTTPRequestHandler):
    """A server of one's own that knows one key, sent as W&B does."""

    key = "0123456789" * 4

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        is_known = self.headers.get("authorization") == "Basic " + base64.b64encode(f"api:{self.key}".encode()).decode()
        viewer = {"id": "1", "entity": "e", "username": "u", "flags": "{}", "teams": {"edges": []}}
        said = {"data": {"viewer": viewer}} if is_known else {"errors": [{"message": "user is not logged in"}]}
        body = json.dumps(said).encode()
        self.send_response(200 if is_known else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def wandb_server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), WandbServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


CHECK = """
from r1reward.tracking.trackers import check_tracker
try:
    check_tracker("wandb")
except ValueError as error:
    print("REFUSED", type(error).__name__, error)
else:
    print("ACCEPTED")
"""


@pytest.mark.parametrize(
    ("netrc", "key", "expected"),
    [
        ("machine {host} login user password {known}", "", "ACCEPTED"),
        ("", WandbServer.key, "ACCEPTED"),
        ("", "9" * 40, "REFUSED TrackerFailed .*{host}.* user is not logged in"),
        ("machine {host} login user password 9999999999999999999999999999999999999999", "", "REFUSED TrackerFailed"),
        ("", "short", "REFUSED TrackerFailed .*WANDB_API_KEY"),
        ("machine api.wandb.ai login user password {known}", "", "REFUSED ValueError .*there is no key"),
    ],
)
def test_a_key_is_found_where_wandb_finds_it_and_shown_to_its_server(tmp_path, wandb_server, netrc, key, expected):
    """The address of a server of one's own stands in W&B's settings file."""
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text(f"[default]\nbase_url = http://{wandb_server}\n")
    (tmp_path / ".netrc").write_text(netrc.format(host=wandb_server, known=WandbServer.key))
    places = {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc"), "WANDB_CONFIG_DIR": str(tmp_path / "wandb")}
    job = run_python(CHECK, **places, WANDB_MODE="online", WANDB_API_KEY=key)
    output, error = job.communicate(timeout=60)
    assert re.search(expected.format(host=wandb_server), output), output + error


TRACKIO_JOB = """
import json, math
from r1reward.tracking.trackers import build_tracker
facts = dict(project="p", study="s", name="a-s1", arm="a", seed=1)
try:
    with build_tracker("trackio", **facts, config={"clip": {"name": "paper"}}, folder="unused") as run:
        for step in range(1, 6):
            run.log({"loss": math.nan if step == 3 else step / 2}, step=step)
        run.summary({"after": {"accuracy": 0.75}})
        raise RuntimeError("boom")
except RuntimeError:
    pass
import trackio
from trackio.sqlite_storage import SQLiteStorage
(found,) = trackio.Api().runs("p")
print("FOUND", json.dumps({"config": found.config, "logs": SQLiteStorage.get_logs("p", "a-s1")}, default=str))
"""


def test_a_trackio_run_can_be_read_back(tmp_path):
    pytest.importorskip("trackio", reason="needs the extra r1reward[trackio]")
    # A process of its own: trackio reads TRACKIO_DIR when it is imported.
    output, error = (job := run_python(TRACKIO_JOB, TRACKIO_DIR=str(tmp_path))).communicate(timeout=120)
    assert job.returncode == 0, error
    found = json.loads(output.split("FOUND ")[1].splitlines()[0])  # trackio prints too, also on its way out
    assert found["config"]["clip"] == {"name": "paper"} and found["config"]["job"]["arm"] == "a"
    losses = {row["step"]: row["train/loss"] for row in found["logs"] if "train/loss" in row}
    assert math.isnan(losses.pop(3)) and losses == {1: 0.5, 2: 1.0, 4: 2.0, 5: 2.5}
    summary = {key: value for row in found["logs"] for key, value in row.items() if key.startswith("summary/")}
    assert summary == {"summary/after/accuracy": 0.75, "summary/failed": 1}


def test_trackio_missing_names_the_remedy():
    code = "import sys; sys.modules['trackio'] = None\nfrom r1reward.tracking.trackers import build_tracker\n"
    code += "build_tracker('trackio', project='p', study='s', name='n', arm='a', seed=0, config={})"
    _, error = run_python(code).communicate(timeout=60)
    assert "pip install trackio" in error


def test_sections_of_known_metrics():
    assert section("rewards/result/mean") == "reward/result/mean"
    assert section("reward") == "reward/mean"
    assert section("loss") == "train/loss"
    assert section("entropy") == "train/entropy"
    assert section("advantage_filter/fraction_wrong") == "stability/advantage_filter/fraction_wrong"
    assert section("pre_clip/fraction") == "stability/pre_clip/fraction"
    assert section("log_ratio/max_abs") == "stability/log_ratio/max_abs"
    assert section("clip_ratio/region_mean") == "stability/clip_ratio/region_mean"
    assert section("completions/mean_length") == "rollout/mean_length"
    assert section("eval_loss") == "evaluation/loss"
    assert section("my_section/x") == "my_section/x"


def test_no_two_metrics_share_a_chart():
    prefixes = {name for name in SECTIONS if name.endswith(("/", "_"))}
    raw = (set(SECTIONS) - prefixes) | {"std", "step", "mean_length", "loss", "other/a"}
    raw |= {prefix + name for prefix in prefixes for name in ("a", "b/mean", "mean_length", "loss")}
    assert len({section(name) for name in raw}) == len(raw)


def test_tracker_kinds():
    tracker = build_tracker("none", **ARGUMENTS, config={}, folder="unused")
    assert isinstance(tracker, NullTracker)
    with tracker:
        tracker.log({"loss": 1.0}, step=1)
    with pytest.raises(ValueError, match="unknown tracker 'tensorboard'.*none.*trackio.*wandb"):
        build_tracker("tensorboard")
