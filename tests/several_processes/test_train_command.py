"""`accelerate launch -m r1reward.train` as a user types it, and again: the run is finished."""

import json

from tests.end_to_end.test_command_line import SMALL, model_folder, only  # noqa: F401
from tests.several_processes.launcher import launch


def test_two_processes_train_and_evaluate(tmp_path, model_folder):  # noqa: F811
    arguments = [f"model.path={model_folder}", "logger=none", *SMALL, "trainer.micro_batch_size=4", "trainer.eval_steps=1"]
    arguments += ["trainer.save_steps=1", "data.num_eval=3", "trainer.eval_batch_size=4"]
    code, text = launch("r1reward.train", *arguments, folder=tmp_path)
    assert code == 0, text
    folder = only(tmp_path, "runs/train/*")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 2 and summary["run"]["processes"] == 2
    for moment in ("before", "after"):
        assert summary["evaluation"][moment]["held_out"]["n"] == 3
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [1, 2]
    assert (folder / "model" / "model.safetensors").is_file()
    assert (folder / "samples.jsonl").read_text().count('"step": 0') == 8  # the main process's half of the rollouts
