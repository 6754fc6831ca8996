"""A job whose held-out rows are visual tasks: checked before it begins, evaluated with the reward that trains."""

import json

import pytest
from PIL import Image

from r1reward.configs import compose_settings
from r1reward.data.build import build_splits
from r1reward.tracking.records import write_whole
from r1reward.trainer.job import BEFORE, Job, uses_per_epoch
from tests.reference_config import composed


def write_rows(path, changed: dict | None = None):
    """Sixteen counting questions on sixteen images; `changed`: what a row by its id is instead."""
    lines = []
    for number in range(16):
        Image.new("RGB", (28, 28), (15 * number, 0, 0)).save(path.parent / f"{number}.png")
        conversations = [{"from": "human", "value": f"How many, {number}?"}, {"from": "gpt", "value": str(number)}]
        row = {"id": str(number), "image": f"{number}.png", "conversations": conversations, "task": "number"}
        lines.append(json.dumps(row | (changed or {}).get(str(number), {})))
    path.write_text("\n".join(lines))


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path)

    def make(*overrides: str):
        config = composed("data=vlm_r1_jsonl", f"data.path={path}", "data.held_out_fraction=0.5", "logger=none", *overrides)
        config.arm = "test"
        return compose_settings(config)

    return make


@pytest.fixture
def held_out(settings):
    """The ids of the held-out rows."""
    return [row.id for row in build_splits(settings().data).evaluation["held_out"]]


def test_a_broken_held_out_row_is_reported_before_anything_is_done(settings, held_out, tmp_path):
    answer = [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": "many"}]
    write_rows(tmp_path / "rows.jsonl", {held_out[0]: {"conversations": answer}})
    with pytest.raises(ValueError, match=f"row '{held_out[0]}', task number: .*'many'"):
        Job.prepare(settings("trainer.max_steps=0"), tmp_path / "run", "train")
    write_rows(tmp_path / "rows.jsonl", {held_out[0]: {"task": "nothing"}})
    with pytest.raises(ValueError, match="rows name the task 'nothing', which has no reward"):
        Job.prepare(settings("trainer.max_steps=0"), tmp_path / "run", "train")
    assert not (tmp_path / "run").exists()
    Job.prepare(settings("trainer.max_steps=0", "trainer.evaluate=false"), tmp_path / "run", "train").run_folder.unlock()


def test_a_task_that_only_held_out_rows_name_is_measured(settings, held_out, make_model, processor, tmp_path):
    """And accuracy before training is measured again where what it depends on changed, and only there."""
    write_rows(tmp_path / "rows.jsonl", {held_out[0]: {"task": "exact"}})
    overrides = ["trainer.max_completion_length=4", "model.path=" + str(tmp_path / "model"), "trainer.resume=force"]
    processor.save_pretrained(tmp_path / "model")
    make_model().save_pretrained(tmp_path / "model")

    def run(*changes: str) -> dict:
        (tmp_path / "run" / "summary.json").unlink(missing_ok=True)  # as if it had been stopped
        job = Job.prepare(settings("trainer.max_steps=0", *overrides, *changes), tmp_path / "run", "train")
        return job.run()["evaluation"]["before"]["held_out"]

    found = run()
    assert {task: block["n"] for task, block in found["by_task"].items()} == {"exact": 1, "number": len(held_out) - 1}
    assert list(found["by_task"]["exact"]["terms"]) == ["exact", "format"]
    kept = json.loads((tmp_path / "run" / BEFORE).read_text())
    marked = kept | {"evaluation": {"held_out": found | {"n": -1}}}
    write_whole(tmp_path / "run" / BEFORE, json.dumps(marked))
    assert run("trainer.learning_rate=1e-5")["n"] == -1
    assert run("reward.tasks.number.terms.format.function=box_format")["n"] == len(held_out)


def test_few_rows_are_used_again_until_they_fill_a_rollout_batch(settings, tmp_path):
    """All 16 rows are trained on: a rollout batch of 128 takes each 8 times, with 8 rollouts each once; of 192, 12 times."""
    for overrides, times in (([], 8), (["algorithm=grpo"], 1), (["trainer.rollout_batch_size=192"], 12)):
        few = settings(*overrides, "data.held_out_fraction=0")
        assert uses_per_epoch(few, build_splits(few.data)) == times
    with pytest.warns(UserWarning, match="16 training rows x 1 .* batch of 128: each row is used 8 times per epoch"):
        Job.prepare(settings("data.held_out_fraction=0"), tmp_path / "run", "train").run_folder.unlock()
