"""Targets of supervised training: a row's right answer, as a completion that its own reward calls right.

    <think></think><answer>...</answer>

What stands in the answer block follows from the reward of the row's task:

    preference                      1 or 2
    one box (`iou`, `hit`)          {"bbox_2d": [x1, y1, x2, y2]}, or None
    boxes with labels (`map`, ...)  [{"bbox_2d": [x1, y1, x2, y2], "label": "..."}, ...], or None
    any other                       the solution as the data has it

Boxes are written in the space in which the policy writes boxes. The forms are VLM-R1's (arXiv 2504.07615); a list is in a
```json fence where the data's own solution is, because the data's question then asks for one.

The think block is empty, because the rows have no reasoning to imitate, and there in every target: so the format reward of
every task is 1, and a model trained on targets is evaluated by the same strict readers, under the same prompt, as one trained
by RL.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

from r1reward.data.images import ImageLimits, upright_size
from r1reward.data.rows import PREFERENCE, Row, to_training_row
from r1reward.messages import listed
from r1reward.models.coordinates import Box, Coordinates, Size
from r1reward.rewards import boxes, registry
from r1reward.rewards.blocks import ANSWER, ANSWER_END, THINK, THINK_END
from r1reward.rewards.judged import bare_solution
from r1reward.settings import JudgeSettings, RewardSettings, TaskSettings, TermSettings

BOX, DETECTIONS, TEXT = "box", "detections", "text"  # kinds of answers


@dataclass(frozen=True)
class Targets:
    """Called with a training row (`to_training_row`, its images decoded), gives the text of its target.

    Attributes:
        kinds: By task, what its answers are: `box`, `detections` or `text`.
        coordinates: How the policy writes boxes; None where no task has any.
    """

    kinds: dict[str, str]
    coordinates: Coordinates | None = None

    @classmethod
    def of(cls, settings: RewardSettings, rows: Iterable[Row], coordinates: Callable[[], Coordinates]) -> "Targets":
        """The targets of a run over `rows`; `coordinates` is called where one of their tasks has boxes."""
        tasks = {row.task for row in rows} - {PREFERENCE}
        kinds = {task: _kind(settings.tasks[task]) for task in tasks}
        return cls(kinds, coordinates() if {BOX, DETECTIONS} & set(kinds.values()) else None)

    def __call__(self, row: dict) -> str:
        """
        Raises:
            ValueError: For a solution that the reward of its task cannot read.
        """
        size = row["images"][0].size if row["images"] else None
        return f"{THINK}{THINK_END}{ANSWER}{self._answer(row, size)}{ANSWER_END}"

    def _answer(self, row: dict, size: Size | None) -> str:
        if row["task"] == PREFERENCE:
            return str(row["label"])
        kind, solution = self.kinds[row["task"]], row["solution"]
        if kind == TEXT:
            return bare_solution(solution, row["id"])
        if kind == BOX:
            box = boxes.true_box(solution)
            return "None" if box is None else json.dumps({"bbox_2d": self._write(box, size)})
        found = [{"bbox_2d": self._write(one.box, size), "label": one.label} for one in boxes.true_detections(solution)]
        if not found:
            return "None"
        text = json.dumps(found, ensure_ascii=False)
        return f"{boxes.FENCE}json\n{text}\n{boxes.FENCE}" if boxes.FENCE in solution else text

    def _write(self, box: Box, size: Size | None) -> list[float]:
        """The four numbers, such that the box keeps an inside; as they are where there is no image to scale by."""
        if size is None:
            return [int(edge) if edge.is_integer() else edge for edge in box]
        numbers, decimals = list(self.coordinates.write(box, size)), self.coordinates.decimals
        unit = 10 ** -(decimals or 0)
        for low, high in ((0, 2), (1, 3)):
            if numbers[low] == numbers[high]:  # narrower than a unit, and rounded to nothing
                moved = low if numbers[low] >= unit else high
                numbers[moved] = round(numbers[moved] + (unit if moved == high else -unit), decimals)
        return numbers


def check_targets(targets: Targets, rows: Sequence[Row], tokenizer, longest: int, limits: ImageLimits):
    """See that every target can be written and is no longer than a completion may be, by the headers of the images.

    Args:
        targets: The run's.
        rows: The training rows.
        tokenizer: The policy's.
        longest: `trainer.max_completion_length`, in tokens.
        limits: What images may be decoded.

    Raises:
        ValueError: That lists the first rows where it is not so.
    """
    problems = []
    for row in rows:
        try:
            sizes = [upright_size(image, limits) for image in row.images[:1]] if targets.kinds.get(row.task) != TEXT else []
            text = targets(to_training_row(row) | {"images": [SimpleNamespace(size=size) for size in sizes]})
            length = len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 1  # the end token
            if length > longest:
                problems.append(f"row {row.id!r}: {length} tokens")
        except ValueError as error:
            problems.append(f"row {row.id!r}, task {row.task}: {error}")
    if problems:
        head = f"{len(problems)} of {len(rows)} targets cannot be trained on; trainer.max_completion_length={longest} tokens:"
        raise ValueError(f"{head}\n  {listed(problems)}")


def reward_of_targets(settings: RewardSettings) -> RewardSettings:
    """The reward by which targets are checked: that of RL, but no model is asked about texts that are known to be right.

    There is no reasoning to be consistent with, and `judged` compares texts.
    """

    def unjudged(name: str, term: TermSettings) -> TermSettings:
        return replace(term, function="exact") if (term.function or name) == "judged" else term

    tasks = {
        task: replace(of, terms={name: unjudged(name, term) for name, term in of.terms.items()})
        for task, of in settings.tasks.items()
    }
    return replace(settings, judge=JudgeSettings("none"), consistency_weight=0.0, tasks=tasks)


def _kind(settings: TaskSettings) -> str:
    functions = {term.function or name for name, term in settings.terms.items()}
    if functions & set(registry.BOXES):
        return BOX
    return DETECTIONS if functions & set(registry.DETECTION) else TEXT
