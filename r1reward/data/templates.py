"""Prompt templates: by task, the text that is put around the question of a row."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from r1reward.data.jsonl import checked_text
from r1reward.data.marks import marks_of_known_families
from r1reward.data.records import Problem
from r1reward.data.rows import PREFERENCE, Row, TaskRow

QUESTION = "{question}"
# A name in braces, white space and doubled braces included. JSON has a quotation mark there, and the arguments of LaTeX's
# commands, as in \boxed{answer}, follow a letter or another argument.
_PLACEHOLDER = re.compile(r"(?<![\w}{])\{+\s*[A-Za-z_][\w.]*\s*\}+")


def check_templates(templates: Mapping[str, str]) -> None:
    """See that each template can be filled in.

    Raises:
        ValueError: With the template's task, what is wrong with it and a remedy.
    """
    for task, template in templates.items():
        where = f"template.{task}"
        if task == PREFERENCE:
            raise ValueError(f"{where}: preference rows bring the judge prompt that their responses stand in; leave it out")
        try:
            checked_text(template, where, may_be_empty=False)
        except Problem as problem:
            raise ValueError(str(problem)) from None
        for found in _PLACEHOLDER.findall(template):
            if found != QUESTION:
                raise ValueError(f"{where}: {found} is not filled in; {QUESTION} alone is, written just so")
        if QUESTION not in template:
            raise ValueError(f"{where}: does not say where the question goes; write {QUESTION} there")
        if found := marks_of_known_families().search(template):
            raise ValueError(
                f"field {where}: holds {found[0]}, a control token; leave it out: images stand before the text anyway"
            )


def apply_templates(rows: Sequence[Row], templates: Mapping[str, str]) -> list[Row]:
    """The rows with their questions in the template of their task; rows of other tasks and preference rows as they are."""
    return [
        replace(row, prompt=fill_in(templates[row.task], row.prompt))
        if isinstance(row, TaskRow) and row.task in templates
        else row
        for row in rows
    ]


def fill_in(template: str, question: str) -> str:
    """The template with the question in it; all other braces, of JSON or in the question, stay."""
    return template.replace(QUESTION, question)
