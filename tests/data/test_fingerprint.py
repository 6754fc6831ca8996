import json
import os
from dataclasses import replace

import pytest
from PIL import Image

from r1reward.data.build import build_splits
from r1reward.data.fingerprint import changes, fingerprint
from r1reward.data.rows import ImageSource, PreferenceRow, TaskRow
from r1reward.data.split import Splits
from r1reward.settings import DataSettings


def pair(id: str, images=(), **fields) -> PreferenceRow:
    values = {"question": "Which?", "responses": ("a", "b"), "label": 1, "prompt_parts": ("", "", "")}
    return PreferenceRow(id=id, images=images, **(values | fields))


ROWS = [pair("a"), pair("b"), pair("c"), TaskRow(id="d", images=(), prompt="Where?", solution="[1]", task="grounding")]


def train(rows) -> dict:
    return fingerprint(Splits(rows, {}))


def test_equal_data_have_equal_fingerprints_that_survive_json():
    splits = build_splits(DataSettings("shapes", num_train=20, num_eval=5))
    first = fingerprint(splits)
    assert {split: len(rows) for split, rows in first.items()} == {"train": 20, "held_out": 5, "out_of_distribution": 5}
    assert len({digest for rows in first.values() for digest in rows.values()}) == 30
    again = fingerprint(build_splits(DataSettings("shapes", num_train=20, num_eval=5)))
    assert changes(json.loads(json.dumps(first)), again) == []


def test_another_world_is_other_data():
    small, other = (fingerprint(build_splits(DataSettings("shapes", num_train=4, num_eval=1, seed=seed))) for seed in (0, 1))
    assert changes(small, other)[0].startswith("held_out: 1 row added (held_out-1-0), 1 row removed (held_out-0-0)")


@pytest.mark.parametrize(
    ("position", "field", "value"),
    [
        (0, "question", "Which one?"),
        (0, "responses", ("b", "a")),
        (0, "label", 2),
        (0, "prompt_parts", ("x", "", "")),
        (0, "images_first", False),
        (0, "category", "new"),
        (0, "level", 1),
        (0, "images", (ImageSource(data=b"x"),)),
        (3, "prompt", "Where is it?"),
        (3, "solution", "[2]"),
        (3, "task", "detection"),
    ],
)
def test_every_part_of_a_row_counts(position, field, value):
    rows = list(ROWS)
    rows[position] = replace(rows[position], **{field: value})
    assert changes(train(ROWS), train(rows)) == [f"train: 1 row changed ({ROWS[position].id})"]


def test_changes_are_counted_named_and_put_in_order():
    old = {"train": {str(i): "x" for i in range(10)}, "gone": {"a": "x"}}
    new = {"train": {"9": "x", **{str(i): "y" for i in range(5)}, "new": "x"}, "held_out": {"b": "x"}}
    assert changes(old, new) == [
        "gone: 1 row removed (a)",
        "held_out: 1 row added (b)",
        "train: 5 rows changed (0, 1, 2, ... and 2 more), 1 row added (new), 4 rows removed (5, 6, 7, ... and 1 more), "
        "order changed",
    ]


def test_the_order_of_rows_counts_and_coming_and_going_alone_is_no_other_order():
    assert changes(train(ROWS), train(ROWS[::-1])) == ["train: order changed"]
    assert changes(train(ROWS), train(ROWS[1:])) == ["train: 1 row removed (a)"]
    assert changes(train(ROWS[1:]), train(ROWS)) == ["train: 1 row added (a)"]


def test_image_files_count_by_content_not_by_place(tmp_path):
    def folder(name: str, color: str):
        (tmp_path / name).mkdir()
        for file in ("0.png", "1.png"):
            Image.new("RGB", (4, 4), "red" if file == "0.png" else color).save(tmp_path / name / file)
        images = [ImageSource(path=str(tmp_path / name / file)) for file in ("0.png", "1.png")]
        return [pair("a", (images[0],)), pair("b", (images[1],)), pair("both", tuple(images))]

    here, there, changed = folder("here", "blue"), folder("there", "blue"), folder("changed", "green")
    assert changes(train(here), train(there)) == []
    assert changes(train(here), train(changed)) == ["train: 2 rows changed (b, both)"]
    assert changes(train(here), train([replace(here[2], images=here[2].images[::-1])]))[0].startswith(
        "train: 1 row changed (both)"
    )


def test_an_image_that_cannot_be_read_is_another_one_and_no_error(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(b"content")
    rows = [pair("a", (ImageSource(path=str(path)),))]
    before = train(rows)
    path.unlink()
    assert changes(before, train(rows)) == ["train: 1 row changed (a)"]
    path.mkdir()
    assert changes(before, train(rows)) == ["train: 1 row changed (a)"]


def test_each_image_file_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    path.write_bytes(os.urandom(100))
    opened = []
    monkeypatch.setattr(
        "builtins.open", lambda name, *rest, really=open, **more: (opened.append(name), really(name, *rest, **more))[1]
    )
    train([pair(str(i), (ImageSource(path=str(path)),)) for i in range(50)])
    assert opened.count(str(path)) == 1


def test_twenty_thousand_rows_stay_under_a_megabyte():
    rows = [replace(ROWS[0], id=f"train-0-{i}") for i in range(20_000)]
    assert len(json.dumps(train(rows), separators=(",", ":"))) < 1_000_000
