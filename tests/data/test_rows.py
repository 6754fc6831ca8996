"""Rows: swapping, prompts, and the columns that the trainer reads."""

from itertools import permutations

import pytest

from r1reward.data.build import build_splits, training_dataset
from r1reward.data.images import decode_columns
from r1reward.data.prompts import PROMPTS, prompt_parts
from r1reward.data.rows import ImageSource, PreferenceRow, TaskRow, to_training_row
from r1reward.data.shapes.rows import preference_row
from r1reward.settings import DataSettings


def row(**changes):
    values = {
        "id": "a", "images": (ImageSource(path="x.png"),), "question": "Q?", "responses": ("one", "two"), "label": 1,
        "prompt_parts": ("before ", " between ", " after"),
    }  # fmt: skip
    return PreferenceRow(**(values | changes))


def test_swapping_moves_the_label_with_its_response():
    swapped = row().swapped()
    assert swapped.text() == "before two between one after"
    assert swapped.label == 2
    assert swapped.swapped() == row()


def test_images_stand_first_or_last():
    image = {"type": "image", "text": None}
    text = {"type": "text", "text": "before one between two after"}
    assert row().messages()[0]["content"] == [image, text]
    assert row(images_first=False).messages()[0]["content"] == [text, image]


@pytest.mark.parametrize("label", [0, 3, "1"])
def test_wrong_labels_are_refused(label):
    with pytest.raises(ValueError, match="row 'a': label must be 1 or 2"):
        row(label=label)


def test_an_image_has_one_source():
    for wrong in ({}, {"path": "x", "data": b"y"}):
        with pytest.raises(ValueError, match="a path or data"):
            ImageSource(**wrong)


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_survive_braces_in_questions(name):
    before, between, after = prompt_parts(name, "What is {response_1} {x}?")
    assert before + "A" + between + "B" + after == PROMPTS[name].replace("{response_1}", "A").replace(
        "{response_2}", "B"
    ).replace("{question}", "What is {response_1} {x}?")


def test_unknown_prompt():
    with pytest.raises(ValueError, match="unknown prompt 'long'; choose one of"):
        prompt_parts("long", "Q")


def test_dataset_has_no_column_that_trl_takes_for_its_own():
    columns = set(training_dataset([preference_row(0, "train", 0)]).column_names)
    assert columns == {"id", "prompt", "images", "task", "solution", "label", "category", "level"}
    assert not columns & {"chosen", "rejected", "completion", "messages", "tools", "environment"}


PNG = preference_row(0, "train", 0).images[0].data
KINDS = [
    TaskRow("text", (), "1 + 1?", "2", "number"),
    TaskRow("file", (ImageSource(path="a.png"),), "Where?", "[1, 2, 3, 4]", "rec"),
    TaskRow("both", (ImageSource(data=PNG), ImageSource(path="b.png")), "Same?", "yes", "yes_no", images_first=False, level=2),
    row(),
    row(images=(), label=2),
    preference_row(0, "train", 0),
]


@pytest.mark.parametrize("kinds", [*permutations(KINDS, 3), *([kind] for kind in KINDS), KINDS, KINDS[::-1]])
def test_a_dataset_of_rows_of_every_kind_gives_back_each_as_it_was(kinds):
    dataset = training_dataset(list(kinds))
    assert dataset.to_list() == [to_training_row(kind) for kind in kinds]


def test_columns_of_each_kind():
    text, file, both, pair, *_ = map(to_training_row, KINDS)
    assert (text["label"], text["solution"], text["task"], text["images"]) == (None, "2", "number", [])
    assert (pair["label"], pair["solution"], pair["task"]) == (1, "", "preference")
    assert file["images"] == [{"path": "a.png", "bytes": None}]
    assert both["images"] == [{"path": None, "bytes": PNG}, {"path": "b.png", "bytes": None}]
    assert [part["type"] for part in both["prompt"][0]["content"]] == ["text", "image", "image"]


def test_each_distinct_image_is_decoded_once():
    dataset = training_dataset([preference_row(0, "train", index) for index in (0, 1)])
    rows = decode_columns([dataset[0], dataset[0], dataset[1]])
    assert rows[0]["images"][0] is rows[1]["images"][0]
    assert rows[0]["images"][0] is not rows[2]["images"][0]
    assert rows[0]["images"][0].size == (84, 84)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": [4]}, "give levels of the shapes world"),
        ({"num_eval": 0}, "the split held_out needs at least 1 row"),
        ({"reader": "r1_reward_jsonl"}, "data.path is not set"),
        ({"reader": "vlm_r1_jsonl", "path": "x", "num_eval": 0}, "data.num_eval must be at least 1 row"),
        ({"held_out_fraction": 0.2}, "data.held_out_fraction has no effect with data.reader=shapes; it is for r1_reward_jsonl"),
        ({"reader": "vlm_r1_jsonl", "levels": [1]}, "data.levels has no effect with .*reader=vlm_r1_jsonl; it is for shapes"),
    ],
)
def test_wrong_data_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        build_splits(DataSettings(**({"reader": "shapes"} | changes)))
