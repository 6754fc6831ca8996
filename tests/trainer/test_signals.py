"""Signals: noted while training, raised elsewhere, fatal the second time."""

import os
import signal
import subprocess
import sys

import pytest

from r1reward.trainer.signals import Stopped, StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_outside_training_it_is_raised(number):
    with pytest.raises(Stopped, match=number.name), StopSignals():
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_in_training_it_is_noted_and_raised_at_the_end(number, capsys):
    done = []
    with pytest.raises(Stopped, match=number.name), StopSignals() as signals:
        with signals.deferred():
            os.kill(os.getpid(), number)
            assert signals.received == number
            done.append("the micro-step")
        done.append("what comes after training")
    assert done == ["the micro-step"]
    assert "once more to stop at once" in capsys.readouterr().err


def test_an_error_in_training_is_not_hidden():
    with pytest.raises(ZeroDivisionError), StopSignals() as signals, signals.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ZeroDivisionError


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(("first", "second", "code"), [("SIGTERM", "SIGINT", 130), ("SIGINT", "SIGTERM", 143)])
def test_a_second_signal_ends_the_process_at_once(first, second, code):
    script = (
        "import os, signal, time\n"
        "from r1reward.trainer.signals import StopSignals\n"
        "with StopSignals() as signals, signals.deferred():\n"
        f"    os.kill(os.getpid(), signal.{first})\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"  # the same request: `timeout` signals a process and its group
        "    print('still here', flush=True)\n"
        "    time.sleep(1.1)\n"
        f"    os.kill(os.getpid(), signal.{second})\n"
        "    print('even now')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert done.stdout == "still here\n"
