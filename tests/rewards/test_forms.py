"""Every usual spelling of the one right answer earns all; what denies, doubts, names two or says something else, nothing."""

import json

import pytest

from r1reward.rewards import answers, detection, grounding, mathematics, verdict
from tests.rewards.forms import BOX, DOGS, RIGHT, WRONG, forms


def earned(name: str, solution: str, answer: str) -> float:
    text = f"<think>I look.</think><answer>{answer}</answer>"
    if name == "verdict":
        return float(verdict.parse(text).choice == int(solution))
    if name == "od_length":
        return detection.score([text], [solution], name)[0].value
    function = {"iou": grounding.iou, "math": mathematics.mathematics}.get(name) or getattr(answers, name)
    return function(text, solution).value


@pytest.mark.parametrize("name, solution, answer", forms(RIGHT))
def test_right_forms_earn_all(name, solution, answer):
    assert earned(name, solution, answer) == 1.0


@pytest.mark.parametrize("name, solution, answer", forms(WRONG))
def test_wrong_forms_earn_nothing(name, solution, answer):
    assert earned(name, solution, answer) == 0.0


def test_each_kind_is_tried_in_many_forms():
    for cases in (RIGHT, WRONG):
        counted = [name for name, _, _ in forms(cases)]
        assert all(counted.count(name) >= 15 for name in {name for name, _ in cases})


SOLUTIONS = {"iou (rec)": BOX, "od_length (ovd)": DOGS, "od_length, truth None": "None", "multiple_choice": "B"}
SOLUTIONS |= {"default choice": "B", "yes_no yes": "yes", "yes_no no": "no", "number 12": "12", "default 12": "12"}


def test_the_usual_forms_earn_all(shared_cases):
    """95 % of each kind, 345 of all 354."""
    paid = {}
    for kind, cases in json.loads((shared_cases / "usual_forms.json").read_text()).items():
        paid[kind] = [
            earned(kind.split()[0].strip(","), case["solution"] or SOLUTIONS[kind], case["answer"]) == 1.0
            for case in cases
            if case["common"]
        ]
        assert sum(paid[kind]) >= 0.95 * len(paid[kind]), kind
    assert sum(map(sum, paid.values())) >= 345
