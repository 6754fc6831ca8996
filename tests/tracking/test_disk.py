"""A disk that is full: recognised whoever reports it, said in one sentence, and no half file in the place of a whole one."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1reward.tracking.disk import disk_error
from r1reward.tracking.records import append, write_whole

LIMITED = """
import json, resource, sys
from pathlib import Path
from r1reward.tracking.disk import disk_error
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

def attempt(write):
    try:
        write()
    except Exception as error:
        return [type(error).__name__, disk_error(error)]
    return None
"""


def limited(code: str, folder: Path) -> dict:
    """What `code` prints in a process whose files may not grow beyond 100 kB."""
    output = subprocess.run(
        [sys.executable, "-c", LIMITED + code, str(folder)], capture_output=True, text=True, check=True
    ).stdout
    return json.loads(output.splitlines()[-1])


WEIGHTS = """
import torch, safetensors.torch
weights = {"a": torch.zeros(200_000)}

def to_open_file():
    with open(folder / "c", "wb") as file:
        torch.save(weights, file)

print(json.dumps({
    "safetensors": attempt(lambda: safetensors.torch.save_file(weights, folder / "a")),
    "torch": attempt(lambda: torch.save(weights, folder / "b")),
    "torch, open file": attempt(to_open_file),
    "torch, old format": attempt(lambda: torch.save(weights, folder / "d", _use_new_zipfile_serialization=False)),
    "no folder": attempt(lambda: safetensors.torch.save_file(weights, folder / "none" / "a")),
    "wrong weights": attempt(lambda: safetensors.torch.save_file({"a": 1}, folder / "e")),
}))
"""


def test_weights_that_do_not_fit_are_recognised(tmp_path):
    found = limited(WEIGHTS, tmp_path)
    limit = "could not write or read a file: the file would be larger than the limit allows (see ulimit -f): raise the limit"
    assert found["safetensors"] == ["SafetensorError", limit]
    assert found["torch, old format"] == found["torch, open file"] == ["RuntimeError", limit]
    assert found["torch"] == ["RuntimeError", "could not write a file to its end: the disk is probably full: free space on it"]
    assert found["no folder"][1] is None and found["wrong weights"][1] is None


FOLDER = """
from PIL import Image
from r1reward.tracking.run_folder import RunFolder
import os
run = RunFolder(folder).open_run({"a": 1}, "train")
run.write_metrics(1, {"loss": 1.0})
run.write_state("before.json", {"small": 1})
before = {path.name: path.read_text() for path in folder.iterdir()}
large = {str(i): i for i in range(20_000)}
noise = Image.frombytes("RGB", (256, 256), os.urandom(256 * 256 * 3))
report = {
    "metrics": attempt(lambda: run.write_metrics(2, large)),
    "samples": attempt(lambda: run.write_samples([large])),
    "sizes": [len(path.read_text().splitlines()) for path in (folder / "metrics.jsonl", folder / "samples.jsonl")],
    "state": attempt(lambda: run.write_state("before.json", large)),
    "summary": attempt(lambda: run.write_summary(large)),
    "config": attempt(lambda: run.open_run({"a": 1, "logger": large}, "train")),
    "image": attempt(lambda: run.save_thumbnail(noise, "a")),
}
run.write_metrics(2, {"loss": 2.0})
report["rows"] = [row["loss"] for row in run.read_metrics()]
report["kept"] = [name for name, text in before.items() if (folder / name).read_text() == text]
report["files"] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
print(json.dumps(report))
"""


def test_a_run_folder_on_a_full_disk_keeps_what_it_has(tmp_path):
    found = limited(FOLDER, tmp_path)
    for name in ("metrics", "samples", "state", "summary", "config", "image"):
        assert found[name][0] == "OSError" and "larger than the limit" in found[name][1], name
    assert found["sizes"] == [1, 0]  # at once, not only when the run is opened again
    assert found["rows"] == [1.0, 2.0]  # the second attempt at step 2 stands on a line of its own
    assert {"config.yaml", "before.json"} <= set(found["kept"])
    assert found["files"] == [
        ".lock", "before.json", "command.txt", "config.before-resume-1.yaml", "config.yaml", "images", "metrics.jsonl",
        "run.json", "samples.jsonl",
    ]  # fmt: skip
    assert (tmp_path / "samples.jsonl").read_text() == ""


def test_a_full_device():
    with pytest.raises(OSError) as caught:
        append(Path("/dev/full"), "row\n")
    assert caught.value.errno == errno.ENOSPC
    assert disk_error(caught.value) == "could not write or read a file: the disk is full: free space on it"


def test_a_write_that_fails_leaves_the_former_file_and_nothing_else(tmp_path):
    (tmp_path / "state.json").write_text("former")
    (tmp_path / "state.json.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "state.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert (tmp_path / "state.json").read_text() == "former"
    write_whole(tmp_path / "state.json", "new")
    assert (tmp_path / "state.json").read_text() == "new"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO])
def test_the_operating_systems_errors_are_told_with_the_file_and_a_remedy(number):
    said = disk_error(OSError(number, os.strerror(number), "runs/a/metrics.jsonl"))
    assert said.startswith("could not write or read runs/a/metrics.jsonl: ") and said.count(": ") == 2


def test_an_error_behind_another_is_found_unless_it_was_put_aside():
    def wrapped(suppress: bool, explicit: bool = False):
        try:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                if explicit:
                    raise RuntimeError("could not save") from error
                if suppress:
                    raise RuntimeError("something else") from None
                raise RuntimeError("could not clean up")  # noqa: B904
        except RuntimeError as error:
            return disk_error(error)

    assert "disk is full" in wrapped(False) and "disk is full" in wrapped(False, explicit=True)
    assert wrapped(suppress=True) is None


def test_other_errors_say_nothing_about_the_disk():
    for error in (FileNotFoundError(2, "gone"), ValueError("(os error 28)"), RuntimeError("CUDA error"), KeyboardInterrupt()):
        assert disk_error(error) is None
    assert disk_error(RuntimeError("(os error 2)")) is None
