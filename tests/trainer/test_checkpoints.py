"""Checkpoints are whole or not there; damage is found; the right ones stay."""

import json
import os
import warnings

import pytest

from r1reward.trainer.checkpoints import Checkpoints, CheckpointSkipped, DamagedCheckpoint, verify


def write(checkpoints: Checkpoints, step: int, score: float | None = None, content: bytes = b"weights"):
    parts = checkpoints.begin() / f"checkpoint-{step}"
    (parts / "inner").mkdir(parents=True)
    (parts / "model").write_bytes(content * 100)
    (parts / "inner" / "state").write_bytes(b"%d" % step)
    return checkpoints.finish(parts, step, score)


def test_a_checkpoint_is_whole_and_verified(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() is None
    path = write(checkpoints, 4)
    assert path == tmp_path / "checkpoint-4" == checkpoints.newest()
    verify(path)
    assert json.loads((path / "manifest.json").read_text())["files"]["model"][0] == 700
    assert not checkpoints.partial.exists()


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_manifest(path):
    path.write_text(path.read_text().replace('"step": 8', '"step": 9'))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model", shorten, "model has 699 bytes, 700 were written"),
        ("model", flip_a_bit, "model is not what was written"),
        ("model", os.unlink, "model is missing"),
        ("inner/state", flip_a_bit, "inner/state is not what was written"),
        ("manifest.json", os.unlink, "no intact manifest.json"),
        ("manifest.json", shorten, "no intact manifest.json"),
        ("manifest.json", other_manifest, "no intact manifest.json"),
    ],
)
def test_a_damaged_one_is_found_and_the_one_before_is_used(tmp_path, name, damage, message):
    checkpoints = Checkpoints(tmp_path)
    write(checkpoints, 4)
    path = write(checkpoints, 8)
    damage(path / name)
    with pytest.raises(DamagedCheckpoint, match=message):
        verify(path)
    with pytest.warns(CheckpointSkipped, match=f"{message}.*the one before it is used"):
        assert checkpoints.newest() == tmp_path / "checkpoint-4"
    assert (tmp_path / "damaged-checkpoint-8").is_dir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoints.newest() == tmp_path / "checkpoint-4"  # said once
    shorten(tmp_path / "checkpoint-4" / "model")
    assert checkpoints.newest() == tmp_path / "checkpoint-4"  # looked at once
    write(checkpoints, 8)
    assert not (tmp_path / "damaged-checkpoint-8").exists()
    assert checkpoints.newest() == path


def test_nothing_whole_is_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    shorten(write(checkpoints, 4) / "model")
    with pytest.warns(CheckpointSkipped):
        assert checkpoints.newest() is None


def test_what_a_killed_run_left_half_written_is_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    write(checkpoints, 4)
    parts = checkpoints.begin() / "checkpoint-8"
    parts.mkdir()
    (parts / "model").write_bytes(b"half")
    assert checkpoints.newest() == tmp_path / "checkpoint-4"
    write(checkpoints, 8)
    verify(tmp_path / "checkpoint-8")
    assert not (tmp_path / ".partial").exists()


def test_one_that_is_written_again_replaces_the_former(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    write(checkpoints, 4, content=b"former")
    path = write(checkpoints, 4, content=b"latter")
    verify(path)
    assert (path / "model").read_bytes() == b"latter" * 100


def test_killed_while_one_takes_anothers_place_the_former_stays(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    path = write(checkpoints, 4, content=b"former")
    replace = os.replace

    def killed(source, target):
        if target == path:  # the former lies aside, the new one is not yet there
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(Checkpoints, "abandon", lambda self: None)  # a killed process tidies nothing up
    with pytest.raises(KeyboardInterrupt):
        parts = checkpoints.partial / "checkpoint-4"
        checkpoints.replaced.mkdir()
        parts.mkdir(parents=True)
        (parts / "model").write_bytes(b"latter")
        checkpoints.finish(parts, 4)
    monkeypatch.undo()
    assert not path.exists()
    assert Checkpoints(tmp_path).newest() == path
    assert (path / "model").read_bytes() == b"former" * 100
    assert not checkpoints.replaced.exists()


def test_failing_to_write_leaves_the_former_ones(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    write(checkpoints, 4)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(checkpoints, 8)
    assert checkpoints.steps() == [4]
    assert not checkpoints.partial.exists()
    verify(tmp_path / "checkpoint-4")


@pytest.mark.parametrize(
    ("keep_last", "keep_best", "left"),
    [(1, 0, [50]), (2, 0, [40, 50]), (2, 1, [20, 40, 50]), (1, 2, [10, 20, 50]), (9, 0, [10, 20, 30, 40, 50])],
)
def test_the_latest_and_the_best_stay(tmp_path, keep_last, keep_best, left):
    """Of equal scores the later one; one without a score is no candidate. By step, not by time of writing."""
    checkpoints = Checkpoints(tmp_path, keep_last, keep_best)
    for step, score in ((10, 0.6), (20, 0.7), (30, 0.5), (40, None), (50, 0.55)):
        path = write(checkpoints, step, score)
        os.utime(path, (1e9 - step, 1e9 - step))  # a clock that runs backwards
    assert checkpoints.steps() == left


def test_the_newest_is_the_one_of_the_highest_step(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (9, 10):
        os.utime(write(checkpoints, step), (2e9 - step, 2e9 - step))
    (tmp_path / "checkpoint-best").mkdir()  # not ours
    assert checkpoints.newest() == tmp_path / "checkpoint-10"
