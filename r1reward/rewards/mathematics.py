r"""Whether an answer is mathematically equal to the solution: VLM-R1's reward `math`, by the package math_verify.

    text -> answer block -> `expression` -> | another process (guarded.py): sympy | -> Score

The other process is there because sympy computes whatever it is asked to: `9^{9^{9^9}}` fills the memory. math_verify's own
time limit is a signal that only the main thread gets, and not while sympy is in C code.

What math_verify would pay for, and `strict` does not:

    part of an expression    Without dollar signs it reads the first number: 2 was equal to `2\sqrt{3}` and to `2x+1`.
    one of many              "1, 2, 3 or 5" was equal to 5: it takes the last number of any prose.
    tiny numbers             It compares six decimals: 9.1e-31 was equal to 1.6e-19.
    no solution              `x=x+1` was equal to every equation without a real solution.
    contradictions           `x=7=5` was equal to 5.
    units                    "5 cm", "5 m" and `5\text{ million}` were all equal to 5, and 2 to `2t` (t for tons).
    capital letters, words   `r` was equal to `R`, and "angel" to "glean", as a product of letters.
"""

import atexit
import json
import os
import re
import socket
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path

from r1reward.rewards import blocks
from r1reward.rewards.score import RELEASED, Score, check_semantics
from r1reward.rewards.spelling import closing_brace, in_digits, unframed

REJECTIONS = (
    "too_long",  # more than MAX_LENGTH characters (released: MAX_RELEASED_LENGTH)
    "unreadable",  # strict: no mathematical expression
    "too_large",  # strict: a power or factorial that would have thousands of digits
    "timeout",  # comparing took too long
    "crashed",  # the worker ended: out of memory, stack overflow
)

MAX_LENGTH = 1000  # characters of an answer or solution; the parser needs up to a millisecond for each
MAX_RELEASED_LENGTH = 20_000  # characters of a text that is searched for expressions


def mathematics(text: str, solution: str, semantics: str = "strict") -> Score:
    r"""1.0 if the answer is equal to the solution as mathematics, 0.0 if not or if that cannot be decided in time.

    strict: the answer block is one expression, in LaTeX or plain (`\frac{1}{2}`, 1/2, 0.5, $x=3$, 1.6e-19, 5 cm), with no more
    around it than dollar signs, `\boxed{}`, "The answer is" and a full stop.

        Numbers      Decimal fractions are equal if they agree in six decimals, and in six significant digits where they are
                     small: 0.333333 is 1/3, 0.33 is not, and 0.000001 is not 0.0000012. Others must be equal.
        Percent      50% is 50% and 0.5; where only one of the two has the sign, 50% is also 50.
        Units        May be left out. If both name one, it must be the same; words that are no known unit belong to the
                     expression.
        Equations    `x = 5` is 5, and 5 is `x = 5`; `2 + 3 = 5` is 5, but `7 = 5` is not.
        Letters      Capital and small letters differ, except within words; a solution of words is compared as a text.
        Otherwise    as `math_verify.verify` decides, the solution as its first argument.

    released: as the released `math_reward` (its `compute_score`). The last answer block or else the whole text, and the
    solution, are lower-cased; 1.0 if they are the same, if math_verify finds expressions in them that it takes for equal (the
    answer as its first argument), or if they have the same form after the normalisation of the MATH benchmark
    (arXiv 2103.03874). The differences are the length limit and the time limit of 2 instead of 10 seconds.

    A solution that math_verify cannot parse (such as `\gamma`, in version 0.9) is compared as a text.

    Raises:
        ValueError: If the solution is empty, too long, or too hard to compute with.
        RuntimeError: If math_verify is not installed.
    """
    check_semantics(semantics)
    check_solution(solution)
    if semantics == RELEASED:
        return _released(released_text(text), released_text(solution))
    read = blocks.read_answer(text)
    if read.rejection:
        return Score(0.0, read.rejection)
    if len(read.answer) > MAX_LENGTH:
        return Score(0.0, "too_long")
    gold, answer = expression(solution_text(solution)), expression(read.answer)
    if answer == gold:
        return Score(1.0)
    if _WORDS.fullmatch(gold):
        return Score(float(answer.casefold() == gold.casefold()))
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return Score(float(int(answer) == int(gold)))
    outcome = _graded("strict", gold, answer)
    return Score(float(outcome == "right"), outcome if outcome in REJECTIONS else None)


def check_solution(solution: str):
    """Raise a ValueError unless answers can be compared with this solution; see `mathematics`."""
    gold = solution_text(solution)
    if len(gold) > MAX_LENGTH:
        raise ValueError(f"the solution has {len(gold)} characters ({gold[:40]}...); expected at most {MAX_LENGTH}")
    gold = expression(gold)
    if not gold:
        raise ValueError("the solution is empty; expected a mathematical expression, in LaTeX or plain")
    is_plain = _WORDS.fullmatch(gold) or _INTEGER.fullmatch(gold)
    if not is_plain and _graded("solution", gold, "0") in ("too_large", "timeout", "crashed"):
        raise ValueError(f"the solution {gold[:80]} is too hard to compute with: simplify it, or use the reward `exact`")


def solution_text(solution: str) -> str:
    """The solution without an answer block around it: VLM-R1 writes `<answer> 5 </answer>`."""
    inside = blocks.last_answer(solution)
    return (solution if inside is None else inside).strip()


def released_text(text: str) -> str:
    """What the released `clean_text` makes of a text: the last answer block or all of it, on one line, in small letters,
    without full stops at the end.
    """
    inside = blocks.last_answer(text)
    text = text if inside is None else inside
    for end in "\n\r":
        text = re.sub(rf"(?<=\s){end}", "", text).replace(end, " ")
    return text.strip().rstrip(".").lower()


# ---- An answer without its frame

_FRAME = re.compile(r"\$|(?<!\\)\\[()\[\]]")
_WORDS = re.compile(r"(?:[^\W\d_]{3,}|[^\W\d_]{2}\s+[^\W\d_]{3,})(?:\s+[^\W\d_]+)*")
_INTEGER = re.compile(r"-?[0-9]{1,100}")


def expression(answer: str) -> str:
    r"""An answer without what only frames it: dollar signs, emphasis, "The answer is", `\boxed{}`, a full stop."""
    text, before = answer, None
    while text != before:
        before, text = text, unframed(_FRAME.sub("", text.strip().strip("*`").replace(r"\$", "")).strip())
    digits = in_digits(text)
    return digits if digits.isdecimal() else text


# ---- The worker


class Worker:
    """Calls `r1reward.rewards.guarded.grade` in another process, which the first call starts. May be used from several threads.

    Pairs that take long cost time, whether or not they end within the limit, so each one that takes more than `impatient`
    seconds makes the worker less patient with the next: the limit is halved, down to `impatient`, and grows by a tenth with
    each pair that takes less. A batch of nothing but hostile texts then costs `impatient` seconds each. Others, which take a
    small part of that, are not affected.

    Our own process is not forked (it may hold CUDA and threads), and nothing is pickled.

    Args:
        seconds: Processor time that one pair may take.
        impatient: The least that this limit can fall to, in seconds.
    """

    def __init__(self, seconds: float = 2.0, impatient: float = 0.25):
        self.seconds, self.impatient, self.limit = seconds, impatient, seconds
        self._process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self, *pair: str, patient: bool = False) -> str:
        """What `grade` says about its arguments, or `timeout` or `crashed`.

        Args:
            pair: The arguments of `grade`.
            patient: Give these the full time, whatever those before took.

        Raises:
            RuntimeError: If the other process cannot start.
        """
        with self._lock:
            try:
                if self._process is None or self._process.poll() is not None:
                    self._start()
                outcome, used = self._ask([self.seconds if patient else self.limit, pair])
            except (OSError, ValueError):  # the other process is stuck or gone
                outcome, used = "crashed", 0.0
                self._stop()
            except BaseException:  # Ctrl-C: the reply to come would be taken for that to the next pair
                self._stop()
                raise
            if not patient:
                is_slow = outcome == "timeout" or used > self.impatient
                self.limit = min(self.seconds, max(self.impatient, self.limit * (0.5 if is_slow else 1.1)))
            return outcome

    def close(self):
        """End the other process; the next call starts it again."""
        with self._lock:
            self._stop()

    def _start(self):
        self._stop()
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(60)  # real time: for a machine that stands still, not for slow pairs
        self._replies = self._channel.makefile("r", encoding="utf-8")
        path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "r1reward.rewards.guarded"],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal is for us alone
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONHASHSEED": "0"},  # sympy depends on set order
            )
        try:
            is_ready = bool(self._replies.readline())
        except OSError:
            is_ready = False
        if not is_ready:
            raise RuntimeError(
                "mathematics cannot be compared: run `python -m r1reward.rewards.guarded` to see what is missing"
            )

    def _ask(self, request: list) -> tuple[str, float]:
        """The outcome, and the processor time that it took in seconds (0 where that ran out)."""
        self._channel.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(self._replies.readline())

    def _stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._replies.close()
            self._channel.close()
        self._process = None

    def _forget(self):
        """In a forked copy of our process: the other process belongs to the original."""
        self._process, self._lock = None, threading.Lock()


WORKER = Worker()


@lru_cache(maxsize=2**16)  # the rollouts of a group share the solution, and often the answer; what hangs, hangs once
def _graded(kind: str, gold: str, answer: str) -> str:
    return WORKER(kind, gold, answer, patient=kind == "solution")


# ---- As released


def released_equal(answer: str, gold: str) -> tuple[bool, str | None]:
    """What math_verify finds in two texts is equal for it, the answer in the solution's place; and why that is unknown."""
    if len(answer) > MAX_RELEASED_LENGTH:
        return False, "too_long"
    outcome = _graded("released", gold, answer)
    return outcome == "right", outcome if outcome in REJECTIONS else None


def _released(answer: str, gold: str) -> Score:
    if answer == gold:
        return Score(1.0)
    equal, failure = released_equal(answer, gold)
    return Score(1.0) if equal or _same_form(answer, gold) else Score(0.0, failure)


def _same_form(answer: str, gold: str) -> bool:
    """Equality as the MATH benchmark defines it: the last box of the answer, or all of it, after textual normalisation."""
    if "\\boxed " in answer:
        answer = answer.rpartition("\\boxed ")[2].partition("$")[0]
    elif (start := max(answer.rfind("\\boxed"), -1 if "\\boxed" in answer else answer.rfind("\\fbox"))) >= 0:
        end = closing_brace(answer, start)
        if end >= 0 and not answer.startswith("\\boxed{", start):
            return False
        answer = answer[start + len("\\boxed{") : end] if end >= 0 else answer
    try:
        return _form(answer) == _form(gold)
    except (ValueError, IndexError):  # the released normalisation raises for some texts, which are then compared as they are
        return answer == gold


_RESPELLED = {"\n": "", "\\!": "", "\\\\": "\\", "tfrac": "frac", "dfrac": "frac", "\\left": "", "\\right": ""}
_RESPELLED |= {"^{\\circ}": "", "^\\circ": "", "\\$": ""}


def _form(text: str) -> str:
    for old, new in _RESPELLED.items():
        text = text.replace(old, new)
    if "\\text{ " in text:
        text, _ = text.split("\\text{ ")  # a unit
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    text = f"0{text}" if text.startswith(".") else text
    name, _, value = text.partition("=")
    text = value if text.count("=") == 1 and len(name) <= 2 else text
    first, *roots = text.split("\\sqrt")
    text = "\\sqrt".join([first, *(root if root[0] == "{" else f"{{{root[0]}}}{root[1:]}" for root in roots)]).replace(" ", "")
    first, *fractions = text.split("\\frac")
    if not any(fraction[0] != "{" and len(fraction) < 2 for fraction in fractions):
        text = "\\frac".join([first, *map(_braced, fractions)])
    if text == "0.5":
        return "\\frac{1}{2}"
    if text.count("/") == 1:
        above, below = map(int, text.split("/"))
        text = f"\\frac{{{above}}}{{{below}}}" if text == f"{above}/{below}" else text
    return text


def _braced(fraction: str) -> str:
    """What follows `\\frac`, with braces: `12` -> `{1}{2}`, `1{72}` -> `{1}{72}`."""
    if fraction[0] == "{":
        return fraction
    below = fraction[1:] if fraction[1] == "{" else f"{{{fraction[1]}}}{fraction[2:]}"
    return f"{{{fraction[0]}}}{below}"
