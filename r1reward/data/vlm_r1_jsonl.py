"""Reader for the formats of VLM-R1 (om-ai-lab/VLM-R1): questions about images with a known answer.

Of training (`grpo_jsonl.py`), one object per row, in any of the files of `r1reward.data.records`:

    conversations        [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]; later turns are not read;
                         the answer is a text, a number, [x1, y1, x2, y2], or a list of objects with boxes;
                         "<image>" and "<video>" in the question are taken out, images stand before the text
    image                path of the image, or a list of paths (`jsonl.IMAGE_KEYS` has other spellings); absent for a text-only
                         row, which no task with boxes can have
    video                ours: path of a folder of frames, of which evenly spaced ones become the row's images in their order
    task                 ours: names the row's reward, one of those under `reward.tasks`
    accu_reward_method   VLM-R1's: the same by the names of its methods (see `METHODS`)
    id                   optional, as are `category` and `level`

Of its evaluation files, such as `refcoco_val.json`, `problem` and `solution` in the place of `conversations`.

A row that names no task has the one of the file (`data.task`); without that, the one that its answer has the form of: boxes
with labels, or None, are `ovd`, one box is `rec`, and anything else is `answer`, which goes by the kind of the answer in turn.
"""

import json
import math
import os
from functools import partial
from pathlib import Path

from r1reward.data.box_space import TrueBoxes
from r1reward.data.frames import FRAMES, extraction, frame_files, sample_frames
from r1reward.data.images import DEFAULT_LIMITS, ImageLimits
from r1reward.data.jsonl import checked_text, common_fields, image_field, image_sources, path_below, read_rows
from r1reward.data.records import Problem
from r1reward.data.rows import PREFERENCE, ImageSource, TaskRow
from r1reward.messages import short_repr

_READ = ("conversations", "problem", "solution", "video", "videos", "task", "accu_reward_method")
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
_TURNS = '[{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]'
_EXAMPLES = {"conversations": _TURNS, "problem": '"problem": "..."', "solution": '"solution": "..."'}
_SPEAKERS = (("human", "user"), ("gpt", "assistant"))  # of the question and of the answer, where the turns name them


def read(
    path: str | Path,
    task: str | None,
    image_root: str | Path | None = None,
    limit: int | None = None,
    check_images: bool = True,
    limits: ImageLimits = DEFAULT_LIMITS,
    num_frames: int = 8,
    box_space: str | None = None,
) -> list[TaskRow]:
    """Read rows in VLM-R1's format.

    Args:
        path: The file, or a folder or data set of the hub.
        task: The task of rows that name none.
        image_root, limit, check_images, limits: See `r1reward.data.jsonl.read_rows`, as are errors and ids.
        num_frames: Frames taken of each video, at least 1.
        box_space: The space of the true boxes (`r1reward.data.box_space`).
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1 frame of a video, got {num_frames}")
    boxes = TrueBoxes(box_space, limits)
    parse = partial(_parse, task=task, num_frames=num_frames, boxes=boxes)
    rows = read_rows(path, parse, _READ, image_root, limit, check_images, limits)
    boxes.warn_of_thousandths(path)
    return rows


def _parse(data: dict, line: int, root: Path, task: str | None, num_frames: int, boxes: TrueBoxes) -> TaskRow:
    in_turns = data.get("conversations") is not None or data.get("problem") is None
    question, answer = _turns(data.get("conversations")) if in_turns else (data["problem"], data.get("solution"))
    asked, answered = ("conversations", "conversations") if in_turns else ("problem", "solution")
    if _is_boxes(answer):
        answer = json.dumps(answer)
    if not isinstance(question, str) or not _without_marks(question):
        raise Problem(asked, f"the question must be a text, got {short_repr(question)}; write {_EXAMPLES[asked]}")
    if not isinstance(answer, str | int | float) or isinstance(answer, bool) or not str(answer).strip():
        raise Problem(answered, f"the answer must be a text or a number, got {short_repr(answer)}; write {_EXAMPLES[answered]}")
    if isinstance(answer, float) and not math.isfinite(answer):
        raise Problem(answered, f"the answer {answer} is too large for a number; write it as a text")
    row = TaskRow(
        images=_images(data, question, root, num_frames),
        prompt=checked_text(_without_marks(question), asked),
        solution=checked_text(str(answer), answered),
        task=_task(data, str(answer), task),
        **common_fields(data, line),
    )
    return boxes.in_pixels(row, answered)


def _turns(turns: object) -> tuple[object, object]:
    """What the question and the answer say."""
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns[:2]):
        raise Problem("conversations", f"must be a question and an answer, got {short_repr(turns)}; write {_TURNS}")
    for turn, speakers in zip(turns, _SPEAKERS, strict=False):
        if turn.get("from", speakers[0]) not in speakers:
            raise Problem(
                "conversations", f"not a question and then an answer, but from {short_repr(turn['from'])}; write {_TURNS}"
            )
    return turns[0].get("value"), turns[1].get("value")


def _is_boxes(answer: object) -> bool:
    """Whether an answer is not a text but JSON itself: four numbers, or objects."""
    if not isinstance(answer, list) or not answer:
        return False
    return all(isinstance(item, dict) for item in answer) or (
        len(answer) == 4 and all(isinstance(item, int | float) and not isinstance(item, bool) for item in answer)
    )


def _without_marks(question: str) -> str:
    return question.replace("<image>", "").replace("<video>", "").strip()


def _images(data: dict, question: str, root: Path, num_frames: int) -> tuple[ImageSource, ...]:
    """The row's images, or the frames of its video."""
    (field, names), video = image_field(data), _video(data)
    names = names or []
    if names and video is not None:
        raise Problem("video", f"given as well as {field}; leave one of them out, or write the video's frames as images")
    for mark, given in (("image", len(names)), ("video", int(video is not None))):
        if question.count(f"<{mark}>") > given:
            counts = f"{given} given, but the question has {question.count(f'<{mark}>')} times <{mark}>"
            raise Problem(mark, f"{counts}; give a path for each, or take <{mark}> out of a question without {mark}s")
    return image_sources(names, root, field) if video is None else _frames(video, root, num_frames)


def _video(data: dict) -> object:
    """What a row names as its one video; None where it has none."""
    videos = data.get("videos")
    if data.get("video") is not None or not videos:
        return data.get("video")
    if isinstance(videos, list) and len(videos) > 1:
        raise Problem("videos", f"one video is read in a row, got {len(videos)}; make a row of each")
    return videos[0] if isinstance(videos, list) else videos


def _frames(video: object, root: Path, num_frames: int) -> tuple[ImageSource, ...]:
    if not isinstance(video, str) or not video:
        raise Problem("video", f"must be the path of a folder of frames, got {short_repr(video)}; write it as a text")
    folder = path_below(root, video, "video")
    files = frame_files(folder) if os.path.isdir(folder) else []
    if not files:
        command = extraction(folder)
        if command is not None:
            said = f"{short_repr(video)} is read as a folder of frames"
            raise Problem("video", f"{said}; extract them and name the folder: {command}")
        state = "holds no frames" if os.path.isdir(folder) else "there is no such folder"
        remedy = (
            f"put its frames ({', '.join(FRAMES)}) there, or set image_root (now {root}) to the folder that paths start from"
        )
        raise Problem("video", f"{folder}: {state}; {remedy}")
    return tuple(ImageSource(path=file) for file in sample_frames(files, num_frames))


def _task(data: dict, answer: str, default: str | None) -> str:
    method, named = data.get("accu_reward_method"), data.get("task")
    if method is not None and named is not None:
        raise Problem("task", "given as well as accu_reward_method; leave one of them out")
    if method is not None:
        if not isinstance(method, str) or method not in METHODS:
            raise Problem("accu_reward_method", f"unknown, got {short_repr(method)}; choose one of {', '.join(METHODS)}")
        return METHODS[method]
    name = default if named is None else named
    if name is None:
        return _by_form(answer)
    if not isinstance(name, str) or not name.strip() or name == PREFERENCE:
        said = f"must name a task of reward.tasks, got {short_repr(name)}"
        raise Problem("task", f"{said}; write it in the row, or set data.task")
    return checked_text(name, "task")


def _by_form(answer: str) -> str:
    """The task whose answers have this form, sound or not: what is meant as a box and is none must not count as a text."""
    answer = answer.strip().removeprefix("<answer>").removesuffix("</answer>").strip()
    if answer.startswith(("[", "{", "```")):
        return "ovd" if "label" in answer else "rec"
    return "ovd" if answer.casefold() in ("none", "null") else METHODS["default"]
