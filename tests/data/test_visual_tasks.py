"""Visual tasks of the shapes world: honest solutions, expressions that single out one shape, an annotator as it declares."""

import json
import random
from collections import Counter

import pytest

from r1reward.data.build import build_splits
from r1reward.data.shapes.expressions import TRAINED, UNSEEN_KINDS
from r1reward.data.shapes.rows import SPLITS, preference_row
from r1reward.data.shapes.task_annotator import TaskAnnotator
from r1reward.data.shapes.visual_tasks import LETTERS, SAME, VISUAL_TASKS, make_task
from r1reward.data.shapes.world import COLORS, SIZE, UNSEEN
from r1reward.rewards import answers, detection, grounding
from r1reward.settings import DataSettings

N = 150
ROWS = {(split, task): [make_task(0, split, index, task) for index in range(N)] for split in SPLITS for task in VISUAL_TASKS}


def fitting(text: str, shapes) -> list:
    """The shapes that an expression fits, read from its words by other means than the generator's."""
    words = text.removeprefix("the ").replace(" of", "").replace("shape ", "").split()
    if words[0] in ("leftmost", "rightmost", "topmost", "bottommost"):
        place = {"leftmost": "column", "rightmost": "column", "topmost": "row", "bottommost": "row"}[words[0]]
        values = [getattr(shape, place) for shape in shapes]
        end = max(values) if words[0] in ("rightmost", "bottommost") else min(values)
        return [shape for shape in shapes if getattr(shape, place) == end]
    if "not" in words:
        return [shape for shape in shapes if shape.form == words[0] and shape.color != words[-1]]
    if "the" in words:  # left the red circle [and above the blue square]
        fits = list(shapes)
        for part in " ".join(words).split(" and "):
            side, _, color, form = part.split()
            anchor = next(shape for shape in shapes if (shape.color, shape.form) == (color, form))
            less, more, axis = {
                "left": (True, False, "column"), "right": (False, True, "column"),
                "above": (True, False, "row"), "below": (False, True, "row"),
            }[side]  # fmt: skip
            fits = [
                shape
                for shape in fits
                if (less and getattr(shape, axis) < getattr(anchor, axis))
                or (more and getattr(shape, axis) > getattr(anchor, axis))
            ]
        return fits
    return [shape for shape in shapes if {shape.color, shape.form, "one"} >= set(words)]


@pytest.mark.parametrize("split", SPLITS)
def test_an_expression_fits_the_one_shape_of_its_solution(split):
    for row in ROWS[split, "rec"]:
        (shape,) = fitting(row.expression.text, row.scenes[0].shapes)
        assert json.loads(row.solution) == list(shape.box())
        assert row.question == f"Where is {row.expression.text}?"
        assert row.expression.lure in (None, *row.scenes[0].shapes) and row.expression.lure != shape


def test_out_of_distribution_asks_what_training_never_does():
    for split in ("train", "held_out"):
        rows = [row for task in VISUAL_TASKS for row in ROWS[split, task]]
        assert not any((s.color, s.form) in UNSEEN for row in rows for scene in row.scenes for s in scene.shapes)
        assert {row.kind for row in ROWS[split, "rec"]} == set(TRAINED)
    kinds = Counter(row.kind for row in ROWS["out_of_distribution", "rec"])
    assert set(kinds) == set(UNSEEN_KINDS) and min(kinds.values()) > N / 6
    for row in ROWS["out_of_distribution", "rec"]:
        if row.kind == "name":
            assert (row.expression.target.color, row.expression.target.form) in UNSEEN
        if row.kind == "two_relations":  # each relation alone fits several shapes
            first, second = row.expression.text.removeprefix("the shape ").split(" and ")
            assert all(len(fitting(f"the shape {part}", row.scenes[0].shapes)) > 1 for part in (first, second))


@pytest.mark.parametrize("split", SPLITS)
def test_a_detection_lists_what_is_there_and_asks_for_what_is_not(split):
    absent = 0
    for row in ROWS[split, "ovd"]:
        truth = [] if row.solution == "None" else json.loads(row.solution)
        attribute = "color" if row.asked[0] in COLORS else "form"
        expected = {(getattr(s, attribute), s.box()) for s in row.scenes[0].shapes if getattr(s, attribute) in row.asked}
        assert {(item["label"], tuple(item["bbox_2d"])) for item in truth} == expected
        assert row.question == f"Detect every instance of: {', '.join(row.asked)}."
        absent += len(set(row.asked) - {item["label"] for item in truth})
    assert absent > N


@pytest.mark.parametrize("split", SPLITS)
def test_answers_are_those_of_the_scene(split):
    for row in ROWS[split, "multiple_choice"]:
        shapes, option = row.scenes[0].shapes, row.asked[LETTERS.index(row.solution)]
        asked = row.question.split("?")[0].split()
        attribute, of = ("color", "form") if "color" in asked else ("form", "color")
        named = asked[-1] if of == "form" else asked[-2]
        assert [getattr(s, attribute) for s in shapes if getattr(s, of) == named] == [option]
        assert len(set(row.asked)) == 4 and f"({row.solution}) {option}" in row.question
    for row in ROWS[split, "number"]:
        noun = row.question.split()[2].removesuffix("es") if "crosses" in row.question else row.question.split()[2].rstrip("s")
        assert int(row.solution) == sum(noun in (s.color, s.form) for s in row.scenes[0].shapes)
    for row in ROWS[split, "yes_no"]:
        if row.question == SAME:
            first, second = row.scenes
            assert (row.solution == "yes") == (first == second)
            assert sum(a != b for a, b in zip(first.shapes, second.shapes, strict=True)) == (row.solution == "no")
        else:
            named = row.question.removeprefix("Is there an ").removeprefix("Is there a ").removesuffix("?").split()[0]
            assert (row.solution == "yes") == any(named in (s.color, s.form) for s in row.scenes[0].shapes)
    letters = Counter(row.solution for row in ROWS[split, "multiple_choice"])
    assert min(letters[letter] for letter in LETTERS) > N / 8
    assert {row.kind for row in ROWS[split, "yes_no"]} == {"existence", "compare"}


def test_rows_are_pure_functions_of_their_arguments_and_decode_to_their_size():
    for task in VISUAL_TASKS:
        assert make_task(3, "train", 5, task).to_row("x") == make_task(3, "train", 5, task).to_row("x")
        assert len({make_task(seed, split, 5, task).to_row().images for seed in (0, 1) for split in SPLITS}) == 6
    row = next(row for row in ROWS["train", "yes_no"] if row.kind == "compare" and row.solution == "no")
    first, second = row.images()
    assert first.size == second.size == (SIZE, SIZE) and first.tobytes() != second.tobytes()
    assert (row.to_row("a").task, row.to_row("a").category, len(row.to_row("a").images)) == ("yes_no", "compare", 2)


def score(row, text: str) -> float:
    """The first term of the reward of the row's task."""
    if row.task == "rec":
        return grounding.iou(text, row.solution).value
    if row.task == "ovd":
        return detection.score([text], [row.solution], metric="od_length")[0].value
    return getattr(answers, row.task)(text, row.solution).value


@pytest.mark.parametrize("task", VISUAL_TASKS)
def test_a_perfect_annotator_is_right_and_an_imperfect_one_wrong_where_it_says(task):
    perfect, wrong = TaskAnnotator(), TaskAnnotator(careless=1, eager=1, first=1, agreeable=1, short=1)
    misled = {
        "rec": lambda row: row.expression.lure is not None,
        "ovd": lambda row: any(label not in row.solution for label in row.asked),
        "multiple_choice": lambda row: row.solution != "A",
        "yes_no": lambda row: row.solution == "no",
        "number": lambda row: int(row.solution) >= 2,
    }[task]
    for row in ROWS["train", task]:
        assert score(row, perfect.trace(random.Random(0), row)) == 1.0
        assert (score(row, wrong.trace(random.Random(0), row)) < 1.0) == misled(row)
    assert 0.1 < sum(map(misled, ROWS["train", task])) / N < 0.95


def test_a_trace_by_hand():
    row = next(row for row in ROWS["train", "rec"] if row.kind == "relation")
    text = TaskAnnotator().trace(random.Random(0), row)
    target, box = row.expression.target, list(row.expression.target.box())
    assert text.startswith("<think>") and text.count(f"{target.name.title()} {box}") == 2
    assert text.endswith(f'is {target.name.title()} {box}.</think><answer>{{"bbox_2d": {box}}}</answer>')


def test_easy_levels_leave_out_what_needs_several_shapes():
    for split, kinds in (("train", {"name", "color", "form"}), ("out_of_distribution", {"name"})):
        assert {make_task(0, split, index, "rec", levels=(1,)).kind for index in range(40)} == kinds
    assert {make_task(0, "out_of_distribution", index, "rec", (1, 2)).kind for index in range(40)} == {"name", "negation"}


def test_tasks_take_turns_in_the_rows_of_a_run():
    settings = DataSettings("shapes", num_train=12, num_eval=6, tasks=["preference", "rec", "ovd"])
    splits = build_splits(settings)
    assert [row.task for row in splits.train] == ["preference", "rec", "ovd"] * 4
    assert {name: len(rows) for name, rows in splits.evaluation.items()} == {"held_out": 6, "out_of_distribution": 6}
    assert splits.train[0] == preference_row(0, "train", 0) and splits.train[4].id == "train-0-4"
    with pytest.raises(ValueError, match="data.tasks=\\['vqa'\\]: give tasks of the shapes world, of preference, rec"):
        build_splits(DataSettings("shapes", tasks=["vqa"]))
    with pytest.raises(ValueError, match="data.prompt=r1_reward has no effect without preference"):
        build_splits(DataSettings("shapes", tasks=["rec"], prompt="r1_reward"))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown split 'test'"):
        make_task(0, "test", 0, "rec")
    with pytest.raises(ValueError, match="unknown task 'grounding'.*rec, ovd"):
        make_task(0, "train", 0, "grounding")
