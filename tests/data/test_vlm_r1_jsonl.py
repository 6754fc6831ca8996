import json

import pytest
from PIL import Image

from r1reward.data.images import decode_columns, upright_size
from r1reward.data.rows import ImageSource, TaskRow, to_training_row
from r1reward.data.split import split
from r1reward.data.vlm_r1_jsonl import METHODS, read


def turns(question="Where is the cat?", answer="[1, 2, 3, 4]") -> list[dict]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def write(folder, *rows) -> str:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 6)).save(folder / name)
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def test_rows_with_one_image_two_and_none(tmp_path):
    path = write(
        tmp_path,
        {"id": 7, "image": "a.png", "conversations": turns("<image>Where is the cat?")},
        {"image": ["a.png", "b.png"], "conversations": turns("<image><image>\nSame?", "yes") + turns(), "task": "yes_no"},
        {"conversations": turns("What is 2 + 2?", 4), "accu_reward_method": "math", "category": "sums", "level": 2},
    )
    one, two, none = read(path, task="rec")
    assert one == TaskRow("7", one.images, "Where is the cat?", "[1, 2, 3, 4]", "rec")
    assert [image.path for image in two.images] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert (two.id, two.prompt, two.solution, two.task) == ("2", "Same?", "yes", "yes_no")
    assert (none.id, none.images, none.solution, none.task, none.category, none.level) == ("3", (), "4", "math", "sums", 2)
    content = two.messages()[0]["content"]
    assert [part["type"] for part in content] == ["image", "image", "text"] and content[2]["text"] == "Same?"
    row = to_training_row(none)
    assert (row["label"], row["task"], row["solution"], row["images"]) == (None, "math", "4", [])


def test_image_root_and_limit(tmp_path):
    path = write(tmp_path, *[{"image": "a.png", "conversations": turns()}] * 3)
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match="3 rows have problems(.|\n)*row 1, field image"):
        read(path, task="rec", image_root=tmp_path / "images")
    assert len(read(path, task="rec", limit=2)) == 2


@pytest.mark.parametrize("method", METHODS)
def test_each_method_of_vlm_r1_is_a_task_of_ours(method, tmp_path):
    from tests.reference_config import composed

    (row,) = read(write(tmp_path, {"image": "a.png", "conversations": turns(), "accu_reward_method": method}), task=None)
    assert row.task in composed().reward.tasks


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "a.png"}, "field conversations: must be a question and an answer, got None"),
        ({"conversations": turns()[:1]}, "field conversations: must be a question and an answer"),
        ({"conversations": turns("<image> ")}, "the question must be a text, got '<image> '"),
        ({"conversations": turns(answer=None)}, "the answer must be a text or a number, got None"),
        ({"conversations": turns(answer="  ")}, "the answer must be a text or a number"),
        ({"conversations": turns(answer=True)}, "the answer must be a text or a number, got True"),
        ({"conversations": turns(), "image": [3]}, "field image: must be a path or a list of paths"),
        ({"conversations": turns(), "image": "c.png"}, "field image: .*c.png.*missing"),
        ({"conversations": turns("<image><image>Same?"), "image": "a.png"}, "field image: 1 given, but .* 2 times <image>"),
        ({"conversations": turns()[::-1]}, "field conversations: not a question and then an answer, but from 'gpt'"),
        ({"conversations": turns(answer=1e999)}, "not JSON .Infinity is no JSON number"),
        (json.dumps({"conversations": turns(answer="x")}).replace('"x"', "1e999"), "the answer inf is too large"),
        ({"conversations": turns(), "task": 3}, "field task: must name a task of reward.tasks, got 3"),
        ({"conversations": turns(), "task": "preference"}, "field task: must name a task"),
        ({"conversations": turns(), "accu_reward_method": ["mcq"]}, "unknown, got .'mcq'.; choose one of default, mcq"),
        ({"conversations": turns(), "accu_reward_method": "iou"}, "unknown, got 'iou'; choose one of default, mcq"),
        ({"conversations": turns(), "accu_reward_method": "mcq", "task": "rec"}, "as well as accu_reward_method"),
        ({"problem": 3, "solution": "1"}, 'field problem: the question must be a text, got 3; write "problem": "..."'),
        ({"problem": "Where?", "solution": None}, 'field solution: the answer must .* got None; write "solution": "..."'),
        ({"conversations": turns(answer=None)}, "got None; write .{.from.: .human.,"),
        ("not json", "not JSON"),
        ("{" * 100_000, "not JSON"),
        ("3", "a JSON int, not an object"),
    ],
)
def test_a_wrong_row_is_named_with_field_and_remedy(row, message, tmp_path):
    with pytest.raises(ValueError, match=f"(?s)rows.jsonl: 1 row has a problem:.*row 1, .*{message}"):
        read(write(tmp_path, row), task="rec")


@pytest.mark.parametrize(
    ("answer", "task"),
    [
        ("[1, 2, 30, 40]", "rec"),
        ('{"bbox_2d": [1, 2, 30, 40]}', "rec"),
        ('```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}]\n```', "ovd"),
        ("None", "ovd"),
        ([1, 2, 30, 40], "rec"),
        ([{"bbox_2d": [1, 2, 30, 40], "label": "cat"}], "ovd"),
        ("B", "answer"),
        (3, "answer"),
        ("<answer> null </answer>", "ovd"),
        ("[30, 40, 1, 2]", "rec"),  # no box, which the check of solutions reports
    ],
)
def test_without_a_task_the_form_of_the_answer_decides(answer, task, tmp_path):
    path = write(tmp_path, {"image": "a.png", "conversations": turns(answer=answer)})
    Image.new("RGB", (40, 50)).save(tmp_path / "a.png")
    (row,) = read(path, task=None)
    assert row.task == task
    (row,) = read(write(tmp_path, {"conversations": turns(answer=answer)}), task="judged")
    assert row.task == "judged"


def test_photographs_none_one_or_two_per_row(shared_data, tmp_path):
    """Real photographs of different sizes, kept in the order of the row."""
    root = shared_data / "coco128" / "images"
    names = sorted(path.name for path in root.iterdir())[:3]
    path = write(
        tmp_path,
        {"image": names[:2], "conversations": turns("<image><image>Which shows a cat?", "A"), "task": "multiple_choice"},
        {"conversations": turns("2 + 2?", "4"), "task": "number"},
        {"image": names[2], "conversations": turns()},
        {"image": None, "conversations": turns("3 + 3?", 6), "task": "number"},
        {"image": [names[2], names[0]], "conversations": turns("Same?", "no"), "task": "yes_no"},
    )
    rows = read(path, task="rec", image_root=root)
    sizes = {name: upright_size(ImageSource(path=str(root / name))) for name in names}
    decoded = decode_columns([to_training_row(row) for row in rows])
    shown = [names[:2], [], [names[2]], [], [names[2], names[0]]]
    assert [[image.size for image in row["images"]] for row in decoded] == [[sizes[name] for name in row] for row in shown]
    assert [sum(part["type"] == "image" for part in row["prompt"][0]["content"]) for row in decoded] == [2, 0, 1, 0, 2]
    train, held_out = split(rows, 0.5, 0, root)
    assert {row.id for row in (train if rows[0] in train else held_out)} >= {"1", "3", "5"}  # tied by shared photographs
    assert len(train) + len(held_out) == 5 and train and held_out


def test_real_rows(shared_data):
    folder = shared_data / "coco128"
    referring, detection = read(folder / "rec.jsonl", task="rec"), read(folder / "ovd.jsonl", task="ovd")
    assert len(referring) > 50 and len(detection) > 50
    assert all(len(row.images) == 1 and "<image>" not in row.prompt for row in referring + detection)
