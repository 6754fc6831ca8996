"""Reader for the R1-Reward training format (yfzhang114/r1_reward, README section 2.3; dataset R1-Reward-RL).

One object per row, in any of the files of `r1reward.data.records`:

    question   the question the two responses answer
    message    a chat as a JSON string: one user turn whose content is one text (the whole judge prompt) and the images,
               before or after it; a text-only row has no image part and the field image: []
    answer     the better response, as ["<answer>2</answer>"]; "<answer>2</answer>", "2", ["2"] and 2 are read too
    image      path of the image, or a list of paths, in the order of the prompt; if absent, the paths inside `message`
               (`jsonl.IMAGE_KEYS` has other spellings)
    id         optional, as are `category` and `level`

Rows with `chosen` and `rejected` instead of `message` are read as well (`chosen_rejected`).

Both prompt layouts in circulation are understood, "[Response 1]" alone on a line and "###### [Response 1]:". The prompt
is cut at the responses, so that they can be shown in the other order, and put together again to the same character, except
that `<image>` at the beginning of a line before the responses is left out where the row has that image.
"""

import re
from pathlib import Path
from typing import Any

from r1reward.data import chosen_rejected
from r1reward.data.images import DEFAULT_LIMITS, ImageLimits
from r1reward.data.jsonl import checked_text, common_fields, image_field, image_sources, read_rows, see_fields
from r1reward.data.marks import without_image_lines
from r1reward.data.prompts import PROMPTS
from r1reward.data.records import Problem, load_json
from r1reward.data.rows import PreferenceRow
from r1reward.messages import short_repr

# A heading stands alone on its line: "[Response 1]", "###### [Response 1]:", "**[Response 1]:**  ".
_HEADING = r"^[#* \t]*\[Response {number}\][: \t*\r]*$"
# What follows the second response in the authors' prompt; our own prompts' endings are known from PROMPTS.
_ENDING = re.compile(r"^[#*][#* \t]*Output Format\b", re.MULTILINE)
_READ = ("question", "message", "answer", *chosen_rejected.READ)
_ANSWER = re.compile(r"\s*(?:<answer>\s*([12])\s*</answer>|([12]))\s*")


def read(
    path: str | Path,
    image_root: str | Path | None = None,
    limit: int | None = None,
    check_images: bool = True,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> list[PreferenceRow]:
    """Read preference rows.

    Args:
        path: The file, or a folder or data set of the hub; a row without an id is named by its number.
        image_root, limit, check_images, limits: See `r1reward.data.jsonl.read_rows`, as are errors and ids.
    """
    return read_rows(path, _parse, _READ, image_root, limit, check_images, limits)


def _parse(data: dict, line: int, root: Path) -> PreferenceRow:
    if data.get("message") is None and "chosen" in data:
        return chosen_rejected.parse(data, line, root)
    see_fields(data, "question", "message", "answer")
    text, in_message, images_first = _read_message(data["message"])
    responses, parts = _cut(text)
    field, names = image_field(data)
    if names is None:
        names = in_message
        if not names:
            raise Problem("image", "missing, and message shows no image; write its path, or [] for a text-only row")
    images = image_sources(names, root, field)
    if len(names) != len(in_message):
        counts = f"{len(names)} given, but message shows {len(in_message)}"
        raise Problem(field, f"{counts}; give one path per image part of the message")
    question = without_image_lines(checked_text(data["question"], "question"), len(images))
    before = without_image_lines(parts[0], len(images))
    return PreferenceRow(
        images=images,
        question=question,
        responses=responses,
        label=_read_answer(data["answer"]),
        prompt_parts=(before, *parts[1:]),
        images_first=images_first,
        **common_fields(data, line),
    )


def _read_message(message: Any) -> tuple[str, list[Any], bool]:
    """(text of the prompt, image paths inside the message, whether the images stand before the text)."""
    example = '[{"role": "user", "content": [{"type": "text", "text": ...}, {"type": "image", "image": ...}]}]'
    if isinstance(message, str):
        try:
            message = load_json(message)
        except (ValueError, RecursionError) as error:
            raise Problem("message", f"not a JSON chat ({error}); write a string such as {example}") from None
    if not isinstance(message, list) or not all(isinstance(turn, dict) for turn in message):
        raise Problem("message", f"not a chat; write a list of turns such as {example}")
    if [turn.get("role") for turn in message] != ["user"]:
        roles = short_repr([turn.get("role") for turn in message])
        raise Problem("message", f"must be one user turn, has turns {roles}; put the whole prompt into one user turn")
    content = message[0].get("content")
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise Problem("message", f"content must be a list of parts, so that the images have a place; write {example}")
    kinds = [part.get("type") for part in content]
    if not all(kind in ("text", "image") for kind in kinds):
        raise Problem("message", f"only text and image are read, has parts {short_repr(kinds)}; turn videos into image frames")
    texts = [part.get("text") for part in content if part["type"] == "text"]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise Problem("message", "has no text; put the judge prompt into a text part")
    if kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True):
        raise Problem("message", f"images stand on both sides of the text, {short_repr(kinds)}; put all before or all after it")
    text = checked_text("".join(texts), "message")
    return text, [part.get("image") for part in content if part["type"] == "image"], kinds[0] == "image"


def _cut(text: str) -> tuple[tuple[str, str], tuple[str, str, str]]:
    """(the two responses, the prompt's text around them); white space around a response belongs to the prompt."""
    spans = []
    for number in (1, 2):
        found = [match.span() for match in re.finditer(_HEADING.format(number=number), text, re.MULTILINE)]
        if len(found) != 1:
            times = "is missing" if not found else f"stands {len(found)} times, so the responses cannot be told apart"
            raise Problem(
                "message",
                f'responses not found: the line "[Response {number}]" {times}; head each response once, on a line '
                'of its own, with "[Response 1]" or "###### [Response 1]:"',
            )
        spans.append(found[0])
    (start_1, end_1), (start_2, end_2) = spans
    if start_2 < start_1:
        raise Problem("message", "responses not found: [Response 2] stands before [Response 1]; put Response 1 first")
    first = _strip(text, end_1, start_2)
    second = _strip(text, end_2, _end_of_second(text, end_2))
    responses = (text[slice(*first)], text[slice(*second)])
    return responses, (text[: first[0]], text[first[1] : second[0]], text[second[1] :])


def _end_of_second(text: str, start: int) -> int:
    """Where the second response ends: at the prompt's closing instructions, or at the end of the text."""
    for prompt in PROMPTS.values():
        ending = prompt.split("{response_2}")[1]
        if "[Response 2]" in prompt and ending.strip() and text.endswith(ending):
            return len(text) - len(ending)
    endings = [match.start() for match in _ENDING.finditer(text, start)]
    return endings[-1] if endings else len(text)  # the last: a response may use the same heading


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the white space at its ends."""
    inner = text[start:end]
    if not inner.strip():
        # An empty response stands at the start of its line, where a response would stand.
        start += 1 if inner.startswith("\n") else 0
        return start, start
    return start + len(inner) - len(inner.lstrip()), end - (len(inner) - len(inner.rstrip()))


def _read_answer(answer: Any) -> int:
    first = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    match = _ANSWER.fullmatch(first) if isinstance(first, str) else None
    if match:
        return int(match.group(1) or match.group(2))
    if type(first) is int and first in (1, 2):
        return first
    raise Problem("answer", f'must be 1 or 2, got {short_repr(answer)}; write ["<answer>1</answer>"] or ["<answer>2</answer>"]')
