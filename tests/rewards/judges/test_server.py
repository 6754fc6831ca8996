"""The client against a real server on the loopback, which misbehaves in every way that servers do."""

import socket
import threading
import time

import pytest

from r1reward.rewards.judges.model import read_digit
from r1reward.rewards.judges.opinion import FAILURES, Opinion
from tests.rewards.judges.judge_server import Answer, JudgeServer, judge, tasks, wait_until

# ---- answers -----------------------------------------------------------------------------------------------------------


def test_opinions_come_in_the_order_of_the_prompts():
    with JudgeServer(lambda r: Answer(r.prompt[-1], delay=0.05 if r.prompt[-1] == "1" else 0)) as server:
        prompts = [f"{n}: {n % 2}" for n in range(20)]
        assert judge(server)(prompts, read_digit) == [Opinion(n % 2) for n in range(20)]


def test_a_request_is_one_user_turn_with_the_settings():
    with JudgeServer(lambda r: Answer("1")) as server:
        judge(server, temperature=0.5, max_tokens=7)(["Is it red? \u5224\u65ad"], read_digit)
        (request,) = server.requests
        turns = [{"role": "user", "content": "Is it red? \u5224\u65ad"}]
        assert request.body == {"model": "judge", "messages": turns, "temperature": 0.5, "max_tokens": 7}


def test_nothing_to_ask_asks_nothing():
    with JudgeServer(lambda r: Answer("1")) as server:
        asked = judge(server)
        asked.start([], read_digit)
        assert asked([], read_digit) == [] and not server.requests


# ---- failures ----------------------------------------------------------------------------------------------------------

FAULTS = [  # the answer, the failure, whether it is asked again
    (Answer(broken="hang"), "timeout", True),
    (Answer(broken="trickle"), "timeout", True),  # something arrives all the time
    (Answer(broken="drop"), "connection", True),
    (Answer(broken="half"), "connection", True),
    (Answer(broken="chunked"), "connection", True),
    (Answer(status=429), "rate_limited", True),
    (Answer(status=500), "server_error", True),
    (Answer(status=503, headers={"retry-after": "0"}), "server_error", True),
    (Answer(status=400), "rejected", False),
    (Answer(status=401), "rejected", False),
    (Answer(status=404), "rejected", False),
    (Answer(body=b"<html>"), "bad_reply", True),
    (Answer(body=b""), "bad_reply", True),
    (Answer(body=b'{"choices": [{"message": {"content": "1"'), "bad_reply", True),
    (Answer(body=b'{"object": "chat.completion"}'), "bad_reply", True),
    (Answer(content=None), "refused", False),
    (Answer(message={"refusal": "I cannot."}), "refused", False),
    (Answer(finish_reason="content_filter"), "refused", False),
    (Answer("perhaps"), "nonsense", True),
    (Answer("10"), "nonsense", True),
]


@pytest.mark.parametrize("fault, failure, again", FAULTS, ids=lambda value: value if isinstance(value, str) else None)
def test_every_fault_is_an_opinion_with_its_failure(fault, failure, again, caplog):
    with JudgeServer(lambda r: fault if r.prompt == "bad" else Answer("1")) as server:
        asked = judge(server, attempts=2, timeout=0.5 if failure == "timeout" else 30)
        asked(["warm"], read_digit)  # the first call takes longer
        assert asked(["good", "bad"], read_digit) == [Opinion(1.0), Opinion(None, failure)]
        assert asked.statistics() == {"calls": 4 if again else 3, "cached": 0, "retries": int(again), "shared": 0}
        assert len(server.requests) == asked.statistics()["calls"]
    assert failure in FAILURES
    assert [record.levelname for record in caplog.records] == [
        "WARNING"
    ] and f"1 of 2 prompts failed ({failure} 1)" in caplog.text


def test_the_kinds_that_are_tested_are_all_that_a_server_causes():
    assert {failure for _, failure, _ in FAULTS} | {"deadline", "budget", "exception"} == set(FAILURES)


def test_the_failure_is_that_of_the_last_attempt():
    script = [Answer(status=500), Answer("perhaps"), Answer(broken="drop")]
    with JudgeServer(lambda r: script[r.attempt]) as server:
        assert judge(server, attempts=3)(["?"], read_digit) == [Opinion(None, "connection")]
        assert judge(server, attempts=1)(["!"], read_digit) == [Opinion(None, "server_error")]


def test_a_later_attempt_can_succeed():
    script = [Answer("perhaps"), Answer(broken="half"), Answer("0")]
    with JudgeServer(lambda r: script[r.attempt]) as server:
        asked = judge(server, attempts=3)
        assert asked(["?"], read_digit) == [Opinion(0.0)]
        assert asked.statistics()["retries"] == 2


def test_a_closed_port_is_no_connection():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        asked = judge(None, base_url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1", batch_timeout=2)
        assert asked([str(n) for n in range(100)], read_digit) == [Opinion(None, "connection")] * 100


def test_a_server_killed_in_the_middle_of_a_batch():
    with JudgeServer(lambda r: Answer("1") if r.number < 10 else Answer(broken="hang")) as server:
        threading.Thread(target=lambda: (wait_until(lambda: server.under_way == 8), server.kill())).start()
        opinions = judge(server, concurrency=8, attempts=2, batch_timeout=3)([str(n) for n in range(40)], read_digit)
    assert sorted(o.failure or "" for o in opinions) == [""] * 10 + ["connection"] * 30


def test_a_server_that_comes_back_is_asked_again():
    state = {"down": True}
    with JudgeServer(lambda r: Answer(status=503) if state["down"] else Answer("1")) as server:
        asked = judge(server, attempts=1)
        assert asked(["?"], read_digit) == [Opinion(None, "server_error")]
        state["down"] = False
        assert asked(["?"], read_digit) == [Opinion(1.0)]


def test_a_reader_that_raises_is_a_failure():
    with JudgeServer(lambda r: Answer("1")) as server:
        assert judge(server)(["?"], lambda reply: 1 / 0) == [Opinion(None, "exception")]


def test_prompts_that_cannot_be_sent_are_failures_of_their_own():
    with JudgeServer(lambda r: Answer("1")) as server:
        opinions = judge(server)(["a", "\ud800", "b"], read_digit)
        assert [o.value for o in opinions] == [1.0, None, 1.0] and opinions[1].failure in FAILURES


# ---- waiting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(status):
    times = []

    def script(request):
        times.append(time.monotonic())
        return Answer(status=status, headers={"retry-after": "1"}) if request.attempt == 0 else Answer("1")

    with JudgeServer(script) as server:
        assert judge(server)(["?"], read_digit) == [Opinion(1.0)]
    assert 1.0 <= times[1] - times[0] < 2.5


def test_retry_after_has_a_limit(monkeypatch):
    monkeypatch.setattr("r1reward.rewards.judges.replies.LONGEST_RETRY_AFTER", 0.2)
    with JudgeServer(lambda r: Answer("1", status=429 if r.attempt == 0 else 200, headers={"retry-after": "3600"})) as server:
        began = time.monotonic()
        assert judge(server)(["?"], read_digit) == [Opinion(1.0)]
    assert time.monotonic() - began < 2


def test_waits_grow_and_differ():
    times = {}

    def script(request):
        times.setdefault(request.prompt, []).append(time.monotonic())
        return Answer(status=429)

    with JudgeServer(script) as server:
        judge(server, attempts=3)([str(n) for n in range(8)], read_digit)
    first = [t[1] - t[0] for t in times.values()]
    second = [t[2] - t[1] for t in times.values()]
    assert all(0.25 <= wait < 1.5 for wait in first) and all(0.5 <= wait < 2.0 for wait in second)
    assert max(first) - min(first) > 0.02


def test_a_waiting_prompt_leaves_its_place_to_others():
    def script(request):
        return (
            Answer(status=429, headers={"retry-after": "1"})
            if request.prompt == "slow" and not request.attempt
            else Answer("1")
        )

    with JudgeServer(script) as server:
        assert judge(server, concurrency=1)(["slow", "a", "b"], read_digit) == [Opinion(1.0)] * 3
        assert [request.prompt for request in server.requests] == ["slow", "a", "b", "slow"]


def test_a_deadline_ends_the_batch_and_its_calls():
    with JudgeServer(lambda r: Answer("1") if r.prompt == "quick" else Answer(broken="hang")) as server:
        asked = judge(server, batch_timeout=1, concurrency=8)
        asked(["quick"], read_digit)  # the client is made
        began = time.monotonic()
        opinions = asked(["quick", *(str(n) for n in range(50))], read_digit)
        assert 1 <= time.monotonic() - began < 3
        assert opinions == [Opinion(1.0)] + [Opinion(None, "deadline")] * 50
        wait_until(lambda: server.under_way == 0 and server.left == 8)  # the server sees them leave
        wait_until(lambda: not tasks(asked))
        assert len(server.requests) == 2 + 8 and not asked._jobs  # those that waited for a place never began
        assert asked(["quick"], read_digit) == [Opinion(1.0)]


def test_a_deadline_ends_waits_between_attempts():
    with JudgeServer(lambda r: Answer(status=429, headers={"retry-after": "30"})) as server:
        began = time.monotonic()
        assert judge(server, batch_timeout=0.5)(["?"], read_digit) == [Opinion(None, "deadline")]
        assert time.monotonic() - began < 2


def test_timeouts_leave_no_connections_behind():
    with JudgeServer(lambda r: Answer("1") if r.prompt == "warm" else Answer(broken="hang")) as server:
        asked = judge(server, timeout=0.5, attempts=2, concurrency=4)
        asked(["warm"], read_digit)
        assert asked([str(n) for n in range(8)], read_digit) == [Opinion(None, "timeout")] * 8
        wait_until(lambda: server.open == 0 and not tasks(asked))
        assert server.left == 16


# ---- concurrency -------------------------------------------------------------------------------------------------------


def test_256_prompts_of_200_ms_take_a_tenth_of_one_after_another():
    """64 at a time: 0.8 s at best, of 51. The best of three counts, for other programs may be busy."""
    one_after_another = 256 * 0.2
    seconds = []
    prompts = [f"{'The reasoning. ' * 100}{n} {n % 2}" for n in range(256)]
    with JudgeServer(lambda r: Answer(r.prompt[-1], delay=0.2)) as server:
        asked = judge(server, concurrency=64)
        asked(["warm 1"], read_digit)  # the client is made with the first call
        while len(seconds) < 3 and min(seconds, default=one_after_another) >= one_after_another / 10:
            began = time.monotonic()
            assert asked(prompts, read_digit) == [Opinion(n % 2) for n in range(256)]
            seconds.append(time.monotonic() - began)
    print(f"256 prompts in {seconds} s")
    assert server.peak == 64 and asked.statistics()["calls"] == len(server.requests) == 1 + 256 * len(seconds)
    assert 0.8 <= min(seconds) < one_after_another / 10


@pytest.mark.parametrize("concurrency", [1, 7, 200])
def test_no_more_calls_are_under_way_than_allowed(concurrency):
    with JudgeServer(lambda r: Answer("1", delay=0.05 if concurrency > 1 else 0.002)) as server:
        asked = judge(server, concurrency=concurrency)
        asked.start([f"a{n}" for n in range(200)], read_digit)  # what is begun counts too
        assert asked([f"b{n}" for n in range(20)], read_digit) == [Opinion(1.0)] * 20
        wait_until(lambda: len(server.requests) == 220)
        assert server.peak == concurrency or (concurrency == 200 and 100 < server.peak <= 200)


def test_two_thousand_prompts():
    with JudgeServer(lambda r: Answer(r.prompt[-1])) as server:
        prompts = [f"{n} {n % 2}" for n in range(2000)]
        assert judge(server)(prompts, read_digit) == [Opinion(n % 2) for n in range(2000)]
        assert len(server.requests) == 2000 and server.open <= 64


def test_connections_are_used_again():
    with JudgeServer(lambda r: Answer("1")) as server:
        asked = judge(server, concurrency=200)
        asked([str(n) for n in range(200)], read_digit)
        opened = server.connections
        asked([str(n) for n in range(200)], read_digit)
        assert server.connections == opened <= 200
