"""What a client keeps: work under way, replies, its budget, the model's name, its key."""

import gc
import logging
import socket
import threading
import time

import pytest

from r1reward.rewards.judges.cache import ReplyCache
from r1reward.rewards.judges.model import read_digit
from r1reward.rewards.judges.opinion import Opinion
from r1reward.rewards.judges.server import ServerSettings
from tests.rewards.judges.judge_server import Answer, JudgeServer, judge, listing, tasks, wait_until

# ---- sharing -----------------------------------------------------------------------------------------------------------


def test_equal_prompts_are_asked_once():
    with JudgeServer(lambda r: Answer("1")) as server:
        asked = judge(server)
        assert asked(["a", "b", "a", "a"], read_digit) == [Opinion(1.0)] * 4
        assert len(server.requests) == 2 and asked.statistics()["shared"] == 2
        asked(["a"], read_digit)  # without a cache nothing is remembered
        assert len(server.requests) == 3 and asked.statistics()["shared"] == 2


def test_start_overlaps_and_a_later_call_only_collects():
    with JudgeServer(lambda r: Answer("1", delay=0.3)) as server:
        asked = judge(server)
        began = time.monotonic()
        asked.start(["a", "b"], read_digit)
        assert time.monotonic() - began < 0.1  # it does not even wait for the client's import
        wait_until(lambda: len(server.requests) == 2)
        assert asked(["b", "a", "c"], read_digit) == [Opinion(1.0)] * 3
        assert len(server.requests) == 3 and asked.statistics()["shared"] == 0


def test_what_was_started_is_kept_until_it_is_collected():
    with JudgeServer(lambda r: Answer("1")) as server:
        asked = judge(server)
        asked(["earlier"], read_digit)
        asked.start(["a"], read_digit)
        wait_until(lambda: len(server.requests) == 2 and not tasks(asked))
        asked.start(["b"], read_digit)  # a second judge with the same server
        wait_until(lambda: len(server.requests) == 3 and not tasks(asked))
        began = time.monotonic()
        assert asked(["a"], read_digit) == asked(["b"], read_digit) == [Opinion(1.0)]
        assert time.monotonic() - began < 0.2 and len(server.requests) == 3


def test_what_nobody_collected_is_forgotten_with_the_next_batch():
    state = {"down": True}
    with JudgeServer(lambda r: Answer(status=400) if state["down"] else Answer("1")) as server:
        asked = judge(server)
        asked.start([f"{n}" for n in range(100)], read_digit)
        wait_until(lambda: len(server.requests) == 100 and not tasks(asked))
        asked(["other"], read_digit)
        asked.start(["next"], read_digit)
        wait_until(lambda: len(server.requests) == 102)
        assert set(asked._jobs) == {("next", read_digit)}
        state["down"] = False
        assert asked(["0"], read_digit) == [Opinion(1.0)]  # no stale failure


def test_calls_of_several_threads_share_what_is_under_way():
    results = []
    with JudgeServer(lambda r: Answer("1", delay=0.3)) as server:
        asked = judge(server)
        threads = [threading.Thread(target=lambda: results.append(asked(["a", "b"], read_digit))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [[Opinion(1.0)] * 2] * 4
        assert len(server.requests) == 2 and asked.statistics()["shared"] == 6


def test_two_readers_of_one_prompt_share_nothing():
    with JudgeServer(lambda r: Answer("1")) as server:
        asked = judge(server)
        asked.start(["a"], lambda reply: 0.25)
        assert asked(["a"], read_digit) == [Opinion(1.0)]


# ---- cache and budget --------------------------------------------------------------------------------------------------


def test_a_cache_is_shared_by_clients(tmp_path):
    path = tmp_path / "replies.sqlite"
    with JudgeServer(lambda r: Answer("maybe" if r.prompt == "c" else "0")) as server:
        assert judge(server, cache=path)(["a", "b"], read_digit) == [Opinion(0.0)] * 2
        second = judge(server, cache=path, attempts=1)
        assert second(["a", "b", "c"], read_digit) == [Opinion(0.0), Opinion(0.0), Opinion(None, "nonsense")]
        assert second.statistics() == {"calls": 1, "cached": 2, "retries": 0, "shared": 0}
        assert ReplyCache(path).get(server.url, "judge", "c", 0.0, 64) is None  # bad replies are not kept
        assert judge(server, cache=path, model="other")(["a"], read_digit) == [Opinion(0.0)]  # nor taken from another model
        assert len(server.requests) == 4


def test_a_kept_reply_that_another_reader_cannot_read_is_asked_for_again(tmp_path):
    with JudgeServer(lambda r: Answer("1" if r.number == 0 else "yes")) as server:
        asked = judge(server, cache=tmp_path / "replies.sqlite")
        asked(["a"], read_digit)
        assert asked(["a"], {"yes": 0.75}.get) == [Opinion(0.75)]


def test_a_damaged_cache_costs_only_calls(tmp_path, caplog):
    path = tmp_path / "replies.sqlite"
    path.write_text("no database" * 1000)
    with JudgeServer(lambda r: Answer("1")) as server:
        assert judge(server, cache=path)(["a", "b"], read_digit) == [Opinion(1.0)] * 2
    assert "cannot be used" in caplog.text


def test_a_budget_counts_every_request(tmp_path):
    with JudgeServer(lambda r: Answer("maybe" if r.prompt == "bad" and not r.attempt else "1")) as server:
        asked = judge(server, max_calls=4, cache=tmp_path / "replies.sqlite")
        assert asked(["a", "bad"], read_digit) == [Opinion(1.0)] * 2  # three requests
        assert asked(["a", "b", "c"], read_digit)[0] == Opinion(1.0)  # the first costs none
        opinions = asked(["d", "e"], read_digit)
        assert opinions == [Opinion(None, "budget")] * 2
        assert len(server.requests) == asked.statistics()["calls"] == 4


@pytest.mark.parametrize(("prompts", "max_calls"), [(1, 1), (3, 10), (6, 6), (20, 2)])
def test_calls_that_find_no_server_cost_nothing(prompts, max_calls):
    """Nobody was asked, however many prompts wait at a time; the server that then comes up is asked `max_calls` times."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asked = judge(None, base_url=f"http://127.0.0.1:{port}/v1", max_calls=max_calls, batch_timeout=2)
    names = [str(n) for n in range(prompts)]
    assert asked(names, read_digit) == [Opinion(None, "connection")] * prompts
    assert asked.statistics()["calls"] == 0
    with JudgeServer(lambda r: Answer("1"), port=port) as server:
        opinions = asked(names, read_digit)
        assert sorted(opinion.failure or "" for opinion in opinions) == sorted(
            [""] * min(prompts, max_calls) + ["budget"] * max(0, prompts - max_calls)
        )
        assert len(server.requests) == asked.statistics()["calls"] == min(prompts, max_calls)


@pytest.mark.parametrize("broken", ["drop", "half"])
def test_calls_that_break_off_are_spent(broken):
    with JudgeServer(lambda r: Answer(broken=broken)) as server:
        asked = judge(server, max_calls=2, attempts=2)
        assert [opinion.failure for opinion in asked(["a"], read_digit)] == ["connection"]
        assert asked(["a"], read_digit) == [Opinion(None, "budget")]
        assert len(server.requests) == asked.statistics()["calls"] == 2


def test_a_call_under_way_keeps_its_place_in_the_budget():
    with JudgeServer(lambda r: Answer("1", delay=0.3)) as server:
        opinions = judge(server, max_calls=1)(["a", "b", "c"], read_digit)
        assert sorted(opinion.failure or "" for opinion in opinions) == ["", "budget", "budget"] and len(server.requests) == 1


def test_no_calls_at_all_are_a_budget_too():
    with JudgeServer(lambda r: Answer("1")) as server:
        assert judge(server, max_calls=0)(["a"], read_digit) == [Opinion(None, "budget")] and not server.requests


# ---- the model's name --------------------------------------------------------------------------------------------------


def test_without_a_name_the_first_model_that_is_listed_is_asked(tmp_path):
    with JudgeServer(lambda r: Answer("1"), models=lambda n: listing("first", "second")) as server:
        asked = judge(server, model=None, cache=tmp_path / "replies.sqlite")
        assert asked([str(n) for n in range(50)], read_digit) == [Opinion(1.0)] * 50
        assert {request.body["model"] for request in server.requests} == {"first"} and server.listings == 1
        named = judge(server, model="first", cache=tmp_path / "replies.sqlite")
        assert named(["7"], read_digit) == [Opinion(1.0)] and named.statistics()["cached"] == 1


@pytest.mark.parametrize(
    "fault, failure",
    [(Answer(status=503), "server_error"), (listing(), "bad_reply"), (Answer(status=404), "rejected")]
    + [(Answer(broken="hang"), "timeout"), (Answer(broken="half"), "connection")]
    + [(Answer(body=b'{"data": [' + b" " * 200, broken="trickle"), "timeout")],
)
def test_a_server_that_lists_nothing_yet_is_asked_again(fault, failure):
    state = {"down": True}
    with JudgeServer(lambda r: Answer("1"), models=lambda n: fault if state["down"] else listing("late")) as server:
        asked = judge(server, model=None, attempts=2, timeout=1)
        assert asked(["a", "b"], read_digit) == [Opinion(None, failure)] * 2
        assert not server.requests and server.listings <= 4
        state["down"] = False
        assert asked(["a", "b"], read_digit) == [Opinion(1.0)] * 2
        assert server.requests[0].body["model"] == "late"


def test_a_server_that_was_started_anew_with_another_model():
    state = {"model": "old"}

    def script(request):
        return Answer("1") if request.body["model"] == state["model"] else Answer(status=404)

    with JudgeServer(script, models=lambda n: listing(state["model"])) as server:
        asked = judge(server, model=None)
        assert asked(["a"], read_digit) == [Opinion(1.0)]
        state["model"] = "new"
        assert asked(["a"], read_digit) == [Opinion(None, "rejected")]
        assert asked(["a"], read_digit) == [Opinion(1.0)]


# ---- keys and settings -------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_shown_nowhere(monkeypatch, caplog):
    key = "sk-secret-0123456789"
    monkeypatch.setenv("JUDGE_KEY", f" {key}\n")
    quoted = Answer(status=401, body=f'{{"error": {{"message": "{"x" * 150} wrong key: {key}"}}}}'.encode())
    with caplog.at_level(logging.DEBUG), JudgeServer(lambda r: quoted if r.prompt == "status" else Answer(key)) as server:
        asked = judge(server, api_key_env="JUDGE_KEY", attempts=1)
        assert asked(["status"], read_digit) == [Opinion(None, "rejected")]
        assert asked(["reply"], read_digit) == [Opinion(None, "nonsense")]
    assert all(request.headers["authorization"] == f"bearer {key}" for request in server.requests)
    assert "***" in caplog.text and key not in caplog.text
    assert key not in repr(asked) + repr(asked.settings) + str(asked)


def test_a_request_is_no_news(caplog):
    """Hydra shows what is logged at the level INFO; the client's library has a line for each request."""
    with caplog.at_level(logging.INFO), JudgeServer(lambda r: Answer("1")) as server:
        judge(server)(["a"], read_digit)
    assert not caplog.records


def test_a_server_of_ones_own_needs_no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with JudgeServer(lambda r: Answer("1")) as server:
        assert judge(server)(["a"], read_digit) == [Opinion(1.0)]
        assert server.requests[0].headers["authorization"] == "bearer empty"


def test_openai_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds no key.*base_url"):
        judge(None)


def test_a_key_that_cannot_be_sent_is_an_error_that_does_not_show_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u00e9secret")
    with pytest.raises(ValueError, match="OPENAI_API_KEY") as caught:
        judge(None)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"base_url": "localhost:8000"}, {"base_url": "ftp://host"}, {"base_url": "http://"}]
    + [{"concurrency": 0}, {"attempts": 0}, {"max_tokens": 0}, {"temperature": -1}, {"temperature": float("nan")}]
    + [{"max_calls": -1}, {"timeout": 0}, {"timeout": float("inf")}, {"batch_timeout": -1}],
)
def test_settings_that_are_none_are_errors(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ServerSettings(**wrong)


def test_a_client_that_nobody_holds_ends_its_thread_and_connections():
    with JudgeServer(lambda r: Answer(broken="hang") if r.prompt == "hang" else Answer("1")) as server:
        asked = judge(server)
        asked(["a"], read_digit)
        thread = asked._thread
        del asked
        gc.collect()
        wait_until(lambda: not thread.is_alive() and server.open == 0)
