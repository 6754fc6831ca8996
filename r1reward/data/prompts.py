"""Judge prompts by name. Each is a text with `{question}`, `{response_1}` and `{response_2}`.

`short` is the embedded default: a tiny model reads few tokens, and copies a number most easily that follows what it names.
`r1_reward` carries the same instructions as the R1-Reward prompt (arXiv 2505.02835, appendix), in our words: compare inside
<think>, no ties, one number inside <answer>.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PROMPTS = {
    "short": "{question}\n{response_1} (1)\n{response_2} (2)",
    "r1_reward": (
        "You are an impartial judge. Below are a question about the attached image and two responses from multimodal "
        "models. First compare both responses with the image, step by step, between <think> and </think>. You may not "
        "call it a tie. Then state your verdict between <answer> and </answer> as one number: 1 if Response 1 is better, "
        "2 if Response 2 is better.\n\n[Question]\n{question}\n\n[Response 1]\n{response_1}\n\n[Response 2]\n{response_2}"
        "\n\nReply in exactly this form: <think>your comparison</think><answer>1 or 2</answer>"
    ),
}


# The names of the places in a prompt, and those that R1-Reward's scripts have for them.
_PLACES = {"{question}": "{question}", "{response_1}": "{answer1}", "{response_2}": "{answer2}"}


def prompt_parts(name: str, question: str) -> tuple[str, str, str]:
    """The prompt with its question filled in, cut at the two responses (see `PreferenceRow.prompt_parts`).

    Args:
        name: Of a prompt in `PROMPTS`, or the path of a file: a text with `{question}`, `{response_1}` and `{response_2}` in
            it; a .py script that holds such a text, such as the authors' inference/VL-Reward-Bench/r1_reward.py, which is read
            and not run; or rows in R1-Reward's training format (.jsonl), whose first row's prompt is taken.
        question: The question.

    Raises:
        ValueError: No such prompt, or a file without one.
    """
    before, between, after = template_parts(name)
    return before.replace("{question}", question), between, after


def prompt_digest(name: str) -> str:
    """Names the wording of a prompt, wherever it comes from: 16 hexadecimal digits."""
    return hashlib.sha256("\0".join(part.strip() for part in template_parts(name)).encode()).hexdigest()[:16]


@cache
def template_parts(name: str) -> tuple[str, str, str]:
    """As `prompt_parts`, with `{question}` still to be filled in."""
    if name in PROMPTS:
        return _cut(PROMPTS[name], f"prompt {name!r}")
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f"unknown prompt {name!r}; choose one of {', '.join(sorted(PROMPTS))}, or give the path of a file")
    if path.suffix == ".jsonl":
        return _of_first_row(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the prompt must be text in UTF-8 ({error})") from None
    return _cut(_in_script(text, path) if path.suffix == ".py" else text, str(path))


def _cut(text: str, where: str) -> tuple[str, str, str]:
    wrong = [place for place in _PLACES if text.count(place) != 1]
    if wrong:
        raise ValueError(
            f"{where}: a judge prompt has {', '.join(_PLACES)} once each; {', '.join(wrong)} is missing or repeated"
        )
    before, _, rest = text.partition("{response_1}")
    between, _, after = rest.partition("{response_2}")
    if "{question}" not in before or "{response_2}" not in rest:
        raise ValueError(f"{where}: a judge prompt asks first and shows its responses in order: {', '.join(_PLACES)}")
    return before, between, after


def _in_script(source: str, path: Path) -> str:
    """The first text in a script that has all places, by our names or the authors'; it is made for `str.format`."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a Python script that can be read ({error})") from None
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for names in (_PLACES.keys(), _PLACES.values()):
                if all(name in node.value for name in names):
                    text = node.value
                    for place, name in zip(_PLACES, names, strict=True):
                        text = text.replace(name, place)
                    return text.replace("{{", "{").replace("}}", "}")
    raise ValueError(f"{path}: no text with {', '.join(_PLACES.values())} or {', '.join(_PLACES)} in it")


def _of_first_row(path: Path) -> tuple[str, str, str]:
    from r1reward.data.r1_reward_jsonl import read

    row = read(path, limit=1, check_images=False)[0]
    before, between, after = row.prompt_parts
    if not row.question or row.question not in before:
        raise ValueError(
            f"{path}, row {row.id}: its question does not stand in its prompt, so the prompt cannot be taken from it"
        )
    start, _, end = before.rpartition(row.question)
    return f"{start}{{question}}{end}", between, after
