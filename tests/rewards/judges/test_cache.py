import multiprocessing
import sqlite3
import threading
import time

from r1reward.rewards.judges import cache
from r1reward.rewards.judges.cache import ReplyCache

ASKED = {"address": "http://h/v1", "model": "judge", "prompt": "Is it red?", "temperature": 0.0, "max_tokens": 64}


def test_a_reply_is_found_again_by_another_object(tmp_path):
    path = tmp_path / "new" / "folder" / "replies.sqlite"
    ReplyCache(path).put(**ASKED, reply="1")
    assert ReplyCache(path).get(**ASKED) == "1"


def test_all_that_decides_the_reply_is_part_of_the_key(tmp_path):
    replies = ReplyCache(tmp_path / "replies.sqlite")
    replies.put(**ASKED, reply="1")
    for other in (
        {"address": "http://h:81/v1"},
        {"model": "judge2"},
        {"prompt": "Is it red? "},
        {"temperature": 0.1},
        {"max_tokens": 65},
    ):
        assert replies.get(**ASKED | other) is None
    assert replies.get(**ASKED | {"temperature": 0}) == "1"  # the same number


def test_parts_of_the_key_cannot_run_together(tmp_path):
    replies = ReplyCache(tmp_path / "replies.sqlite")
    replies.put("http://h/v1", "judge", '1", "b', 0.0, 64, "1")
    assert replies.get("http://h/v1", 'judge", "1', "b", 0.0, 64) is None


def test_a_later_reply_replaces_an_earlier_one(tmp_path):
    replies = ReplyCache(tmp_path / "replies.sqlite")
    replies.put(**ASKED, reply="1")
    replies.put(**ASKED, reply="0")
    assert replies.get(**ASKED) == "0"


def test_any_text_can_be_kept(tmp_path):
    replies = ReplyCache(tmp_path / "replies.sqlite")
    for number, text in enumerate(["", "\0", "\ud800", "判断", "'; DROP TABLE replies; --", "x" * 1_000_000]):
        asked = ASKED | {"prompt": f"{number} {text}"}
        replies.put(**asked, reply=text)
        assert replies.get(**asked) == text.replace("\ud800", "?")


def _write(path, process, count):
    replies = ReplyCache(path)
    for number in range(count):
        replies.put("http://h/v1", "judge", f"{process} {number}", 0.0, 64, str(number % 2))


def test_processes_and_threads_share_a_file(tmp_path, caplog):
    path = tmp_path / "replies.sqlite"
    replies = ReplyCache(path)
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_write, args=(path, f"process {w}", 200)) for w in range(2)]
    workers += [
        threading.Thread(
            target=lambda w=w: [replies.put("http://h/v1", "judge", f"thread {w} {n}", 0.0, 64, "1") for n in range(200)]
        )
        for w in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = [replies.get("http://h/v1", "judge", f"process {w} {n}", 0.0, 64) for w in range(2) for n in range(200)]
    assert found == [str(n % 2) for _ in range(2) for n in range(200)]
    assert all(replies.get("http://h/v1", "judge", f"thread {w} {n}", 0.0, 64) == "1" for w in range(4) for n in range(200))
    assert not caplog.records


def no_cache(replies, caplog) -> bool:
    """It behaves as if nothing were ever kept, and said so exactly once."""
    replies.put(**ASKED, reply="1")
    replies.put(**ASKED, reply="1")
    assert replies.get(**ASKED) is None and replies.get(**ASKED) is None
    return [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_file_that_is_none_of_ours_is_a_warning_and_no_cache(tmp_path, caplog):
    path = tmp_path / "replies.sqlite"
    path.write_text("no database" * 1000)
    assert no_cache(ReplyCache(path), caplog)
    assert path.read_text() == "no database" * 1000  # not ours to repair


def test_a_file_damaged_in_the_middle_is_a_warning_and_no_cache(tmp_path, caplog):
    path = tmp_path / "replies.sqlite"
    _write(path, "p", 2000)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    replies = ReplyCache(path)
    assert no_cache(replies, caplog)


def test_a_folder_in_its_place_is_a_warning_and_no_cache(tmp_path, caplog):
    assert no_cache(ReplyCache(tmp_path), caplog)


def test_a_folder_that_cannot_be_made_is_a_warning_and_no_cache(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert no_cache(ReplyCache(tmp_path / "file" / "replies.sqlite"), caplog)


def test_a_locked_file_is_a_warning_and_no_cache(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(cache, "BUSY_TIMEOUT", 0.1)
    path = tmp_path / "replies.sqlite"
    replies = ReplyCache(path)
    locked = sqlite3.connect(path, isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    assert no_cache(replies, caplog)
    assert time.monotonic() - began < 1
    locked.close()


def test_a_cache_that_cannot_be_written_is_still_read(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(cache, "BUSY_TIMEOUT", 0.1)
    replies = ReplyCache(tmp_path / "replies.sqlite")
    replies.put(**ASKED, reply="1")
    other = ASKED | {"prompt": "Is it blue?"}
    writer = sqlite3.connect(replies.path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    replies.put(**other, reply="0")
    writer.close()
    replies.put(**other, reply="0")  # not tried again
    assert replies.get(**ASKED) == "1" and replies.get(**other) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
