"""A finished run is extended by more steps; what `trainer.resume=force` cannot do, it says."""

import json

import pytest
import torch

from r1reward.configs import compose_settings
from r1reward.trainer.job import Job
from tests.reference_config import composed
from tests.trainer.test_job_on_tasks import write_rows


@pytest.fixture
def run(make_model, processor, tmp_path):
    """Prepare and run a job in a folder; returns the job and its summary."""
    write_rows(tmp_path / "rows.jsonl")
    processor.save_pretrained(tmp_path / "model")
    make_model().save_pretrained(tmp_path / "model")
    small = [
        "data=vlm_r1_jsonl", f"data.path={tmp_path / 'rows.jsonl'}", "data.held_out_fraction=0.5", "logger=none",
        f"model.path={tmp_path / 'model'}", "trainer.evaluate=false", "trainer.rollout_batch_size=8",
        "trainer.train_batch_size=4", "trainer.micro_batch_size=4", "algorithm.num_generations=2", "advantage_filter=none",
        "trainer.max_completion_length=4", "trainer.save_steps=3", "trainer.learning_rate=1e-2",
        "+reward.tasks.number.terms.letters={function: tests.trainer.conftest.letters, weight: 1.0}",  # something to learn
    ]  # fmt: skip

    def run(folder: str, *overrides: str):
        config = composed(*small, *overrides)
        config.arm = "test"
        job = Job.prepare(compose_settings(config), tmp_path / folder, "train")
        return job, (job.run_folder.read_summary() if job.finished else job.run())

    return run


def weights(folder) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize("first", [2, 3])  # a whole rollout batch, and a half
def test_a_finished_run_that_is_extended_is_one_long_run(run, tmp_path, first):
    constant = "trainer.lr_scheduler_type=constant"
    run("extended", f"trainer.max_steps={first}", constant)
    before = weights(tmp_path / "extended")
    _, summary = run("extended", "trainer.max_steps=5", constant)
    job, _ = run("whole", "trainer.max_steps=5", constant)
    assert summary["steps"] == 5
    assert [row["step"] for row in job.run_folder.read_metrics()] == [1, 2, 3, 4, 5]
    found, expected = weights(tmp_path / "extended"), weights(tmp_path / "whole")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert any(not torch.equal(found[name], value) for name, value in before.items())
    kept = json.loads((tmp_path / "extended" / "summary.before-resume-1.json").read_text())
    assert kept["steps"] == first
    assert run("extended", "trainer.max_steps=5", constant)[1]["steps"] == 5  # finished again, and shown


def test_a_schedule_goes_on_as_that_of_the_longer_run(run, caplog):
    """Linear: of 2 steps it has fallen to 0 at the end; step 3 of 4 is taken with half of the rate, as in one run of 4."""
    linear = "trainer.warmup_steps=0", "trainer.lr_scheduler_type=linear"
    run("run", "trainer.max_steps=2", *linear)
    job, _ = run("run", "trainer.max_steps=4", *linear)
    assert "learning rate" in caplog.text
    whole, _ = run("whole", "trainer.max_steps=4", *linear)
    rates, expected = ([row["learning_rate"] for row in one.run_folder.read_metrics()] for one in (job, whole))
    assert rates[:2] != expected[:2] and rates[2:] == pytest.approx(expected[2:])


def test_an_evaluation_alone_is_extended_from_the_start(run):
    run("run", "trainer.max_steps=0")
    assert run("run", "trainer.max_steps=1")[1]["steps"] == 1


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ([], ["trainer.max_steps=1"], "2 steps already"),
        ([], ["trainer.max_steps=4", "trainer.learning_rate=1e-3"], "finished run with other settings"),
        ([], ["trainer.learning_rate=1e-3", "trainer.resume=force"], "max_steps alone"),
        ([], ["trainer.max_steps=4", "seed=1", "trainer.resume=force"], "max_steps alone"),
        (["trainer.save_steps=0"], ["trainer.save_steps=0", "trainer.max_steps=4"], "kept no checkpoint"),
    ],
    ids=["fewer", "more and else", "force", "force and more", "no checkpoint"],
)
def test_what_a_finished_run_cannot_become(run, tmp_path, first, then, message):
    run("run", "trainer.max_steps=2", *first)
    written = (tmp_path / "run" / "summary.json").read_bytes()
    with pytest.raises(ValueError, match=message):
        run("run", *(["trainer.max_steps=2"] if "max_steps" not in str(then) else []), *then)
    assert (tmp_path / "run" / "summary.json").read_bytes() == written


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ("trainer.learning_rate=1e-3", "trainer.learning_rate"),
        ("trainer.weight_decay=0.5", "trainer.weight_decay"),
        ("adapter=lora", "adapter.kind"),
        ("trainer.max_steps=1", "2 steps already"),
        ("model.freeze=[vision]", "model.freeze"),
        ("trainer.temperature=0.7", None),
        ("trainer.micro_batch_size=2", None),
        ("trainer.max_steps=3", None),
    ],
)
def test_force_says_what_it_cannot_change(run, tmp_path, change, refused):
    run("run", "trainer.max_steps=2")
    (tmp_path / "run" / "summary.json").unlink()  # as if it had been stopped at its last checkpoint
    overrides = ([] if "max_steps" in change else ["trainer.max_steps=2"]) + [change, "trainer.resume=force"]
    if refused is None:
        assert run("run", *overrides)[1]["steps"] >= 2
        return
    with pytest.raises(ValueError, match=refused):
        run("run", *overrides)


@pytest.mark.parametrize("change", ["trainer.micro_batch_size=2", "trainer.rollout_batch_size=16", "trainer.num_iterations=2"])
def test_rollouts_that_are_in_use_keep_their_sizes(run, tmp_path, change):
    run("run", "trainer.max_steps=3")  # two updates per rollout batch: the checkpoint of step 3 holds one for step 4
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(ValueError, match=change.partition("=")[0]):
        run("run", "trainer.max_steps=6", change, "trainer.resume=force")
