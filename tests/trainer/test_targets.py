"""Targets of supervised training: in the forms written down here, and right by their own rewards in every space of boxes."""

import io
from dataclasses import replace

import pytest
from PIL import Image

from r1reward.configs import compose_settings
from r1reward.data.images import DEFAULT_LIMITS
from r1reward.data.rows import ImageSource, PreferenceRow, TaskRow, to_training_row
from r1reward.models.coordinates import SPACES, coordinates_of
from r1reward.rewards.build import build_reward
from r1reward.rewards.registry import Context
from r1reward.settings import JudgeSettings, TaskSettings, TermSettings
from r1reward.trainer.targets import Targets, check_targets, reward_of_targets
from tests.reference_config import composed

SIZE = (100, 50)  # width, height: 112 x 56 pixels after the resize of the tiny processor
BOX = "[10, 5, 50, 40]"
BOXES = '[{"bbox_2d": [10, 5, 50, 40], "label": "cat"}, {"bbox_2d": [60, 0, 100, 50], "label": "Hund \\"ä\\""}]'


def encoded(size: tuple[int, int] = SIZE) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "white").save(file, "PNG")
    return file.getvalue()


def task_row(task: str, solution: str, size: tuple[int, int] = SIZE, id: str = "1") -> TaskRow:
    return TaskRow(id=id, images=(ImageSource(data=encoded(size)),), prompt="?", solution=solution, task=task)


def decoded(row, size: tuple[int, int] = SIZE) -> dict:
    return to_training_row(row) | {"images": [Image.new("RGB", size)] if row.images else []}


@pytest.fixture(scope="module")
def reward_settings():
    config = composed()
    config.arm = "test"
    return compose_settings(config).reward


@pytest.fixture(scope="module")
def coordinates(processor):
    return {name: coordinates_of("qwen2_5_vl", processor, name) for name in SPACES}


PAIR = PreferenceRow("p", (), "?", ("a", "b"), 2, ("", "", ""))


@pytest.mark.parametrize(
    ("row", "space", "answer"),
    [
        (PAIR, None, "2"),
        (task_row("rec", BOX), "pixels", '{"bbox_2d": [10, 5, 50, 40]}'),
        (task_row("rec", BOX), "thousand", '{"bbox_2d": [100, 100, 500, 800]}'),
        (task_row("rec", BOX), "thousand_y_first", '{"bbox_2d": [100, 100, 800, 500]}'),
        (task_row("rec", BOX), "unit", '{"bbox_2d": [0.1, 0.1, 0.5, 0.8]}'),
        (task_row("rec", BOX), "resized_pixels", '{"bbox_2d": [11, 6, 56, 45]}'),  # 112 x 56 pixels
        (task_row("rec", "None"), "thousand", "None"),
        (task_row("rec", f"<answer> {BOX} </answer>"), "pixels", '{"bbox_2d": [10, 5, 50, 40]}'),
        (task_row("ovd", BOXES), "pixels", BOXES),
        (
            task_row("ovd", '```json\n[{"bbox_2d": [10, 5, 50, 40], "label": "cat"}]\n```'),
            "thousand",
            '```json\n[{"bbox_2d": [100, 100, 500, 800], "label": "cat"}]\n```',
        ),
        (task_row("ovd", "None"), "thousand", "None"),
        (task_row("multiple_choice", "B"), None, "B"),
        (task_row("number", "<answer> 12 </answer>"), None, "12"),
    ],
)  # fmt: skip
def test_the_form_of_a_target(reward_settings, coordinates, row, space, answer):
    targets = Targets.of(reward_settings, [row], lambda: coordinates[space])
    assert targets(decoded(row)) == f"<think></think><answer>{answer}</answer>"


def test_without_an_image_boxes_stay_as_they_are(reward_settings):
    row = replace(task_row("rec", "[1, 2.5, 3, 4]"), images=())
    assert Targets.of(reward_settings, [row], lambda: None)(decoded(row)).endswith('{"bbox_2d": [1, 2.5, 3, 4]}</answer>')


ROWS = [
    PAIR,
    task_row("rec", BOX),
    task_row("rec", "[99.2, 0.3, 99.9, 50]"),
    task_row("rec", "None"),
    *(task_row(task, BOXES) for task in ("ovd", "ovd_map", "ovd_ap", "ovd_ap50", "ovd_weighted_sum")),
    task_row("ovd", f"```json\n{BOXES}\n```"),
    task_row("ovd", "None"),
    task_row("multiple_choice", "C"),
    task_row("yes_no", "Yes"),
    task_row("exact", "a red car"),
    task_row("number", "3.5"),
    task_row("math", r"$\frac{3}{4}$"),
    task_row("text", "a red car"),
    task_row("judged", "a red car"),
    task_row("answer", "42"),
]


@pytest.mark.parametrize("space", SPACES)
def test_every_target_is_right_by_its_own_reward(reward_settings, coordinates, space):
    """And none asks a model: the task `judged` has a reward here, and no judge."""
    assert {row.task for row in ROWS} == {"preference", *reward_settings.tasks}
    settings = reward_of_targets(reward_settings)
    reward = build_reward(settings, ROWS, Context(coordinates=lambda: coordinates[space]))
    targets = Targets.of(reward_settings, ROWS, lambda: coordinates[space])
    rows = [decoded(row) for row in ROWS]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    completions = [[{"role": "assistant", "content": targets(row)}] for row in rows]
    prompts, ids = columns.pop("prompt"), [[0]] * len(rows)
    least = {row: 0.5 if "99.2" in rows[row]["solution"] else 0.93 for row in range(len(ROWS))}  # what rounding leaves
    for function in reward.reward_functions():
        values = function(completions=completions, prompts=prompts, completion_ids=ids, **columns)
        for row, value in enumerate(values):
            exact = any(word in function.__name__ for word in ("format", "result"))
            assert value is None or value >= (1.0 if exact else least[row]), (function.__name__, ROWS[row], completions[row])
            assert value is None or value <= 1


def test_a_box_narrower_than_a_unit_keeps_an_inside(reward_settings, coordinates):
    """In an image of 10,000 pixels, a thousandth is 10 of them."""
    size = (10_000, 10_000)
    for box, written in (
        ("[4001, 4001, 4003, 4003]", [399, 399, 400, 400]),
        ("[1, 9999, 3, 10000]", [0, 999, 1, 1000]),
        ("[4001, 3000, 4003, 5000]", [399, 300, 400, 500]),
    ):
        row = task_row("rec", box, size=(10, 10))
        target = Targets.of(reward_settings, [row], lambda: coordinates["thousand"])(decoded(row, size))
        assert f'"bbox_2d": {written}' in target
    row = task_row("rec", "[4001, 4001, 4003, 4003]", size=(10, 10))
    assert "[0.399, 0.399, 0.4, 0.4]" in Targets.of(reward_settings, [row], lambda: coordinates["unit"])(decoded(row, size))


def test_a_function_of_ones_own_leaves_the_solution_as_it_is(reward_settings):
    own = replace(reward_settings, tasks={"own": TaskSettings({"mine": TermSettings("my_rewards.mine")})})
    row = task_row("own", BOX)
    assert BOX in Targets.of(own, [row], lambda: pytest.fail("there are no boxes"))(decoded(row))


def test_no_model_is_asked_about_targets(reward_settings):
    given = replace(reward_settings, judge=JudgeSettings("openai", max_calls=0))
    settings = reward_of_targets(given)
    assert (settings.judge.kind, settings.consistency_weight) == ("none", 0.0)
    assert settings.tasks["judged"].terms["judged"].function == "exact"
    assert settings.tasks["rec"] == given.tasks["rec"]
    assert settings.format_weight == given.format_weight


def test_targets_are_checked_before_anything_trains(reward_settings, coordinates, processor):
    rows = [task_row("rec", BOX, id=f"good/{n}") for n in range(3)] + [task_row("exact", "long " * 200, id="long")]
    rows.append(task_row("rec", BOX, size=(3, 2), id="small"))
    targets = Targets.of(reward_settings, rows, lambda: coordinates["resized_pixels"])
    check_targets(targets, rows[:3], processor.tokenizer, 64, DEFAULT_LIMITS)
    length = len(processor.tokenizer(targets(decoded(rows[0])))["input_ids"]) + 1
    check_targets(targets, rows[:1], processor.tokenizer, length, DEFAULT_LIMITS)
    with pytest.raises(
        ValueError, match=f"1 of 1 targets.*trainer.max_completion_length={length - 1} tokens:\n  row 'good/0': {length} tokens"
    ):
        check_targets(targets, rows[:1], processor.tokenizer, length - 1, DEFAULT_LIMITS)
    with pytest.raises(ValueError, match="row 'long': .* tokens"):
        check_targets(targets, rows, processor.tokenizer, 64, DEFAULT_LIMITS)
    broken = replace(rows[0], images=(ImageSource(path="/nowhere.png"),))
    with pytest.raises(ValueError, match="row 'good/0', task rec: /nowhere.png: file is missing"):
        check_targets(targets, [broken], processor.tokenizer, 64, DEFAULT_LIMITS)
