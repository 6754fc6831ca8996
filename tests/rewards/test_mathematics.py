import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1reward.rewards import blocks, mathematics
from r1reward.rewards.mathematics import REJECTIONS, WORKER, Worker, expression
from r1reward.rewards.mathematics import mathematics as score
from r1reward.rewards.score import SEMANTICS, Score
from r1reward.rewards.units import split_unit

PAIR = ("strict", "1/2", "0.5")
HANGS = ("strict", "1", r"\binom{10000000}{5000000}")


def answered(answer: str) -> str:
    return f"<think>Let me see.</think>\n<answer> {answer} </answer>"


def pairs(text: str) -> list[tuple[str, ...]]:
    return [tuple(pair.split(" ~ ")) for line in text.strip("\n").split("\n") for pair in line.split(" || ")]


@pytest.mark.parametrize(
    "answer, solution",
    pairs(r"""
\frac{1}{2} ~ 1/2 || 0.5 ~ \frac12 || .5 ~ $\dfrac{1}{2}$ || 0.333333 ~ 1/3 || 1 1/2 ~ 1.5 || sqrt(12) ~ $2\sqrt{3}$
√12 ~ 2\sqrt 3 || 1.6e-19 ~ 1.6\times 10^{-19} || 1.6×10^-19 ~ 1.6 \cdot 10^{-19} || 2^10 ~ 1024 || -5 ~ −5 || 007 ~ 7
1,234.5 ~ 1234.5 || 1{,}000 ~ 1000 || 1,000\pi ~ 1000π || \boxed{5} ~ 5 || $\boxed{\frac{1}{2}}$ ~ 0.5 || \(5\) ~ \[5\]
**5** ~ 5 || The answer is 5. ~ 5 || Answer: $x = 5$ ~ 5 || 5 ~ x = 5 || x = 2 + 3 = 5 ~ 5 || 2 + 3 = 5 ~ 5
f(x) = 2x ~ 2x || (x+1)^2 ~ x^2 + 2x + 1 || \sin^2 x + \cos^2 x ~ 1 || sin(pi/2) ~ 1 || y = 2x + 1 ~ 2x - y + 1 = 0
x > 3 ~ 3 < x || 2, 1 ~ \{1, 2\} || x=-2, x=2 ~ x=2 or x=-2 || (1,2) ~ (1.0, 2) || (-\infty, \infty) ~ \mathbb{R}
2i + 3 ~ 3 + 2i || \begin{pmatrix}1\\2\end{pmatrix} ~ \begin{pmatrix}1\\ 2\end{pmatrix} || 5:3 ~ \frac{5}{3}
50% ~ 0.5 || 0.5 ~ 50\% || 50 ~ 50% || 50 percent ~ 50 || 5 cm ~ 5 || 5 ~ 5 cm || 5 centimeters ~ 5\text{ cm}
5\,\mathrm{m/s^2} ~ 5 \text{ m/s}^2 || 5 square feet ~ 5\text{ ft}^2 || 30° ~ 30^\circ || 30^{\circ} ~ 30 degrees
5 \mathrm{~cm} ~ 5\text{ cm} || 5厘米 ~ 5 cm || five ~ 5 || No solution. ~ \text{no solution} || x \geq 0 ~ [0,\infty)
<|begin_of_box|>5<|end_of_box|> ~ 5 || So the final answer is $\boxed{5}$. ~ 5 || x < 2 ~ (-\infty, 2)
monday ~ \text{Monday} || \gamma ~ \gamma || 0 ~ \sqrt{2}\sqrt{3}-\sqrt{6}
"""),
)
def test_equal(answer, solution):
    assert score(answered(answer), solution) == Score(1.0)


@pytest.mark.parametrize(
    "answer, solution",
    pairs(r"""
0.33 ~ 1/3 || 0.33333 ~ 1/3 || 1234567.1 ~ 1234567.2 || 100000000000000000001 ~ 100000000000000000000 || 0.0000001 ~ 0
0 ~ 10^{-20} || x + 10^{-20} ~ x || 1 + 2x ~ 1 + 2y || 5x ~ 5 || -5 ~ 5 || \pm 5 ~ 5 || 5 or 7 ~ 5 || \{5, 7\} ~ 5
[1,2] ~ (1,2) || (2,1) ~ (1,2) || 3 ~ x > 3 || x \geq 3 ~ x > 3 || y = 5 ~ x = 5 || 2x = 10 ~ 5 || 7 = 5 ~ 5 || x = x ~ x = 5
0 = 0 ~ x = 5 || (x-5)(x-7) = 0 ~ x = 5 || \infty ~ 5 || 1/0 ~ \infty || 50% ~ 5 || 5 kg ~ 5 g || 5 m^2 ~ 5 m^3
5 m^2 ~ 5 m || 30 ~ 30x || \{1, 2\} ~ 1 < x < 2 || (2,1) ~ x = 1, y = 2 || (1,2) ~ x = 2, y = 1 || \log 2 ~ 10^{-9}
x > 0 ~ [0,\infty) || x \geq 1 ~ [0,\infty) || one solution ~ no solution || 6厘米 ~ 5 cm || 5毫米 ~ 5 cm
Tuesday ~ Monday || acb ~ abc || A ~ B
"""),
)
def test_not_equal(answer, solution):
    assert score(answered(answer), solution) == Score(0.0)


@pytest.mark.parametrize(
    "answer, rejection",
    [
        (answer, "unreadable")
        for answer in ("", "1 000", "1 2 3", "5.5.5", r"1\,000", r"\boxed{5} or \boxed{7}", "5 +", "\\", "\x00")
    ]
    + [("{" * 30, "unreadable"), ("1" * 1001, "too_long"), ("9^{9^{9^9}}", "too_large"), ("10^{10^{10}}", "too_large")]
    + [("100000!", "too_large"), ("5!!!", "too_large"), ("x^{99999}", "too_large"), ("2^{-99999}", "too_large")],
)
def test_rejected(answer, rejection):
    assert score(answered(answer), r"\sqrt{5}") == Score(0.0, rejection)


@pytest.mark.parametrize(
    "solution, message",
    [("", "empty"), ("<answer> </answer>", "empty"), ("$.$", "empty"), ("1" * 1001, "1001 characters")]
    + [("9^{9^{9^9}}", "too hard"), (HANGS[2], "too hard")],
)
@pytest.mark.parametrize("semantics", SEMANTICS)
def test_solution_that_nothing_can_be_compared_with(solution, message, semantics):
    with pytest.raises(ValueError, match=message):
        score("", solution, semantics)


def test_unknown_semantics():
    with pytest.raises(ValueError, match="'loose'"):
        score("", "5", "loose")


WAYS = [
    lambda p, q: f"{p}/{q}",
    lambda p, q: rf"\frac{{{p}}}{{{q}}}",
    lambda p, q: rf"$-\frac{{{-p}}}{{{q}}}$",
    lambda p, q: rf"\boxed{{x = \dfrac{{{2 * p}}}{{{2 * q}}}}}",
    lambda p, q: rf"{p} \cdot \frac{{1}}{{{q}}}",
    lambda p, q: f"{p - q}/{q} + 1",
]


@settings(max_examples=150, deadline=None)
@given(*[st.integers(-9, 9), st.integers(1, 9)] * 2, st.sampled_from(WAYS), st.sampled_from(WAYS[:3]))
def test_fractions_are_equal_if_they_are(p, q, r, s, way, other_way):
    value = score(answered(way(p, q)), other_way(r, s)).value
    assert value == float(Fraction(p, q) == Fraction(r, s))


@pytest.mark.parametrize(
    "text, solution",
    pairs(r"""
I think it is 5. ~ 5 || <answer>7</answer> <answer>5</answer>, or so ~ 5 || <answer>A\nB</answer> ~ a b || 5 ~ x=5
$x=5$ ~ $5$ || \boxed{\frac12} ~ 0.5 || \boxed 5$ or so ~ 5 || \frac1{72} ~ \frac{1}{72} || 7\text{ cm} ~ 7
50\% ~ 50 || a b ~ ab || \sqrt2 a ~ \sqrt{2}a || 30^\circ ~ 30 || k=x+1 ~ x+1 || 1/2 ~ \frac{1}{2}
"""),
)
def test_released_pays(text, solution):
    assert score(text.replace(r"\n", "\n"), solution, "released") == Score(1.0)


@pytest.mark.parametrize(
    "text, solution",
    pairs(r"""
I think it is 6. ~ 5 || \fbox{ab} ~ ab || a/b ~ a / b || \text{ a \text{ b ~ ab || \frac ~ \frac x || \sqrt ~ x
"""),
)
def test_released_does_not_pay(text, solution):
    """The last four make the released normalisation raise, and are then compared as they are."""
    assert score(text, solution, "released").value == 0.0


def test_released_reads_no_more_than_20000_characters():
    assert score("It is 5. " * 2_500, "5", "released") == Score(0.0, "too_long")
    assert score("it is 5 " * 2_000, "5", "released") == Score(1.0)


@pytest.mark.parametrize(
    "answer, bare",
    pairs(r"""
 $x$  ~ x || **The final answer is:** 5 ~ 5 || `5` ~ 5 || \[ 5. \] ~ 5 || \boxed{\text{a}}. ~ a
\boxed{a} b ~ \boxed{a} b || \boxed{a}{b} ~ \boxed{a}{b} || \$5 ~ 5 || \left\{1\right\} ~ \left\{1\right\}
"""),
)
def test_expression(answer, bare):
    assert expression(answer) == bare


@pytest.mark.parametrize(
    "latex, number, unit",
    pairs(r"""
5 cm ~ 5 ~ cm || 5\text{ cm}^{2} ~ 5 ~ cm^2 || 5~\mathrm{km/h} ~ 5 ~ km/h || 5 miles per hour ~ 5 ~ mi/h
30^\circ ~ 30 ~ degree || 50\% ~ 50 ~ percent || \frac{1}{2}\text{ m} ~ \frac{1}{2} ~ m || 5 square feet ~ 5 ~ ft^2
5 cubic metres ~ 5 ~ m^3 || 5 sq. cm ~ 5 ~ cm^2 || 5\text{kg/m}^3 ~ 5 ~ kg/m^3
"""),
)
def test_split_unit(latex, number, unit):
    assert split_unit(latex) == (number, unit)


@pytest.mark.parametrize("latex", ["2m", "2 m", "5 million", r"5\text{ million}", "x cm", "cm", "5 dogs", ""])
def test_no_unit(latex):
    assert split_unit(latex) == (latex, "")


# ---- The other process


@pytest.fixture
def worker():
    worker = Worker(seconds=0.5, impatient=0.1)
    yield worker
    worker.close()


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().split(") ")[1][0] != "Z"


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_pair_that_hangs_is_ended_and_the_next_is_graded(worker):
    worker(*PAIR)
    template = worker._process.pid
    start = time.perf_counter()
    assert worker(*HANGS) == "timeout"
    assert worker(*PAIR) == "right"
    assert time.perf_counter() - start < 5
    assert worker._process.pid == template  # only what it forked was ended


def test_patience_shrinks_with_pairs_that_hang_and_grows_again(worker):
    assert worker.limit == 0.5
    assert [worker(*HANGS) for _ in range(3)] == ["timeout"] * 3
    assert worker.limit == 0.1  # 0.25, 0.125, and not below
    assert worker(*PAIR) == "right" and worker.limit == pytest.approx(0.11)
    assert worker(*HANGS, patient=True) == "timeout" and worker.limit == pytest.approx(0.11)
    for _ in range(20):
        worker(*PAIR)
    assert worker.limit == 0.5


def test_pairs_that_end_just_before_the_limit_cost_patience_too():
    """Each integral takes longer than `impatient`, so the limit falls until it ends them."""
    worker = Worker(seconds=2.0, impatient=0.02)
    worker(*PAIR)
    limits = []
    for k in range(8):
        worker("strict", "5", rf"\int_0^1 x^{{x^{{x+{k}}}}} dx")
        limits.append(worker.limit)
    worker.close()
    assert limits[0] <= 1.0 and limits[-1] <= 0.25


def test_solutions_are_given_the_full_time(monkeypatch):
    """Else a solution that was fine before the training could be refused after hostile answers."""
    monkeypatch.setattr(WORKER, "seconds", 0.8)
    monkeypatch.setattr(WORKER, "limit", 0.05)
    start = time.perf_counter()
    with pytest.raises(ValueError, match="too hard"):
        score("", r"\binom{10000000}{4777777}")
    assert time.perf_counter() - start > 0.7


def test_a_batch_of_hostile_answers_costs_seconds():
    for solution in ("x", "7"):
        score(answered("1"), solution)
    start = time.perf_counter()
    for i in range(64):
        towers = score(answered("9^{9^{9^%d}}" % (i + 9)), "7")  # noqa: UP031
        assert towers == Score(0.0, "too_large")
    assert time.perf_counter() - start < 10
    assert [score(answered(r"\binom{10000000}{4999%03d}" % i), "7").rejection for i in range(8)] == ["timeout"] * 8  # noqa: UP031
    assert score(answered(r"\sqrt{49}"), "7") == Score(1.0)
    assert WORKER.limit < 0.5
    assert time.perf_counter() - start < 30


def test_the_same_hostile_answer_is_tried_once():
    text = answered(r"\binom{10000000}{4111111}")
    assert score(text, "7") == Score(0.0, "timeout")
    start = time.perf_counter()
    assert [score(text, "7") for _ in range(100)] == [Score(0.0, "timeout")] * 100
    assert time.perf_counter() - start < 0.2


def test_memory_is_limited_signals_and_hashes_are_its_own(worker):
    worker(*PAIR)
    assert os.getpgid(worker._process.pid) != os.getpgrp()  # Ctrl-C in the terminal does not reach it
    assert b"PYTHONHASHSEED=0" in Path(f"/proc/{worker._process.pid}/environ").read_bytes()
    (graded_by,) = children(worker._process.pid)
    limits = Path(f"/proc/{graded_by}/limits").read_text()
    assert str(2**30) in next(line for line in limits.splitlines() if line.startswith("Max address space"))


def test_a_worker_or_template_that_was_killed_is_replaced(worker):
    worker(*PAIR)
    (graded_by,) = children(worker._process.pid)
    os.kill(graded_by, signal.SIGKILL)
    assert worker(*PAIR) in ("right", "crashed")
    assert worker(*PAIR) == "right"
    worker._process.kill()
    worker._process.wait()
    assert worker(*PAIR) == "right"


def test_a_stopped_template_is_given_up(worker):
    worker(*PAIR)
    worker._channel.settimeout(0.2)
    os.kill(worker._process.pid, signal.SIGSTOP)
    assert worker(*PAIR) == "crashed"
    assert worker(*PAIR) == "right"


def test_from_several_threads(worker):
    worker(*PAIR)
    outcomes = {}

    def grade(number: int):
        outcomes[number] = [worker("strict", str(number), f"{number}{i}-{number}{i}+{number + i % 2}") for i in range(6)]

    threads = [threading.Thread(target=grade, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {number: ["right", "wrong"] * 3 for number in range(1, 6)}


def test_ctrl_c_leaves_no_reply_behind(worker):
    """The reply to the interrupted pair must not be taken for that to the next."""
    worker(*PAIR)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # nohup and the like ignore it
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        worker(*HANGS)
    signal.signal(signal.SIGINT, before)
    assert worker("strict", "1", "2") == "wrong"
    assert worker(*PAIR) == "right"


def test_a_forked_copy_has_its_own(worker):
    worker(*PAIR)
    template = worker._process.pid
    with worker._lock:  # as by another thread, which the copy does not have
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            fine = worker(*PAIR) == "right" and worker._process.pid != template
            worker.close()
            os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert worker(*PAIR) == "right" and worker._process.pid == template


PROGRAM = """
import os, sys, threading
from r1reward.rewards.mathematics import WORKER, mathematics
assert "sympy" not in sys.modules
print(mathematics("<answer>1/2</answer>", "0.5").value, WORKER._process.pid, flush=True)
assert "sympy" not in sys.modules and "torch" not in sys.modules
threading.Timer(0.3, os._exit if len(sys.argv) > 1 else print, (9,)).start()
WORKER("strict", "1", "\\\\binom{10000000}{5000000}")
"""


@pytest.mark.parametrize("abruptly", [False, True])
def test_nothing_outlives_the_program(abruptly):
    program = [sys.executable, "-c", PROGRAM, *["abruptly"] * abruptly]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    value, template = done.stdout.split()[:2]
    assert value == "1.0" and done.returncode == (9 if abruptly else 0), done.stderr
    deadline = time.monotonic() + 10
    while alive(int(template)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(template))


def test_a_missing_library_is_said(worker, monkeypatch, tmp_path):
    (tmp_path / "math_verify.py").write_text("raise ImportError('broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="r1reward.rewards.guarded"):
        worker(*PAIR)


def test_every_rejection_can_happen(worker):
    seen = {score(answered("9" * 1001), "5").rejection, score(answered("+"), "5").rejection}
    seen |= {score(answered("9^{99999}"), "5").rejection, worker(*HANGS)}
    worker._channel.settimeout(0.1)
    os.kill(worker._process.pid, signal.SIGSTOP)
    assert seen | {worker(*PAIR)} == set(REJECTIONS)


PIECES = st.sampled_from(
    [
        "1",
        "2x",
        r"\frac",
        r"\sqrt",
        "{",
        "}",
        "(",
        ")",
        "^",
        "_",
        "+",
        "=",
        ",",
        "!",
        "%",
        r"\text{ cm}",
        r"\boxed{",
        "$",
        "<answer>",
    ]
    + [
        "</answer>",
        " ",
        "\n",
        r"\pi",
        "|",
        "\\",
        "\x00",
        "\ud800",
        "\u0660",
        "9999999",
        "e",
        r"\int",
        r"\begin{matrix}",
        "&",
        "nan",
    ]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(PIECES, max_size=10).map("".join), st.sampled_from(SEMANTICS), st.booleans())
def test_no_text_raises(text, semantics, in_block):
    result = score(answered(text) if in_block else text, r"\frac{2}{7}", semantics)
    assert result.value in (0.0, 1.0)
    assert result.rejection in (None, *mathematics.REJECTIONS, *blocks.REJECTIONS)
