"""A folder belongs to one process at a time, and a process that dies, however it dies, leaves it free."""

import errno
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys

import pytest

from r1reward.tracking.lock import FolderGone, FolderInUse, FolderLock

HOLDER = """
import os, sys, time
from r1reward.tracking.lock import FolderLock
lock = FolderLock(sys.argv[1])
lock.acquire()
reading, writing = os.pipe()
child = os.fork() if "fork" in sys.argv else None
if child == 0:
    if "release" in sys.argv:
        lock.release()  # of a child, gives nothing of its parent's back
    os.write(writing, b".")
    time.sleep(60)
    os._exit(0)
if child:
    os.read(reading, 1)
if "spawn" in sys.argv:
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False).pid
print(child or 0, flush=True)
time.sleep(60)
"""


def hold(folder, *how):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), *how], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def test_a_second_process_is_told_who_is_at_work(tmp_path):
    process, _ = hold(tmp_path / "run")
    try:
        holder = json.loads((tmp_path / "run" / ".lock").read_text())
        assert holder["pid"] == process.pid
        with pytest.raises(ValueError, match=f"in use by process {process.pid} on .*, started 2.*: wait until") as caught:
            FolderLock(tmp_path / "run").acquire()
        assert holder["host"] in str(caught.value) and holder["started"] in str(caught.value)
    finally:
        process.kill()
        process.wait()


def test_a_killed_process_leaves_the_folder_free(tmp_path):
    process, _ = hold(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    FolderLock(tmp_path).acquire()
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("how", [["fork"], ["fork", "release"], ["spawn"]])
def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path, how):
    process, child = hold(tmp_path, *how)
    try:
        with pytest.raises(ValueError, match="in use"):
            FolderLock(tmp_path).acquire()
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        with FolderLock(tmp_path):
            pass
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)


def test_one_process_may_not_hold_it_twice_and_may_take_it_again_after_release(tmp_path):
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    first.acquire()  # has it already
    with pytest.raises(ValueError, match=f"process {os.getpid()} on"):
        second.acquire()
    first.release()
    first.release()
    with second, pytest.raises(ValueError, match="in use"):
        first.acquire()
    first.acquire()
    first.release()


def test_a_holder_that_has_not_written_its_name_yet(tmp_path):
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="in use by another process"):
            FolderLock(tmp_path).acquire()


def test_a_file_system_without_locks_warns_and_goes_on(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING), FolderLock(tmp_path):
        pass
    assert "cannot be locked (No locks available): see that no second process writes to it" in caplog.text


def test_a_folder_moved_away_while_waiting_at_its_door_is_not_mistaken_for_the_new_one(tmp_path, monkeypatch):
    folder, flock = tmp_path / "run", fcntl.flock
    folder.mkdir()

    def move_first(descriptor, how):
        if not (tmp_path / "former").exists():
            folder.rename(tmp_path / "former")
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", move_first)
    with FolderLock(folder):
        assert json.loads((folder / ".lock").read_text())["pid"] == os.getpid()
        assert (tmp_path / "former" / ".lock").read_text() == ""


def test_a_lock_file_that_was_cleaned_up_is_made_anew(tmp_path, caplog):
    with FolderLock(tmp_path) as lock, caplog.at_level(logging.WARNING):
        lock.check()
        assert not caplog.records
        (tmp_path / ".lock").unlink()
        lock.check()
        lock.check()
        assert len(caplog.records) == 1 and ".lock was deleted" in caplog.text
        with pytest.raises(FolderInUse):
            FolderLock(tmp_path).acquire()
        (tmp_path / ".lock").unlink()
        with FolderLock(tmp_path), pytest.raises(FolderInUse):  # somebody else has come in
            lock.check()


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_deleted_folder_is_gone_also_where_it_was_made_anew(tmp_path, is_made_anew):
    folder = tmp_path / "run"
    with FolderLock(folder) as lock:
        shutil.rmtree(folder)
        if is_made_anew:  # as a checkpoint would, perhaps with the same inode
            folder.mkdir()
        with pytest.raises(FolderGone):
            lock.check()


@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300])
def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be used as a folder for results .*: choose a folder that can be made"):
        FolderLock(tmp_path / place).acquire()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    for folder in (tmp_path / "closed", tmp_path / "closed" / "below"):
        with pytest.raises(ValueError, match="cannot be used as a folder for results"):
            FolderLock(folder).acquire()
