"""The blocks of a completion: the reasoning between <think> tags and the answer between <answer> tags.

Everything here takes time linear in the length of the text (searches and counts, no backtracking) and raises for no text.
"""

from dataclasses import dataclass

THINK, THINK_END, ANSWER, ANSWER_END = "<think>", "</think>", "<answer>", "</answer>"

REJECTIONS = (
    "empty",  # nothing but white space
    "no_think",  # no <think>
    "several_think",  # more than one <think> or </think>
    "open_think",  # <think> without </think>: typically cut off at the token limit
    "no_answer",  # no <answer>
    "several_answer",  # more than one <answer> or </answer>
    "open_answer",  # <answer> without </answer>
    "wrong_order",  # all the tags, but not in their order
    "text_outside",  # text before, between or after the blocks
)


@dataclass(frozen=True)
class Blocks:
    """What stands in the blocks of one text, without white space at the ends.

    Attributes:
        reasoning: Inside the think block; empty where there is a rejection.
        answer: Inside the answer block; empty where there is a rejection.
        rejection: One of `REJECTIONS`, the first fault found; None if there is none.
    """

    reasoning: str
    answer: str
    rejection: str | None = None


def read_blocks(text: str) -> Blocks:
    """One think block, then one answer block, white space allowed around and between; any fault, and nothing is read."""
    text = text.strip()
    fault = tag_fault(text)
    if fault:
        return Blocks("", "", fault)
    before, rest = text.split(THINK)  # every tag occurs once, in this order
    reasoning, rest = rest.split(THINK_END)
    between, rest = rest.split(ANSWER)
    answer, after = rest.split(ANSWER_END)
    if before or between.strip() or after:
        return Blocks("", "", "text_outside")
    return Blocks(reasoning.strip(), answer.strip())


def read_answer(text: str) -> Blocks:
    """One answer block at the end of the text, whatever stands before it: for rewards that leave the reasoning to the format
    term. The text before is the reasoning. What stands in answer tags within a think block at the beginning is a thought.
    """
    text = text.strip()
    if not text:
        return Blocks("", "", "empty")
    if ANSWER not in text:
        return Blocks("", "", "no_answer")
    thought = text.find(THINK_END) if text.startswith(THINK) else -1
    rest = text[max(thought, 0) :]
    if ANSWER not in rest:
        return Blocks("", "", "wrong_order")
    if rest.count(ANSWER) > 1 or rest.count(ANSWER_END) > 1:
        return Blocks("", "", "several_answer")
    before, inside = rest.split(ANSWER)
    answer, closed, after = inside.partition(ANSWER_END)
    if not closed:
        return Blocks("", "", "wrong_order" if ANSWER_END in before else "open_answer")
    if after:
        return Blocks("", "", "text_outside")
    thoughts = text[: max(thought, 0)]
    return Blocks((thoughts + before).strip(), answer.strip())


def first_answer(text: str) -> str | None:
    """Inside of the first answer block, as the released codes find it: from the first <answer> to the next </answer>."""
    _, found, rest = text.partition(ANSWER)
    answer, closed, _ = rest.partition(ANSWER_END)
    return answer if found and closed else None


def last_answer(text: str) -> str | None:
    """Inside of the last answer block, reading blocks from the left as `re.findall("<answer>(.*?)</answer>")` does."""
    found, position = None, 0
    while (start := text.find(ANSWER, position)) >= 0 and (end := text.find(ANSWER_END, start)) >= 0:
        found, position = text[start + len(ANSWER) : end], end + len(ANSWER_END)
    return found


def concluding_answer(text: str) -> tuple[str, str] | None:
    """What stands before and inside the last answer block that is not a part of the thinking; None where there is none.

    A block inside of a think block is a thought. One in a think block that nothing closes counts where it ends the text: the
    closing tag was forgotten, and not the text cut off in the middle of a thought.
    """
    text = text.strip()
    end = text.rfind(ANSWER_END)
    start = text.rfind(ANSWER, 0, max(end, 0))
    if start < 0 or ANSWER in text[end:]:
        return None
    is_in_thought = text.rfind(THINK, 0, start) > text.rfind(THINK_END, 0, start)
    if is_in_thought and end + len(ANSWER_END) < len(text):
        return None
    return text[:start], text[start + len(ANSWER) : end]


def tag_fault(text: str, counted: tuple[str, ...] = (THINK, THINK_END, ANSWER, ANSWER_END)) -> str | None:
    """The first fault in the presence, number (of the tags in `counted`) and order of the four tags."""
    if not text:
        return "empty"
    for opening, closing, name in ((THINK, THINK_END, "think"), (ANSWER, ANSWER_END, "answer")):
        if opening not in text:
            return f"no_{name}"
        if any(text.count(tag) > 1 for tag in (opening, closing) if tag in counted):
            return f"several_{name}"
        if closing not in text:
            return f"open_{name}"
    positions = [text.find(tag) for tag in (THINK, THINK_END, ANSWER, ANSWER_END)]
    return None if positions == sorted(positions) else "wrong_order"
