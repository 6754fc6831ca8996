"""Preference rows that hold the two responses themselves: the columns of RLAIF-V, or of TRL's preference data.

    question    the question; `prompt` and `query` are read as well
    chosen      the better response
    rejected    the other one
    image       as in `r1_reward_jsonl`; absent for a text-only row

Each text may be a chat of one turn. The responses stand in the judge prompt `r1_reward` of `r1reward.data.prompts`. Which one
is shown first is drawn from the row's own texts, one half each way, because a model would learn the place of a response that
is always the better one.
"""

from hashlib import sha256
from pathlib import Path

from r1reward.data.jsonl import checked_text, common_fields, image_field, image_sources, see_fields
from r1reward.data.marks import without_image_lines
from r1reward.data.prompts import prompt_parts
from r1reward.data.records import Problem
from r1reward.data.rows import PreferenceRow
from r1reward.messages import short_repr

QUESTIONS = ("question", "prompt", "query")
READ = (*QUESTIONS, "chosen", "rejected")


def parse(data: dict, line: int, root: Path) -> PreferenceRow:
    """The pair of one row.

    Raises:
        Problem: It cannot be read, or both responses are the same.
    """
    asked = [key for key in QUESTIONS if data.get(key) is not None]
    if len(asked) != 1:
        keys = short_repr(sorted(data))
        raise Problem("question", f"must be given once, as one of {', '.join(QUESTIONS)}; the row has {keys}")
    see_fields(data, "chosen", "rejected")
    field, names = image_field(data)
    images = image_sources(names or [], root, field)
    question = without_image_lines(_text(data[asked[0]], asked[0]), len(images))
    chosen, rejected = (_text(data.get(key), key, may_be_empty=True) for key in ("chosen", "rejected"))
    if chosen == rejected:
        raise Problem("rejected", "is the same text as chosen, so that neither is better; remove the row")
    is_first = sha256("\0".join((question, *sorted((chosen, rejected)))).encode()).digest()[0] % 2 == (chosen < rejected)
    return PreferenceRow(
        images=images,
        question=question,
        responses=(chosen, rejected) if is_first else (rejected, chosen),
        label=1 if is_first else 2,
        prompt_parts=prompt_parts("r1_reward", question),
        **common_fields(data, line),
    )


def _text(value: object, field: str, may_be_empty: bool = False) -> str:
    """A text, or that of a chat of one turn, whose images are the row's."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0].get("content")
    if isinstance(value, list) and all(isinstance(part, dict) and part.get("type") in ("text", "image") for part in value):
        value = "".join(part.get("text") or "" for part in value if part["type"] == "text")
    return checked_text(value, field, may_be_empty)
