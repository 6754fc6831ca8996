"""Our reward functions by name, in the form that the trainer calls (`r1reward.rewards.tasks`).

What each one means is documented where it is defined; here are only the adapters: from a batch of completions and columns to
texts and solutions, and from `Score` to a number. All log `rejected`, the share of texts that they could not read; the
formats also the share of each reason.

    accuracy      iou, hit                                   r1reward.rewards.grounding
                  od_length, map, od_ap, ap50, weighted_sum  r1reward.rewards.detection
                  multiple_choice, yes_no, exact, number,
                  fuzzy, default                             r1reward.rewards.answers
                  math                                       r1reward.rewards.mathematics
                  judged                                     r1reward.rewards.judged
    formats       think_answer, box_format,
                  detection_format                           r1reward.rewards.formats
    shape         cosine_length, repetition                  r1reward.rewards.shaping
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

from r1reward.models.coordinates import Box, Coordinates
from r1reward.rewards import answers, detection, formats, grounding, mathematics, shaping
from r1reward.rewards.judged import JudgedAnswer, bare_solution
from r1reward.rewards.judges.opinion import FailureLimit, TextModel, failure_rates, log_share
from r1reward.rewards.score import Score, check_semantics
from r1reward.rewards.tasks import Function
from r1reward.rewards.written import texts_of

ANSWERS: dict[str, Callable[..., Score]] = {
    "multiple_choice": answers.multiple_choice,
    "yes_no": answers.yes_no,
    "exact": answers.exact,
    "number": answers.number,
    "fuzzy": answers.fuzzy,
    "default": answers.default,
    "math": mathematics.mathematics,
}
BOXES: dict[str, Callable[..., Score]] = {"iou": grounding.iou, "hit": grounding.hit}
DETECTION = detection.METRICS
FORMATS: dict[str, Callable[..., Score]] = {
    "think_answer": formats.think_answer,
    "box_format": formats.box_format,
    "detection_format": formats.detection_format,
}
NAMES = (*BOXES, *DETECTION, *ANSWERS, "judged", *FORMATS, "cosine_length", "repetition")


@dataclass(frozen=True)
class Context:
    """What some rewards need besides the rows.

    Attributes:
        coordinates: Called once where boxes are compared: how the policy writes them. None: in pixels of the original image.
        text_model: The language model that judges answers; None where there is none.
        max_failure_rate: Largest share of failures of the language model before the run ends.
    """

    coordinates: Callable[[], Coordinates] | None = None
    text_model: TextModel | None = None
    max_failure_rate: float = 0.2


class Judged:
    """The reward `judged`: 1.0 where a language model says that the answer means the same as the solution (see
    `r1reward.rewards.judged`), None where it fails; logs the share of each kind of failure.
    """

    def __init__(self, text_model: TextModel, max_failure_rate: float):
        self._judge, self._limit = JudgedAnswer(text_model), FailureLimit(max_failure_rate)

    def __call__(self, completions, prompts, solution, log_metric=None, **columns) -> list[float | None]:
        opinions = self._judge([_question(prompt) for prompt in prompts], texts_of(completions), solution)
        if log_metric is not None:
            for kind, rate in failure_rates(opinions).items():
                log_share(log_metric, kind, rate, of=len(opinions))
        self._limit.record(opinions)
        return [opinion.value for opinion in opinions]

    def start(self, texts: list[str], prompts, solution, **columns) -> None:
        """Let the model begin with these texts."""
        self._judge.start([_question(prompt) for prompt in prompts], texts, solution)


def make(name: str, semantics: str, options: dict[str, Any], context: Context) -> Function:
    """The reward function of that name (one of `NAMES`).

    Args:
        semantics: `strict` or `released`.
        options: Further keyword arguments of the function.

    Raises:
        ValueError: For an unknown name, option or semantics, or where the context lacks what the function needs.
    """
    check_semantics(semantics)
    if name in ANSWERS:
        return partial(_answers, _with_options(ANSWERS[name], semantics, options))
    if name in BOXES:
        return partial(_boxes, _with_options(BOXES[name], semantics, options), _coordinates(context))
    if name in DETECTION:
        score = _with_options(detection.score, semantics, options, metric=name)
        return partial(_detection, score, _coordinates(context))
    if name in FORMATS:
        return partial(_formats, _with_options(FORMATS[name], semantics, options))
    if name == "cosine_length":
        return partial(_cosine_length, _with_options(shaping.cosine_length, semantics, options))
    if name == "repetition":
        return partial(_formats, _with_options(shaping.repetition, semantics, options))
    if name == "judged":
        if context.text_model is None:
            raise ValueError("needs a language model to judge answers: set reward/judge=openai or reward/judge=transformers")
        if semantics != "strict" or options:
            raise ValueError("has one semantics, and no options")
        return Judged(context.text_model, context.max_failure_rate)
    raise _unknown(name)


def solution_check(name: str, semantics: str, options: dict[str, Any]) -> Callable[[str], None]:
    """A function that raises a ValueError that says what is wrong with a ground truth, if the reward of that name cannot
    read it.

    Raises:
        ValueError: As `make`.
    """
    check_semantics(semantics)
    if name in ANSWERS or name in BOXES:
        score = _with_options((ANSWERS | BOXES)[name], semantics, options)
        return lambda solution: score("", solution)
    if name in DETECTION:
        score = _with_options(detection.score, semantics, options, metric=name)
        return lambda solution: score([""], [solution])
    if name == "judged":
        return bare_solution
    if name not in NAMES:
        raise _unknown(name)
    return lambda solution: None


def _unknown(name: str) -> ValueError:
    return ValueError(f"unknown reward function {name!r}; choose one of {', '.join(NAMES)}, or give a dotted path")


def _with_options(function: Callable, semantics: str, options: dict[str, Any], **fixed) -> Callable:
    """The function with its options, which are those of its keyword arguments that the data does not give."""
    given = {"text", "texts", "solution", "solutions", "to_pixels", "semantics", "num_tokens", "correct", "metric"}
    known = set(signature(function).parameters) - given
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r}; the options are: {', '.join(sorted(known)) or 'none'}")
    return partial(function, semantics=semantics, **fixed, **options)


def _coordinates(context: Context) -> Coordinates | None:
    return None if context.coordinates is None else context.coordinates()


def _answers(score, completions, solution, log_metric=None, **columns):
    pairs = zip(texts_of(completions), solution, strict=True)
    return _values([score(text, truth) for text, truth in pairs], log_metric)


def _boxes(score, coordinates, completions, solution, images=None, log_metric=None, **columns):
    rows = zip(texts_of(completions), solution, _to_pixels(coordinates, images, len(completions)), strict=True)
    return _values([score(text, truth, to_pixels=to_pixels) for text, truth, to_pixels in rows], log_metric)


def _detection(score, coordinates, completions, solution, images=None, log_metric=None, **columns):
    to_pixels = _to_pixels(coordinates, images, len(completions))
    return _values(score(texts_of(completions), solution, to_pixels=to_pixels), log_metric)


def _to_pixels(coordinates: Coordinates | None, images, rows: int) -> list[Callable[[Box], Box] | None]:
    """For each row, from a box as the policy writes it to pixels of the row's first image; None leaves it as it is."""
    if coordinates is None or images is None:
        return [None] * rows
    return [partial(coordinates.to_pixels, image_size=row[0].size) if row else None for row in images]


def _formats(score, completions, log_metric=None, **columns):
    return _values([score(text) for text in texts_of(completions)], log_metric)


def _cosine_length(score, completions, completion_ids, correct, **columns):
    if correct and correct[0] is None:
        raise ValueError("cosine_length needs a term before it that says what is right")
    return [score(len(ids), right) for ids, right in zip(completion_ids, correct, strict=True)]


def _question(prompt: list[dict]) -> str:
    """The text of the user's turn."""
    return "".join(part["text"] or "" for part in prompt[-1]["content"] if part["type"] == "text")


def _values(scores: list[Score], log_metric) -> list[float]:
    if log_metric is not None and scores:
        share = sum(score.rejection is not None for score in scores) / len(scores)
        log_share(log_metric, "rejected", share, of=len(scores))
    return [score.value for score in scores]
