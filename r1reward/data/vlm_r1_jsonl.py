"""Reader for the training format of VLM-R1 (om-ai-lab/VLM-R1, `grpo_jsonl.py`): questions about images with a known answer.

One JSON object per line:

    conversations        [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]; later turns are not read;
                         "<image>" in the question is taken out, images stand before the text
    image                path of the image, or a list of paths; absent for a text-only row
    task                 ours: names the row's reward, one of those under `reward.tasks`
    accu_reward_method   VLM-R1's: the same by the names of its methods (see `METHODS`)
    id                   optional, as are `category` and `level`

A row that names no task has the one of the file (`data.task`).
"""

import math
from functools import partial
from pathlib import Path

from r1reward.data.images import DEFAULT_LIMITS, ImageLimits
from r1reward.data.jsonl import Problem, checked_text, common_fields, image_sources, read_rows, shown
from r1reward.data.rows import PREFERENCE, TaskRow

# The tasks of conf/reward/tasks whose first term is what VLM-R1 computes under these names.
METHODS = {
    "default": "answer",
    "mcq": "multiple_choice",
    "yes_no": "yes_no",
    "llm": "judged",
    "math": "math",
    "all_match": "exact",
    "odLength": "ovd",
    "weighted_sum": "ovd_weighted_sum",
    "od_ap": "ovd_ap",
    "map": "ovd_map",
    "od_ap50": "ovd_ap50",
}
_SPEAKERS = (("human", "user"), ("gpt", "assistant"))  # of the question and of the answer, where the turns name them


def read(
    path: str | Path,
    task: str | None,
    image_root: str | Path | None = None,
    limit: int | None = None,
    check_images: bool = True,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> list[TaskRow]:
    """Read a JSONL file in VLM-R1's format.

    Args:
        path: The JSONL file.
        task: The task of rows that name none.
        image_root, limit, check_images, limits: See `r1reward.data.jsonl.read_rows`, as are errors and ids.
    """
    return read_rows(path, partial(_parse, task=task), image_root, limit, check_images, limits)


def _parse(data: dict, line: int, root: Path, task: str | None) -> TaskRow:
    turns = data.get("conversations")
    example = '[{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]'
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns[:2]):
        raise Problem("conversations", f"must be a question and an answer, got {shown(turns)}; write {example}")
    for turn, speakers in zip(turns, _SPEAKERS, strict=False):
        if turn.get("from", speakers[0]) not in speakers:
            raise Problem(
                "conversations", f"not a question and then an answer, but from {shown(turn['from'])}; write {example}"
            )
    question, answer = turns[0].get("value"), turns[1].get("value")
    if not isinstance(question, str) or not question.replace("<image>", "").strip():
        raise Problem("conversations", f"the question must be a text, got {shown(question)}; write {example}")
    if not isinstance(answer, str | int | float) or isinstance(answer, bool) or not str(answer).strip():
        raise Problem("conversations", f"the answer must be a text or a number, got {shown(answer)}; write {example}")
    if isinstance(answer, float) and not math.isfinite(answer):
        raise Problem("conversations", f"the answer {answer} is too large for a number; write it as a text")
    names = data.get("image", [])
    images = image_sources(names if isinstance(names, list) else [names], root)
    if question.count("<image>") > len(images):
        counts = f"{len(images)} given, but the question has {question.count('<image>')} times <image>"
        raise Problem("image", f"{counts}; give a path for each, or take <image> out of a question without images")
    return TaskRow(
        images=images,
        prompt=checked_text(question.replace("<image>", "").strip(), "conversations"),
        solution=checked_text(str(answer), "conversations"),
        task=_task(data, task),
        **common_fields(data, line),
    )


def _task(data: dict, default: str | None) -> str:
    method, named = data.get("accu_reward_method"), data.get("task")
    if method is not None and named is not None:
        raise Problem("task", "given as well as accu_reward_method; leave one of them out")
    if method is not None:
        if not isinstance(method, str) or method not in METHODS:
            raise Problem("accu_reward_method", f"unknown, got {shown(method)}; choose one of {', '.join(METHODS)}")
        return METHODS[method]
    name = default if named is None else named
    if not isinstance(name, str) or not name.strip() or name == PREFERENCE:
        raise Problem("task", f"must name a task of reward.tasks, got {shown(name)}; write it in the row, or set data.task")
    return checked_text(name, "task")
