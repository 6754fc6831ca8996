"""500 damaged rows: each is used correctly, or reported with file, row and field; `test_corrupt_images.py` has the images.

What is right is worked out here from the damaged text alone, without the readers. Every damage has its own seed, so a
failure names the row that shows it (`kind-number`).
"""

import json
import random
import re
from pathlib import Path

import pytest
from PIL import Image

from r1reward.data import r1_reward_jsonl, vlm_r1_jsonl
from r1reward.data.build import training_dataset
from r1reward.data.images import decode_columns, open_image
from r1reward.data.marks import marks_of, shown_as_text
from r1reward.data.rows import PreferenceRow, Row
from r1reward.models.tiny import build_processor

READ, EITHER = "read", "either"  # what is to come of a damaged row; else the field that is reported
WHOLE = "(whole row)"
ODD = (
    "e\u0301\u0327", "\u202egnp.exe", "\U0001f469\u200d\U0001f466",
    "\u2028\u2029\u0085", "\ufeffbom", "\u4e2d\u6587", "a\x00b", "\x1b[31m",
    "\ufffd", "\U0010ffff", "\u0600\u06dd", "%s{0}${x}", "<|im_end|>", "\\", "'\"", "</answer>",
)  # fmt: skip
WRONG = (3, -1, 2.5, True, None, [], {}, [[]], {"a": {}}, [None], "")
OUTSIDE = ("../a.png", "/etc/passwd", "x/../../a.png", "https://example.com/a.png", "file:///etc/passwd", "data:image/png,A",
           "a\0.png", "a" * 300, "b/" * 3000 + "a.png", "\ud800.png")  # fmt: skip
HALVES = ("\ud83d", "x\udc00", "\udfff\ud800")
BRACKETS = "Judge.\n\n[Question]\n{q}\n\n[Response 1]\n{a}\n\n[Response 2]\n{b}"
HEADERS = (
    "Judge.\n\n###### [Question]:\n{q}\n\n###### [Response 1]:\n{a}\n\n###### [Response 2]:\n{b}\n\n###### **Output Format**\nx"
)


@pytest.fixture(scope="module")
def processor():
    return build_processor(["Judge.", "[Response 1] A cat.", "[Response 2] A dog.", "Where is the cat?"])


def survives(rows: list[Row], processor) -> None:
    """To the dataset, its images decoded, through the chat template and the processor: as the trainer does."""
    for row in decode_columns(training_dataset(shown_as_text(rows, marks_of(processor))).to_list()):
        text = processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[text], images=[row["images"]] if row["images"] else None, return_tensors="pt")
        assert len(inputs.get("image_grid_thw", ())) == len(row["images"])
        assert inputs["input_ids"].shape[1] > 0


# Rows: what is damaged in both formats


def no_change(rng, row):
    return row, READ


def field_missing(rng, row):
    name = rng.choice([name for name in row if name not in ("image", "id")])
    return {key: value for key, value in row.items() if key != name}, name


def wrong_id(rng, row):
    value = rng.choice(WRONG)
    return row | {"id": value}, READ if value is None or type(value) is int else "id"


def wrong_category(rng, row):
    value = rng.choice(WRONG)
    return row | {"category": value}, READ if value is None or value == "" or type(value) is int else "category"


def wrong_level(rng, row):
    value = rng.choice([*WRONG, "2", 10**30, 2**31, "hard"])
    return row | {"level": value}, READ if value is None or (type(value) is int and 0 <= value < 2**31) else "level"


def wrong_image(rng, row):
    return row | {"image": rng.choice([3, True, {}, [3], [None], [["a.png"]], "", [""], {"path": "a.png"}])}, "image"


def image_outside(rng, row):
    return row | {"image": rng.choice(OUTSIDE)}, "image"


def image_absent(rng, row):
    return row | {"image": rng.choice(["gone.png", "A.PNG", "a.png ", ".", "rows.jsonl", "a.png/b.png", "\u00e9.png"])}, "image"


def image_by_another_name(rng, row):
    return row | {"image": rng.choice(["./a.png", "x/../a.png", ["a.png"], "a.png", "b \u4e2d.png"])}, READ


def further_fields(rng, row):
    return row | {rng.choice(ODD): rng.choice(WRONG), "score": 10**300, "nested": [[[{}]]]}, READ


def cut(rng, row):
    line = json.dumps(row).encode()
    return line[: rng.randrange(1, len(line) - 1)], WHOLE


def no_object(rng, row):
    return rng.choice([b"3", b"null", b'"text"', b"[]", json.dumps([row]).encode(), b"true", b"{}{}", b"{'a': 1}"]), WHOLE


def two_in_a_line(rng, row):
    return json.dumps(row).encode() + rng.choice([b"", b" ", b","]) + json.dumps(row).encode(), WHOLE


def nested_deeply(rng, row):
    depth = rng.choice([5_000, 100_000])
    line = json.dumps(row).encode()
    return rng.choice([b"[" * depth, line[:-1] + b', "x": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"]), WHOLE


def no_number(rng, row):
    return json.dumps(row).encode()[:-1] + b', "score": ' + rng.choice([b"NaN", b"-Infinity", b"1" * 5000, b"01"]) + b"}", WHOLE


def byte_order_mark(rng, row):
    return b"\xef\xbb\xbf" + json.dumps(row, ensure_ascii=False).encode(), READ


def other_encoding(rng, row):
    text = json.dumps(row | {"note": "\u00e9\u00fc"}, ensure_ascii=False)
    return text.encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"])), WHOLE


def no_utf_8(rng, row):
    line = json.dumps(row).encode()
    place = rng.randrange(len(line))
    return line[:place] + rng.choice([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\x80"]) + line[place:], WHOLE


def key_twice(rng, row):
    name = rng.choice(list(row))
    return json.dumps(row)[:-1].encode() + f", {json.dumps(name)}: {json.dumps(row[name])}}}".encode(), name


def half_a_character(rng, row):
    name = rng.choice(["id", "category"])
    return row | {name: rng.choice(HALVES)}, name


def one_byte(rng, row):
    line = bytearray(json.dumps(row).encode())
    line[rng.randrange(len(line))] = rng.choice([byte for byte in range(256) if byte not in b"\n\r"])
    return bytes(line), EITHER


BOTH = [
    no_change, field_missing, wrong_id, wrong_category, wrong_level, wrong_image, image_outside, image_absent,
    image_by_another_name, further_fields, cut, no_object, two_in_a_line, nested_deeply, no_number, byte_order_mark,
    other_encoding, no_utf_8, key_twice, half_a_character, one_byte, one_byte,
]  # fmt: skip


# Rows of the R1-Reward format


def chat(text, images: int = 1, first: bool = False) -> str:
    parts = [{"type": "image", "image": "a.png"}] * images + [{"type": "text", "text": text}]
    return json.dumps([{"role": "user", "content": parts if first else parts[::-1]}])


def preference(rng, **texts) -> dict:
    layout = rng.choice([BRACKETS, HEADERS])
    filled = {"q": "Which?", "a": "A cat.", "b": "A dog."} | texts
    message = chat(layout.format(**filled), first=rng.random() < 0.5)
    return {"question": filled["q"], "message": message, "answer": rng.choice([["<answer>2</answer>"], "1", 2]),
            "image": "a.png", "id": f"row {rng.random()}"}  # fmt: skip


def p_odd_text(rng, row):
    return preference(rng, **{rng.choice("qab"): rng.choice(ODD) for _ in range(2)}), READ


def p_huge(rng, row):
    text = rng.choice(["word ", "\u4e2d"]) * rng.randrange(10_000, 50_000)
    return preference(rng, **{rng.choice("qab"): text}), READ


def p_half(rng, row):
    if rng.random() < 0.3:
        return row | {"question": rng.choice(HALVES)}, "question"
    return preference(rng, **{rng.choice("qab"): rng.choice(HALVES)}), "message"


def p_image_token(rng, row):
    return preference(rng, **{rng.choice("ab"): rng.choice(["<|image_pad|>", "x<|video_pad|>"])}), READ


def p_wrong_question(rng, row):
    return row | {"question": rng.choice(WRONG[:-1])}, "question"


def p_wrong_message(rng, row):
    content = [{"type": "text", "text": BRACKETS.format(q="", a="", b="")}]
    messages = [
        *WRONG, "text", "[]", "[3]", '{"role": "user"}', "[" * 10_000, "NaN", chat("no responses"), chat(3),
        chat(None), chat(["x"]), chat(BRACKETS + "\n[Response 1]\n"), json.dumps([{"role": "user", "content": "text"}]),
        json.dumps([{"role": "user", "content": [{"type": []}]}]), json.dumps([{"role": [], "content": content}]),
        json.dumps([{"role": "user", "content": content}] * 2), json.dumps([{"role": "user"}]),
        [{"role": "user", "content": [3]}], json.dumps([{"role": "user", "content": content + [{"type": "image"}] + content}]),
    ]  # fmt: skip
    return row | {"message": rng.choice(messages)}, "message"


def p_wrong_answer(rng, row):
    labels = [
        0,
        3,
        -1,
        1.0,
        "3",
        "12",
        "<answer>0</answer>",
        "<answer>1",
        ["1", "2"],
        [["1"]],
        "one",
        "1 or 2",
        "\u0661",
        10**300,
    ]
    return row | {"answer": rng.choice([*(w for w in WRONG if w != 3), *labels, "1" * 10**5])}, "answer"


def p_images_and_places(rng, row):
    given, shown = rng.choice([(0, 1), (2, 1), (5, 1), (1, 2), (1, 0), (100, 1)])
    return row | {"image": ["a.png"] * given, "message": chat(BRACKETS.format(q="", a="a", b="b"), shown)}, "image"


def p_paths_in_the_message(rng, row):
    return {key: value for key, value in row.items() if key != "image"}, READ


def p_text_only(rng, row):
    return row | {"image": [], "message": chat(BRACKETS.format(q="", a="a", b="b"), 0)}, READ


PREFERENCE_KINDS = [
    *BOTH, p_odd_text, p_odd_text, p_huge, p_half, p_image_token, p_wrong_question, p_wrong_message, p_wrong_message,
    p_wrong_answer, p_wrong_answer, p_images_and_places, p_paths_in_the_message, p_text_only,
]  # fmt: skip


def right_preference(data: dict, line: int, row: PreferenceRow, folder: Path) -> None:
    chats = json.loads(data["message"]) if isinstance(data["message"], str) else data["message"]
    content = chats[0]["content"]
    assert row.text() == "".join(part["text"] for part in content if part["type"] == "text")
    assert row.question == data["question"]
    assert [part["type"] for part in row.messages()[0]["content"]] == [part["type"] for part in content]
    (label,) = re.findall("[12]", str(data["answer"]))
    assert row.label == int(label)
    assert f"[Response 1]{row.prompt_parts[0].rpartition('[Response 1]')[2]}{row.responses[0]}" in row.text()
    names = data.get("image")
    if names is None:
        names = [part["image"] for part in content if part["type"] == "image"]
    right_rest(data, line, row, names, folder)


# Rows of VLM-R1's format


def task(rng, question="<image>Where is the cat?", answer="[1, 2, 3, 4]") -> dict:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, "image": "a.png", "id": rng.randrange(10**6)}


def t_odd_text(rng, row):
    return task(rng, "Say " + rng.choice(ODD), rng.choice(ODD) + "."), READ


def t_huge(rng, row):
    return task(rng, "word " * rng.randrange(10_000, 50_000), rng.choice(["x" * 10_000, 10**300, 1e300])), READ


def t_half(rng, row):
    return task(rng, *rng.choice([("x" + HALVES[0], "y"), ("x", HALVES[1])])), "conversations"


def t_image_token(rng, row):
    return task(rng, *rng.choice([("x<|image_pad|>", "y"), ("x <|video_pad|>", "z")])), READ


def t_wrong_turns(rng, row):
    turns = row["conversations"]
    wrong = [*WRONG, turns[:1], turns[::-1], [turns[0], 3], [None, turns[1]], "text", {"0": turns[0]}, [turns, turns],
             [{"from": "system", "value": "x"}, *turns], [{"from": [], "value": "x"}, turns[1]]]  # fmt: skip
    return row | {"conversations": rng.choice(wrong)}, "conversations"


def t_wrong_question(rng, row):
    return task(rng, question=rng.choice([*WRONG, "<image>", " \n"])), "conversations"


def t_wrong_answer(rng, row):
    return task(rng, answer=rng.choice([True, False, None, [], {}, [3], "", " \n"])), "conversations"


def t_number_as_answer(rng, row):
    return task(rng, answer=rng.choice([0, -3, 2.5, 1e-300, 10**40])), READ


def t_infinite_answer(rng, row):
    return json.dumps(task(rng, answer="?")).replace('"?"', rng.choice(["1e999", "-1e400"])).encode(), "conversations"


def t_too_few_images(rng, row):
    row = task(rng, "<image>" * rng.choice([2, 3, 50]) + "Same?")
    return row | {"image": rng.choice(["a.png", [], ["a.png"]])}, "image"


def t_several_images(rng, row):
    names = ["a.png", "b \u4e2d.png"] * rng.randrange(1, 5)
    return task(rng, rng.choice(["", "<image>", "<image>" * len(names)]) + "Same?") | {"image": names}, READ


def t_text_only(rng, row):
    return {key: value for key, value in task(rng, "2 + 2?", 4).items() if key != "image"} | {"task": "number"}, READ


def t_boxes_without_an_image(rng, row):
    return {key: value for key, value in row.items() if key != "image"} | rng.choice([{}, {"task": "ovd_map"}]), "image"


def t_wrong_task(rng, row):
    return row | {"task": rng.choice([3, True, [], {}, "", " ", "preference", HALVES[0]])}, "task"


def t_wrong_method(rng, row):
    return row | {"accu_reward_method": rng.choice([3, [], ["mcq"], {}, "", "MCQ", True])}, "accu_reward_method"


def t_task_and_method(rng, row):
    return row | {"accu_reward_method": "mcq", "task": "rec"}, "task"


TASK_KINDS = [
    *BOTH, t_odd_text, t_odd_text, t_huge, t_half, t_image_token, t_wrong_turns, t_wrong_turns, t_wrong_question,
    t_wrong_answer, t_number_as_answer, t_infinite_answer, t_too_few_images, t_several_images, t_text_only,
    t_boxes_without_an_image, t_wrong_task, t_wrong_method, t_task_and_method,
]  # fmt: skip


def right_task(data: dict, line: int, row, folder: Path) -> None:
    question, answer = (turn["value"] for turn in data["conversations"][:2])
    assert row.prompt == "".join(question.split("<image>")).strip()
    assert row.solution == (answer if isinstance(answer, str) else repr(answer))
    methods = vlm_r1_jsonl.METHODS
    assert row.task == (methods[data["accu_reward_method"]] if "accu_reward_method" in data else data.get("task", "rec"))
    right_rest(data, line, row, data.get("image", []), folder)


def right_rest(data: dict, line: int, row: Row, names, folder: Path) -> None:
    names = [names] if isinstance(names, str) else names
    assert [Path(image.path).resolve() for image in row.images] == [(folder / name).resolve() for name in names]
    assert all(open_image(image).size == (6, 4) for image in row.images)
    assert row.id == (str(line) if data.get("id") is None else str(data["id"]))
    assert row.category == ("" if data.get("category") is None else str(data["category"]))
    assert row.level == (data.get("level") or 0)


# Rows: the test


@pytest.mark.parametrize(
    ("read", "kinds", "make", "right"),
    [
        (r1_reward_jsonl.read, PREFERENCE_KINDS, preference, right_preference),
        (lambda path: vlm_r1_jsonl.read(path, "rec"), TASK_KINDS, task, right_task),
    ],
    ids=["r1_reward", "vlm_r1"],
)
def test_250_damaged_rows_are_read_right_or_reported(tmp_path, processor, read, kinds, make, right):
    """Each in a file of its own, below a sound row and an empty line: as many rows come out or are named as went in."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for name in ("a.png", "b \u4e2d.png", "../a.png"):  # the last one is there, but none of the rows' business
        Image.new("RGB", (6, 4), "red").save(folder / name)
    path = folder / "rows.jsonl"
    sound = json.dumps(make(random.Random(0)) | {"id": "sound"}).encode()
    seen, kept, refused, contents = [], [], 0, []
    for number in range(250):
        kind, rng = kinds[number % len(kinds)], random.Random(number)
        damaged, expected = kind(rng, make(rng))
        content = damaged if isinstance(damaged, bytes) else json.dumps(damaged).encode()
        where = f"{kind.__name__}-{number}"
        assert b"\n" not in content, where
        path.write_bytes(sound + b"\n\n" + content + b"\n")
        contents.append(content)
        try:
            rows = read(path)
        except ValueError as error:
            message = str(error)
            assert expected != READ, f"{where}: {message}"
            found = re.fullmatch(
                r".*rows\.jsonl: 1 row has a problem:\n  rows\.jsonl, row 3, field (.+?): (.*)", message, re.DOTALL
            )
            assert found, f"{where}: {message}"
            assert expected in (EITHER, found[1]), f"{where}: {message}"
            assert len(message) < 1500 and ";" in found[2], f"{where}: {message}"  # a remedy follows the reason
            refused += 1
            continue
        assert expected in (EITHER, READ), f"{where}: read, though {expected} should be reported"
        assert [row.id for row in rows[:-1]] == ["sound"] and len(rows) == 2, where
        data = json.loads(content.decode("utf-8-sig"))
        right(data, 3, rows[1], folder)
        seen.append(rows[1])
        kept.append(content)
    assert len(seen) + refused == 250 and len(seen) >= 60 and refused >= 100
    survives(seen[::4], processor)

    # All in one file: the same ones are reported, the others are read, in order.
    path.write_bytes(b"\n".join(contents))
    with pytest.raises(
        ValueError, match=f"rows.jsonl: {refused} rows have problems:\n(.*\n){{10}}  ... and {refused - 10} more"
    ):
        read(path)
    path.write_bytes(b"\n".join(kept))
    rows = read(path)
    assert len(rows) == len({row.id for row in rows}) == len(seen)
    texts = [row.text() for row in rows]
    assert texts == [row.text() for row in seen]
