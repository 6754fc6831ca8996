"""The other process of the reward `math`: sympy, with a limit of time and memory for each comparison.

    mathematics.py  <-- lines of JSON -->  template (`serve`)  -- forks -->  worker (`_fork`): `grade`, pair after pair

Run as `python -m r1reward.rewards.guarded`, never imported by the rewards: only here is sympy loaded.

The template grades one pair, so that all libraries are loaded, and then does nothing but fork. A worker serves until a pair
exceeds its time; then the kernel ends it, whatever code it runs, and the template forks the next one in milliseconds, where a
new Python with sympy would need half a second. The clock is the worker's processor time: a busy machine rejects nothing that
an idle one accepts. When the process that asks is gone, both end.
"""

import json
import os
import re
import resource
import signal
import socket
import time

from latex2sympy2_extended import NormalizationConfig, is_expr_of_only_symbols, latex2sympy, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import parse, verify
from sympy import And, Eq, Expr, FiniteSet, Interval, Pow, Tuple, factorial, log, postorder_traversal, preorder_traversal, solve
from sympy.core.relational import Relational

from r1reward.rewards.units import split_unit

MEMORY = 2**30  # bytes of address space of a worker
MAX_EXPONENT = 10_000

READY = "ready"
WARM_UP = ("strict", r"y = \frac{1}{2}x^2 - \sqrt{3}", "2y = x^2 - 1.5")


# ---- The processes


def serve():
    """The template: forks workers and passes lines between them and its standard input, a socket."""
    asking = socket.socket(fileno=0)
    grade(*WARM_UP)
    asking.sendall(json.dumps(READY).encode() + b"\n")
    worker = None
    for line in asking.makefile("r", encoding="utf-8"):
        worker = worker or _fork()
        process, channel, lines = worker
        channel.sendall(line.encode())
        reply = lines.readline()
        if not reply:
            _, status = os.waitpid(process, 0)
            channel.close()
            worker = None
            late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
            reply = json.dumps(["timeout" if late else "crashed", 0.0]) + "\n"
        asking.sendall(reply.encode())


def _fork() -> tuple:
    """A worker's process id, the socket to it, and the lines from it."""
    ours, theirs = socket.socketpair()
    process = os.fork()
    if process:
        theirs.close()
        return process, ours, ours.makefile("r", encoding="utf-8")
    try:
        ours.close()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for line in theirs.makefile("r", encoding="utf-8"):
            seconds, pair = json.loads(line)
            signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process
            start = time.process_time()
            outcome = grade(*pair)
            theirs.sendall(json.dumps([outcome, time.process_time() - start]).encode() + b"\n")
    finally:
        os._exit(0)


# ---- Grading


def grade(kind: str, gold: str, answer: str) -> str:
    """`right`, `wrong`, or one of `mathematics.REJECTIONS`. A solution that cannot be parsed is equal to nothing.

    Args:
        kind: `strict` compares two expressions; `solution` too, and also says `too_large` if the first is; `released` looks for
            expressions in two texts and compares those.
    """
    try:
        if kind == "released":
            found = parse(answer, parsing_timeout=None), parse(gold, parsing_timeout=None)
            return "right" if verify(*found, timeout_seconds=None) else "wrong"
        is_real = not any(re.search(r"(?<![A-Za-z])i(?![A-Za-z])", text) for text in (gold, answer))
        gold_tree, gold_unit = _read(gold, is_real)
    except OverflowError:
        return "too_large" if kind == "solution" else "wrong"
    except Exception:  # the parser raises all kinds
        return "wrong"
    try:
        tree, unit = _read(answer, is_real)
    except OverflowError:
        return "too_large"
    except Exception:
        return "unreadable"
    try:
        return "right" if _same_quantity(gold_tree, gold_unit, tree, unit) else "wrong"
    except Exception:  # and so does sympy, for what it cannot compare
        return "wrong"


def _same_quantity(gold, gold_unit: str, answer, unit: str) -> bool:
    """Equal with their units: one that is left out counts as the same, and a percent sign may stand for 1/100."""
    if gold_unit and unit and gold_unit != unit:
        return False
    if _equal(gold, answer):
        return True
    if gold_unit == unit or "percent" not in (gold_unit, unit) or not isinstance(gold, Expr) or not isinstance(answer, Expr):
        return False
    return _equal(gold / 100, answer) if gold_unit else _equal(gold, answer / 100)


def _equal(gold, answer) -> bool:
    """What `math_verify.verify` says, without the wrong answers that it takes for equal; see the head of mathematics.py."""
    sides = _sides(answer)
    if not all(_equal(sides[-1], side) for side in sides[1:-1]):
        return False
    if sides and not _sides(gold):
        return _equal(gold, sides[-1]) and (is_expr_of_only_symbols(sides[0]) or _equal(gold, sides[0]))
    if isinstance(gold, Interval) and isinstance(answer, And | Relational):
        gold, answer = answer, gold  # verify takes [0, 1] for 0 <= x <= 1, but not the other way round
    if _is_another(gold, answer):
        return False
    digits = _digits_beyond_six(gold, answer)
    is_equal = verify(gold, answer, float_rounding=6 + digits, numeric_precision=15 + digits, timeout_seconds=None)
    return is_equal and all(_has_solution(equation) for equation in answer.atoms(Eq))


def _is_another(gold, answer) -> bool:
    """For what verify takes for equal wrongly, or only tells apart after long."""
    if isinstance(gold, And | Relational) and not _sides(gold) and isinstance(answer, FiniteSet | Tuple):
        return True  # 1 < x < 2, answered by 1, 2
    if isinstance(gold, FiniteSet) and len({equation.lhs for equation in gold.atoms(Eq)}) > 1 and not answer.atoms(Eq):
        return True  # x = 1, y = 2, answered by 2, 1
    if not (isinstance(gold, Expr) and isinstance(answer, Expr) and gold.is_number and answer.is_number):
        return False
    values = gold.evalf(), answer.evalf()
    difference = abs(values[0] - values[1])
    return bool(difference.is_finite and difference > 1e-12 and difference > 1e-5 * max(map(abs, values)))


def _sides(tree) -> list:
    """The sides of an equation or of a chain of equations, `x = 2 + 3 = 5`; none for anything else."""
    relations = tree._unsorted_args if isinstance(tree, And) else [tree]  # as they were written: it is the parser's own And
    if not all(isinstance(relation, Eq) for relation in relations):
        return []
    return [relations[0].lhs, *(relation.rhs for relation in relations)]


def _has_solution(equation: Eq) -> bool:
    try:
        return bool(solve(equation))
    except Exception:  # then verify cannot solve it either
        return True


def _digits_beyond_six(*trees) -> int:
    """How many decimals more than six it takes for six significant digits of the smallest number in the expressions."""
    parts = [part for tree in trees for part in preorder_traversal(tree) if isinstance(part, Expr) and part.is_number]
    sizes = [size for part in parts if (size := abs(part.evalf(5))).is_Float and size > 0]
    return max(0, -int(log(min(sizes, default=1), 10).evalf(5) // 1) - 1)


# ---- Reading

_SIGNS = {"−": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "°": r"^{\circ}", "√": r"\sqrt "}
_SIGNS |= {"π": r"\pi ", "∞": r"\infty ", "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "²": "^{2}", "³": "^{3}"}
_FUNCTION = re.compile(r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|log|ln|exp|pi)(?![A-Za-z])")
_PLAIN = (
    (re.compile(r"^(-?[0-9]+)\s+([0-9]+)/([0-9]+)$"), r"\1\\frac{\2}{\3}"),  # 1 1/2
    (re.compile(r"(?<=[0-9])[eE]([+-]?[0-9]+)(?![0-9A-Za-z.])"), r"\\times 10^{\1}"),  # 1.6e-19
    (re.compile(r"\^\s*([+-]?[0-9]+)"), r"^{\1}"),  # 10^-5
    (re.compile(r"\\?sqrt\s*\("), "sqrt("),  # the parser's own way to write roots with parentheses
    (re.compile(r"(?<![A-Za-z])\\?sqrt\s*([0-9]+)"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\\A-Za-z])sqrt(?=\s*\{)"), r"\\sqrt"),
    (re.compile(r"(?<=[0-9])(?:\{,\}|,\\!)(?=[0-9]{3}(?![0-9]))"), ""),  # thousands, as LaTeX has them
)
_THOUSANDS = re.compile(r"^-?[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
# The parser takes "1 000" for 1 * 0, and "1.2.3" for 1.2 * 0.3.
_MISREAD = re.compile(r"[0-9](?:\s|~|\\[,;:! ])+[0-9]|\.[0-9]*\.|\\f?boxed")
_NORMALIZATION = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")


def _read(text: str, is_real: bool) -> tuple:
    """The sympy expression and the unit of a text.

    Raises:
        OverflowError: If it would be too large to compute.
        Exception: If it cannot be parsed; of any kind.
    """
    text, unit = split_unit(text.translate(str.maketrans(_SIGNS)))
    tree = latex2sympy(
        normalize_latex(_latex(text), _NORMALIZATION),
        is_real=is_real,
        normalization_config=None,
        conversion_config=ConversionConfig(lowercase_symbols=False),
    )
    for part in postorder_traversal(tree):  # from the inside, so that nothing large is ever computed
        size = part.exp if isinstance(part, Pow) else part.args[0] if isinstance(part, factorial) else None
        if size is not None and size.is_number and not abs(size.evalf(5)) <= MAX_EXPONENT:
            raise OverflowError
    return tree, unit


def _latex(text: str) -> str:
    """Plain notation as LaTeX. Raises a ValueError for what the parser would take for something else."""
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    text = _FUNCTION.sub(r"\\\1", text)
    grouped = _THOUSANDS.match(text)
    if grouped and "," not in text[grouped.end() :]:
        text = grouped[0].replace(",", "") + text[grouped.end() :]
    if _MISREAD.search(text):
        raise ValueError(f"{text} would be misread")
    return text


if __name__ == "__main__":
    serve()
