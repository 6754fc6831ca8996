"""Format rewards: 1 for a text of the asked form, else 0. Whether the answer is right is no part of it.

    think_answer        a think block, then an answer block
    box_format          and the answer is one box, or None
    detection_format    and the answer is a list of boxes with labels, or None

strict: one think block, then one answer block, white space around and between them and nothing else (`blocks.read_blocks`), the
answer not empty and, of boxes, nothing but their JSON (`boxes`), with or without a fence.

released, as VLM-R1's code has it: that some pattern matches, with whatever else the text holds.
    think_answer        <think>.*?</think>\\s*<answer>.*?</answer> is the whole text (`format_reward` of grpo_jsonl.py): several
                        blocks pass, a line break at the end fails
    box_format          `format_reward_rec` of one of the three model modules, anywhere in the text; BOX are four integers
                            qwen        <think>.*?</think>\\s*<answer>.*?\\{.*BOX.*\\}.*?</answer>
                            internvl    <think>.*?</think>\\s*<answer>.*?BOX.*?</answer>
                            glm         <think>.*?<answer>.*?</answer>
    detection_format    as think_answer: the code has none of its own

The patterns are not matched as regular expressions, which may backtrack for minutes, but piece by piece in order, each piece at
its first place after the piece before: that succeeds wherever the pattern matches, in time linear in the length of the text.
"""

import re

from r1reward.rewards import blocks, boxes
from r1reward.rewards.blocks import ANSWER, ANSWER_END, THINK, THINK_END
from r1reward.rewards.score import RELEASED, STRICT, Score, check_semantics

REJECTIONS = boxes.REJECTIONS + (
    "empty_answer",  # strict: an answer block with nothing in it
    "no_match",  # released: the pattern does not match
)

_BETWEEN = re.compile(f"{THINK_END}\\s*{ANSWER}")
_INTEGERS = re.compile(r"\[\d+,\s*\d+,\s*\d+,\s*\d+\]")
_RELEASED_BOX = {
    "qwen": tuple(map(re.compile, (THINK, _BETWEEN.pattern, r"\{", _INTEGERS.pattern, r"\}", ANSWER_END))),
    "internvl": tuple(map(re.compile, (THINK, _BETWEEN.pattern, _INTEGERS.pattern, ANSWER_END))),
    "glm": tuple(map(re.compile, (THINK, ANSWER, ANSWER_END))),
}


def think_answer(text: str, semantics: str = STRICT) -> Score:
    """1.0 for a think block, then an answer block with something in it; else 0.0."""
    check_semantics(semantics)
    if semantics == RELEASED:
        return _scored(None if _is_released_think_answer(text) else "no_match")
    return _scored(_answer(text).rejection)


def box_format(text: str, semantics: str = STRICT, released_pattern: str | None = None) -> Score:
    """1.0 for both blocks, with one box or None as the answer; else 0.0.

    Args:
        released_pattern: With `released`, whose pattern: qwen (the default), internvl or glm.

    Raises:
        ValueError: For an unknown pattern, or one given with `strict`, where it has no effect. No text raises.
    """
    check_semantics(semantics)
    if semantics == STRICT and released_pattern is not None:
        raise ValueError("released_pattern has no effect with strict semantics")
    if semantics == RELEASED:
        name = released_pattern or "qwen"
        if name not in _RELEASED_BOX:
            raise ValueError(f"unknown released_pattern {name!r}; choose one of {', '.join(_RELEASED_BOX)}")
        return _scored("no_match" if find_in_order(text, _RELEASED_BOX[name]) is None else None)
    read = _answer(text)
    return _scored(read.rejection or boxes.read_box(read.answer, loose=False).rejection)


def detection_format(text: str, semantics: str = STRICT) -> Score:
    """1.0 for both blocks, with a list of boxes with labels or None as the answer; else 0.0."""
    check_semantics(semantics)
    if semantics == RELEASED:
        return think_answer(text, RELEASED)
    read = _answer(text)
    return _scored(read.rejection or boxes.read_detections(read.answer, loose=False).rejection)


def find_in_order(text: str, pieces: tuple[re.Pattern, ...]) -> tuple[int, int] | None:
    """Where the pieces stand one after another, with anything between them: from the start of the first to the end of the last.

    Each piece is taken at its first place after the piece before, which leaves most room for those after it. Linear in the
    length of the text, for pieces whose matches cannot overlap each other.
    """
    start, position = None, 0
    for piece in pieces:
        found = piece.search(text, position)
        if found is None:
            return None
        start, position = found.start() if start is None else start, found.end()
    return start, position


def _answer(text: str) -> blocks.Blocks:
    read = blocks.read_blocks(text)
    return blocks.Blocks("", "", "empty_answer") if read.rejection is None and not read.answer else read


def _is_released_think_answer(text: str) -> bool:
    return text.startswith(THINK) and text.endswith(ANSWER_END) and _BETWEEN.search(text) is not None  # tags do not overlap


def _scored(rejection: str | None) -> Score:
    return Score(float(rejection is None), rejection)
