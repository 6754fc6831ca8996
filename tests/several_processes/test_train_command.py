"""`accelerate launch -m r1reward.train` as a user types it: it runs, is stopped, and goes on exactly."""

import json
import shutil
import signal
import threading
import time
from pathlib import Path

import psutil

from tests.end_to_end.test_command_line import SMALL, model_folder, steps  # noqa: F401
from tests.several_processes.launcher import launch


def test_two_processes_train_and_go_on_to_the_same_end(tmp_path, model_folder):  # noqa: F811
    """Stopped by a signal to the launcher, with a checkpoint of both processes; then taken up again in an earlier one."""
    arguments = [f"model.path={model_folder}", "logger=none", *SMALL, "trainer.micro_batch_size=4", "trainer.eval_batch_size=4"]
    arguments += ["trainer.max_steps=40", "trainer.save_steps=7", "trainer.keep_last=9", "trainer.eval_steps=20"]
    arguments += ["data.num_eval=3", "study=s", "arm=a"]
    folder = tmp_path / "runs" / "s" / "a-s0"
    stopper = threading.Thread(target=stop_launcher_after, args=(folder / "metrics.jsonl", 4))
    stopper.start()
    code, text = launch("r1reward.train", *arguments, folder=tmp_path)
    stopper.join()
    assert code != 0 and text.count("stopped by SIGTERM; the same command goes on from here") == 2, text
    reached = steps(folder)[-1]
    assert 4 <= reached < 40
    assert {path.name for path in (folder / "checkpoints" / f"checkpoint-{reached}").glob("state-?.json")} == {
        "state-0.json", "state-1.json",
    }  # fmt: skip

    code, text = launch("r1reward.train", *arguments, folder=tmp_path)
    assert code == 0, text
    assert steps(folder) == list(range(1, 41))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 40 and summary["run"]["processes"] == 2
    assert all(summary["evaluation"][moment]["held_out"]["n"] == 3 for moment in ("before", "after"))
    assert (folder / "samples.jsonl").read_text().count('"step": 0') == 8  # the main process's half of the rollouts
    whole = (folder / "model" / "model.safetensors").read_bytes()
    for step in (28, 35, 40):
        shutil.rmtree(folder / "checkpoints" / f"checkpoint-{step}")
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "model")
    code, text = launch("r1reward.train", *arguments, folder=tmp_path)
    assert code == 0, text
    assert steps(folder) == list(range(1, 41))
    assert (folder / "model" / "model.safetensors").read_bytes() == whole


def stop_launcher_after(metrics: Path, count: int):
    """Send SIGTERM to the launcher, a child of this process, once the run has recorded so many steps."""
    until = time.monotonic() + 200
    while time.monotonic() < until and not (metrics.exists() and len(metrics.read_text().splitlines()) >= count):
        time.sleep(0.05)
    for child in psutil.Process().children():
        if "accelerate.commands.launch" in " ".join(child.cmdline()):
            child.send_signal(signal.SIGTERM)
