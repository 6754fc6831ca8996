"""Control tokens of a model inside the texts of rows: shown as text, never obeyed.

Data from elsewhere holds `<image>`, `<|image_pad|>`, `<|im_end|>` and the like in the middle of questions and responses. A
tokenizer reads them as what they stand for: a processor expects one more image and fails in the middle of a run, or the user's
turn ends inside a response, which can then speak as the judge. So a mark in a prompt gets a space after its first character,
`<|im_end|>` becoming `< |im_end|>`: readable, and no token. Rows are mended instead of refused because published benchmarks are
to be judged whole, by everybody, and one row must not stop a run of thousands; which texts were changed is said once.

A right answer is compared with what a model says, so it is not changed; one that holds a mark is an error, because no
completion can hold it.

The marks of a model are those that its own tokenizer and processor name. A model behind a server, whose tokenizer is not here,
is taken to have those of all families known here.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from r1reward.data.rows import Row, TaskRow
from r1reward.messages import listed

AnyRow = TypeVar("AnyRow", bound=Row)

# What the verdict is written between is the prompt's to name, whether or not a model has tokens for it.
_OURS = ("<think>", "</think>", "<answer>", "</answer>")
_PARTS = ("prompt before the responses", "prompt between the responses", "prompt after the responses")
_OF_KNOWN_FAMILIES = (
    r"<\|\w{2,40}\|?>",  # Qwen, InternVL, GLM, Llama, Phi: <|im_end|>, <|user|>, <|image_1|>; Gemma 4: <|image>
    r"<\w{2,40}\|>",  # Gemma 4: <turn|>
    r"<｜[^｜<>\n]{2,40}｜>",  # DeepSeek: <｜end▁of▁sentence｜>, in signs of full width
    r"\[/?(?:IMG|IMG_BREAK|IMG_END|INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]",  # Mistral, Pixtral
    *map(re.escape, ("<image>", "<video>", "<IMG_CONTEXT>", "<img>", "</img>")),  # LLaVA, SmolVLM, InternVL
    *map(re.escape, ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")),  # SmolVLM
    *map(re.escape, ("<start_of_image>", "<end_of_image>", "<image_soft_token>")),  # Gemma
    *map(re.escape, ("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<s>", "</s>")),  # Gemma, Llama
    *map(re.escape, ("<unk>", "<pad>", "<mask>")),
    *map(re.escape, ("[gMASK]", "<sop>")),  # GLM
)
_IMAGE_LINE = re.compile(r"^[ \t]*<image>[ \t]*\r?\n?", re.MULTILINE)

logger = logging.getLogger(__name__)


def marks_of(processor) -> re.Pattern:
    """What a model's tokenizer and processor take for control tokens: special tokens, and the marks of images and videos."""
    tokenizer = getattr(processor, "tokenizer", processor)
    found = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    found.update(tokenizer.all_special_tokens)
    for owner in (processor, tokenizer):  # an image's mark need not be a special token
        values = ((name, getattr(owner, name, None)) for name in (*vars(owner), "image_token", "video_token", "boi_token"))
        found.update(value for name, value in values if name.endswith("_token") and isinstance(value, str))
    # A single character cannot be told from a text; white space around a token is none of its own.
    usable = {token.strip() for token in found if len(token.strip()) > 1} - set(_OURS)
    return re.compile(_one_of(usable) or r"(?!)")


def marks_of_known_families() -> re.Pattern:
    """The marks of all families known here, for a model whose tokenizer is not."""
    return re.compile("|".join(_OF_KNOWN_FAMILIES))


def shown_as_text(rows: Sequence[AnyRow], marks: re.Pattern) -> list[AnyRow]:
    """The rows with the marks in their prompts written as text; rows without any are the same objects.

    Raises:
        ValueError: A solution holds a mark: the first ten rows, and how many more.
    """
    changed, places, problems = [], [], []
    for row in rows:
        solution = row.solution if isinstance(row, TaskRow) else ""
        if found := marks.search(solution):
            problems.append(f"row {row.id!r}, field solution: holds {found[0]}, which no completion can hold; remove it")
        written = {name: escaped(text, marks) for name, text in _texts(row).items()}
        changes = {name: text for name, text in written.items() if text != _texts(row)[name]}
        places += [f"row {row.id!r}, {name}: {marks.search(_texts(row)[name])[0]}" for name in changes]
        changed.append(_with_texts(row, written) if changes else row)
    if problems:
        raise ValueError(f"right answers hold control tokens of the model:\n  {listed(problems)}")
    if places:
        logger.warning(
            "%d texts hold control tokens of the model; each is shown with a space in it, so that it is read as text:\n  %s",
            len(places),
            listed(places),
        )
    return changed


def escaped(text: str, marks: re.Pattern) -> str:
    """The text with a space after the first character of each mark, until it holds none."""
    while marks.search(text):
        text = marks.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    return text


def without_image_lines(text: str, images: int) -> str:
    """The text without LLaVA's `<image>` at the beginnings of lines, one for each of the row's images, shown elsewhere."""
    for _ in range(images):
        text = _IMAGE_LINE.sub("", text, count=1)
    return text


def _texts(row: Row) -> dict[str, str]:
    """The texts of the user's turn, by the name of their field."""
    if isinstance(row, TaskRow):
        return {"prompt": row.prompt}
    parts = dict(zip(_PARTS, row.prompt_parts, strict=True))
    return parts | {f"response {number}": text for number, text in enumerate(row.responses, start=1)}


def _with_texts(row: AnyRow, texts: dict[str, str]) -> AnyRow:
    if isinstance(row, TaskRow):
        return replace(row, prompt=texts["prompt"])
    parts = tuple(texts[name] for name in _PARTS)
    return replace(row, prompt_parts=parts, responses=(texts["response 1"], texts["response 2"]))


def _one_of(words: set[str]) -> str:
    """A pattern for the longest of the words, in a time that does not grow with their number (some models have thousands)."""
    branches: dict[str, set[str]] = {}
    for word in filter(None, words):
        branches.setdefault(word[0], set()).add(word[1:])
    if not branches:
        return ""
    joined = "|".join(re.escape(letter) + _one_of(rest) for letter, rest in sorted(branches.items()))
    return f"(?:{joined})" + ("?" if "" in words else "")
