"""The client within a process: its import, Ctrl-C, the end of the interpreter."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from r1reward.rewards.judges.model import read_digit
from r1reward.rewards.judges.opinion import Opinion
from tests.rewards.judges.judge_server import Answer, JudgeServer, judge, listing, tasks, wait_until

ASK = """
import sys
from r1reward.rewards.judges.model import read_digit
from r1reward.rewards.judges.server import Server, ServerSettings
server = Server(ServerSettings(base_url=sys.argv[1], model="judge"))
prompts = [str(n) for n in range(20)]
"""


def python(script: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def complaints(errors: str) -> str:
    """What a process wrote to stderr, without asyncio's remarks that a step of the loop took long on a busy machine."""
    return "".join(line for line in errors.splitlines(keepends=True) if not line.startswith("Executing <"))


def test_ctrl_c_works_at_once():
    with JudgeServer(lambda r: Answer(broken="hang")) as server:
        # A shell's background jobs, and what they start, ignore the signal unless told otherwise.
        heed = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        process = python(ASK + heed + "server(prompts, read_digit)", server.url)
        wait_until(lambda: len(server.requests) == 20, seconds=60)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert time.monotonic() - began < 3
        assert process.returncode in (-signal.SIGINT, 130)
        assert errors.rstrip().endswith("KeyboardInterrupt") and errors.count("Traceback") == 1
        wait_until(lambda: server.left == 20)


def test_the_interpreter_ends_cleanly_with_calls_under_way():
    with JudgeServer(lambda r: Answer(broken="hang")) as server:
        script = "server.start(prompts, read_digit)\nsys.stdin.read()"
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-c", ASK + script, server.url],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: len(server.requests) == 20, seconds=60)
        began = time.monotonic()
        _, errors = process.communicate(timeout=30)  # closes its input: the script ends
        assert time.monotonic() - began < 4
        assert process.returncode == 0 and complaints(errors) == ""
        wait_until(lambda: server.left == 20)


@pytest.mark.parametrize("script", ["", "server(prompts, read_digit)", "del server"])
def test_the_interpreter_ends_cleanly(script):
    with JudgeServer(lambda r: Answer("1")) as server:
        process = python(ASK + script, server.url)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, complaints(errors)) == (0, "", "")


def test_vlm_r1_bug_11_client_is_built_at_import():
    """There: at import, from the environment, needed or not. Here: on the client's own thread, once there is a client."""
    script = "import r1reward.rewards.judged, r1reward.rewards.judges.server, sys; assert 'openai' not in sys.modules"
    process = python(script)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_an_interrupted_call_ends_its_work_and_the_client_goes_on():
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with JudgeServer(lambda r: Answer("1") if r.prompt == "a" else Answer(broken="hang")) as server:
            asked = judge(server)
            asked(["a"], read_digit)
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                asked(["b", "c"], read_digit)
            assert time.monotonic() - began < 2
            wait_until(lambda: server.left == 2 and not tasks(asked))
            assert asked(["a"], read_digit) == [Opinion(1.0)]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_call_interrupted_in_one_thread_is_a_failure_in_another():
    results = []
    with JudgeServer(lambda r: Answer(broken="hang") if r.prompt == "a" else Answer("1")) as server:
        asked = judge(server)
        other = threading.Thread(target=lambda: results.append(asked(["a", "b"], read_digit)))
        other.start()
        wait_until(lambda: len(server.requests) == 2)
        asked._loop.call_soon_threadsafe(asked._jobs["a", read_digit].task.cancel)
        other.join(timeout=10)
        assert results == [[Opinion(None, "exception"), Opinion(1.0)]]


def test_an_interrupted_call_does_not_end_the_search_for_the_model_that_others_wait_for():
    results = []
    with JudgeServer(lambda r: Answer("1"), models=lambda n: replace(listing("judge"), delay=0.5)) as server:
        asked = judge(server, model=None)
        other = threading.Thread(target=lambda: results.append(asked(["a", "b"], read_digit)))
        other.start()
        wait_until(lambda: server.listings == 1)
        asked._loop.call_soon_threadsafe(asked._jobs["a", read_digit].task.cancel)
        other.join(timeout=10)
        assert results == [[Opinion(None, "exception"), Opinion(1.0)]] and server.listings == 1


def test_a_forked_process_neither_hangs_nor_raises():
    with JudgeServer(lambda r: Answer("1")) as server:
        script = "server(prompts, read_digit)\nimport os\nif os.fork() == 0:\n    "
        script += "server.start(prompts, read_digit)\n    os._exit(server(prompts, read_digit)[0].failure != 'exception')\n"
        process = python(ASK + script + "sys.exit(os.wait()[1] != 0)", server.url)
        process.communicate(timeout=60)
        assert process.returncode == 0
