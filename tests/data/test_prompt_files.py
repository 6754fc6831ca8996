"""A judge prompt from a file: a text, a script of others, a row of theirs."""

import json

import pytest

from r1reward.data.prompts import PROMPTS, prompt_digest, prompt_parts

TEXT = "Judge.\n{question}\nA: {response_1}\nB: {response_2}\nGo {on}."
PARTS = ("Judge.\nWhy?\nA: ", "\nB: ", "\nGo {on}.")
SCRIPT = """
def make(prompt, chosen, rejected):
    unrelated = "{question} only"
    template = ("Judge.\\n"
        "{question}\\nA: {answer1}\\nB: {answer2}\\n" "Go {{on}}.")
    return template.format(question=prompt, answer1=chosen, answer2=rejected)
raise SystemExit("this script must not run")
"""


def test_a_text(tmp_path):
    (tmp_path / "judge.txt").write_text(TEXT)
    assert prompt_parts(str(tmp_path / "judge.txt"), "Why?") == PARTS


@pytest.mark.parametrize("script", [SCRIPT, SCRIPT.replace("answer", "response_")])
def test_a_script_is_read_and_not_run(tmp_path, script):
    (tmp_path / "judge.py").write_text(script)
    assert prompt_parts(str(tmp_path / "judge.py"), "Why?") == PARTS
    (tmp_path / "judge.txt").write_text(TEXT)
    assert prompt_digest(str(tmp_path / "judge.py")) == prompt_digest(str(tmp_path / "judge.txt")) != prompt_digest("short")


def test_a_row_of_the_training_format(tmp_path):
    text = "Judge.\n[Question]\nWhy?\n[Response 1]\nyes\n[Response 2]\nno\n### Output Format\n1 or 2"
    content = [{"type": "text", "text": text}]
    row = {"question": "Why?", "message": json.dumps([{"role": "user", "content": content}]), "answer": "1", "image": []}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    before, between, after = prompt_parts(str(path), "What?")
    assert before + "yes" + between + "no" + after == text.replace("Why?", "What?")
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(row | {"question": "Where?"}) + "\n")
    with pytest.raises(ValueError, match="does not stand in its prompt"):
        prompt_parts(str(other), "What?")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "no places"),
        ("b.txt", "{question} {response_2} {response_1}"),
        ("c.txt", "{question} {question} {response_1} {response_2}"),
        ("d.txt", "{response_1} {question} {response_2}"),
        ("e.py", "x = 'no prompt'"),
        ("f.py", "def ("),
    ],
)
def test_a_file_without_a_prompt_is_one_error_that_names_it(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        prompt_parts(str(tmp_path / name), "Why?")


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(ValueError, match="r1_reward, short.*file"):
        prompt_parts("r1_rewrad", "Why?")
    assert set(PROMPTS) == {"short", "r1_reward"}
