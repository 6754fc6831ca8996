import json

import pytest
from PIL import Image

from r1reward.data.prompts import prompt_parts
from r1reward.data.r1_reward_jsonl import read
from r1reward.data.rows import PreferenceRow
from r1reward.data.split import split

BRACKETS = "Judge.\n\n[Question]\nWhich?\n\n[Response 1]\nA cat.\n\n[Response 2]\nA dog."
HEADERS = (
    'Judge.\n\n  - Output "1" if Response 1 is better.\n\n###### **Input:**  \n###### [Question]:\nWhich?  \n\n'
    "###### [Response 1]:\nA cat.  \n\n###### [Response 2]:\nA dog.  \n\n"
    "###### **Output Format (strictly follow):**  \n<think>...</think><answer>1/2</answer>"
)


def chat(text: str, images_first: bool = False, images: int = 1) -> str:
    parts = [{"type": "text", "text": text}], [{"type": "image", "image": "a.png"}] * images
    return json.dumps([{"role": "user", "content": parts[1] + parts[0] if images_first else parts[0] + parts[1]}])


def entry(**changes) -> dict:
    fields = {"question": "Which?", "message": chat(BRACKETS), "answer": ["<answer>2</answer>"], "image": "a.png"}
    return {key: value for key, value in (fields | changes).items() if value is not ...}


@pytest.fixture
def write(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")

    def write(*entries, name="data.jsonl"):
        lines = [item if isinstance(item, str) else json.dumps(item) for item in entries]
        (tmp_path / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return tmp_path / name

    return write


def problem(path, **options) -> str:
    with pytest.raises(ValueError) as error:
        read(path, **options)
    return str(error.value)


# Reading


def test_all_shared_rows_come_back_to_the_same_characters(shared_data):
    path = shared_data / "coco128" / "preference.jsonl"
    originals = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = read(path)
    assert len(rows) == len(originals) == 479
    for row, original in zip(rows, originals, strict=True):
        content = json.loads(original["message"])[0]["content"]
        assert row.text() == content[0]["text"]
        assert [part["type"] for part in row.messages()[0]["content"]] == [part["type"] for part in content]
        assert (row.id, row.question) == (original["id"], original["question"])
        assert original["answer"] == [f"<answer>{row.label}</answer>"]
        assert row.swapped().swapped() == row and len(row.swapped().text()) == len(row.text())
        assert all(response and response == response.strip() for response in row.responses)
    assert sum(row.label == 2 for row in rows) == 260


def test_shared_rows_split_without_a_shared_image(shared_data):
    rows = read(shared_data / "coco128" / "preference.jsonl", check_images=False)
    train, held_out = split(rows, 0.2, seed=0, image_root=shared_data / "coco128")
    assert len(train) + len(held_out) == 479 and 0.1 < len(held_out) / 479 < 0.3
    assert not {row.images for row in train} & {row.images for row in held_out}


@pytest.mark.parametrize("text", [BRACKETS, HEADERS, HEADERS.replace("\n", "\r\n"), BRACKETS + "\n", HEADERS + " "])
def test_both_layouts_are_cut_at_the_responses_and_can_be_swapped(write, text):
    (row,) = read(write(entry(message=chat(text))))
    assert row.responses == ("A cat.", "A dog.") and row.label == 2
    assert row.text() == text
    swapped = text.replace("cat", "cow").replace("dog", "cat").replace("cow", "dog")
    assert row.swapped().text() == swapped and row.swapped().label == 1


def test_responses_may_hold_several_lines_headings_and_white_space(write):
    first, second = "# Title\n\n- Output Format: text\n  end", "### Output Format\nRight: [Response 1] is wrong."
    text = HEADERS.replace("A cat.", first).replace("A dog.", second)
    (row,) = read(write(entry(message=chat(text))))
    assert row.responses == (first, second) and row.text() == text


def test_an_empty_response_can_be_swapped_too(write):
    for text in (BRACKETS, HEADERS):
        text = text.replace("A cat.", "")
        (row,) = read(write(entry(message=chat(text))))
        assert row.responses == ("", "A dog.") and row.text() == text
        assert "[Response 2]" in row.swapped().text().split("A dog.")[1]


def test_our_own_prompt_in_this_format_comes_back_whole(write):
    own = PreferenceRow("1", (), "Which?", ("A cat.", "A dog."), 2, prompt_parts("r1_reward", "Which?"))
    (row,) = read(write(entry(message=chat(own.text()))))
    assert (row.responses, row.prompt_parts) == (own.responses, own.prompt_parts)


@pytest.mark.parametrize("answer", [["<answer>2</answer>"], "<answer> 2 </answer>", "2", ["2"], 2, [2], " 2\n"])
def test_forms_of_the_answer(write, answer):
    assert read(write(entry(answer=answer)))[0].label == 2


def test_the_place_of_the_images_and_their_number(write, tmp_path):
    rows = read(
        write(
            entry(),
            entry(message=chat(BRACKETS, images_first=True)),
            entry(message=chat(BRACKETS, images=2), image=["a.png", "a.png"]),
            entry(image=...),  # the authors' README keeps the path only inside the message
            entry(message=chat(BRACKETS, images=0), image=[]),
            entry(message=json.loads(chat(BRACKETS)), image=str(tmp_path / "a.png")),
        )
    )
    assert [row.images_first for row in rows] == [False, True, False, False, False, False]
    assert [len(row.images) for row in rows] == [1, 1, 2, 1, 0, 1]
    assert {image.path for row in rows for image in row.images} == {str(tmp_path / "a.png")}


def test_image_root_and_limit(write, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "photos" / "b.png")
    path = write(entry(image="b.png"), "", entry(image="b.png"), "not JSON", entry(image="b.png"))
    rows = read(path, image_root=tmp_path / "photos", limit=2)
    assert [row.id for row in rows] == ["1", "3"]  # line numbers, the empty line counted
    assert rows[0].images[0].path == str(tmp_path / "photos" / "b.png")
    with pytest.raises(ValueError, match="limit must be at least 1"):
        read(path, limit=0)


def test_ids_come_out_unique(write):
    rows = read(write(*[entry(id=name) for name in ("x", "x", "x#2", "x", None, 7)]))
    assert [row.id for row in rows] == ["x", "x#3", "x#2", "x#4", "5", "7"]


def test_a_byte_order_mark_and_optional_fields(write):
    path = write("\ufeff" + json.dumps(entry(category="count", level=2)), entry(category=None))
    first, second = read(path)
    assert (first.category, first.level) == ("count", 2) and (second.category, second.level) == ("", 0)


# Bad input


@pytest.mark.parametrize(
    ("bad", "field", "words"),
    [
        ("{not json", "(whole row)", "not JSON"),
        ("[1, 2]", "(whole row)", "a JSON list, not an object"),
        (entry(question=...), "question", "missing, the row has ['answer', 'image', 'message']"),
        (entry(message=...), "message", "missing"),
        (entry(answer=...), "answer", "missing"),
        (entry(question=3), "question", "must be a text, got 3"),
        (entry(message="just text"), "message", "not a JSON chat"),
        (entry(message='{"role": "user"}'), "message", "not a chat"),
        (entry(message='["text"]'), "message", "not a chat"),
        (entry(message="[]"), "message", "must be one user turn"),
        (
            entry(message=json.dumps([{"role": "system", "content": ""}, *json.loads(chat(BRACKETS))])),
            "message",
            "must be one user turn, has turns ['system', 'user']",
        ),
        (entry(message=json.dumps([{"role": "user", "content": BRACKETS}])), "message", "must be a list of parts"),
        (
            entry(message=json.dumps([{"role": "user", "content": [{"type": "video", "video": "v.mp4"}]}])),
            "message",
            "only text and image are read",
        ),
        (
            entry(message=json.dumps([{"role": "user", "content": [{"type": "image", "image": "a.png"}]}])),
            "message",
            "has no text",
        ),
        (
            entry(message=chat(BRACKETS)[:-3] + ', {"type": "text", "text": "more"}]}]'),
            "message",
            "images stand on both sides of the text",
        ),
        (entry(message=chat("Which is better, A or B?")), "message", '"[Response 1]" is missing'),
        (entry(message=chat(BRACKETS.replace("[Response 2]", "[B]"))), "message", '"[Response 2]" is missing'),
        (entry(message=chat(BRACKETS + "\n[Response 1]\nA cow.")), "message", '"[Response 1]" stands 2 times'),
        (entry(message=chat("[Response 2]\nB\n[Response 1]\nA")), "message", "[Response 2] stands before [Response 1]"),
        (entry(answer=["<answer>3</answer>"]), "answer", "must be 1 or 2"),
        (entry(answer=[]), "answer", "must be 1 or 2, got []"),
        (entry(answer=["1", "2"]), "answer", "must be 1 or 2, got ['1', '2']"),
        (entry(answer=True), "answer", "must be 1 or 2, got True"),
        (entry(answer=2.0), "answer", "must be 1 or 2"),
        (entry(answer="Response 2"), "answer", "must be 1 or 2"),
        (entry(answer="12"), "answer", "must be 1 or 2"),
        (entry(image=["a.png", "a.png"]), "image", "2 given, but message shows 1"),
        (entry(image=[]), "image", "0 given, but message shows 1"),
        (entry(message=chat(BRACKETS, images=0), image=...), "image", "missing"),
        (entry(image=5), "image", "must be a path"),
        (entry(image=""), "image", "must be a path"),
        (entry(image="absent.png"), "image", "file is missing"),
        (entry(image="data.jsonl"), "image", "unreadable"),
        (entry(image="."), "image", "is a folder"),
        (entry(image="../a.png"), "image", "'../a.png' lies outside of"),
        (entry(image="/etc/passwd"), "image", "'/etc/passwd' lies outside of"),
        (entry(image="folder/../../a.png"), "image", "lies outside of"),
        (entry(image="https://example.com/a.png"), "image", "an address, 'https://example.com/a.png'"),
        (entry(image="file:///etc/passwd"), "image", "lies outside of"),
        (entry(image="data:image/png;base64," + "A" * 5000), "image", "an address"),
        (entry(image="data:image/png;base64,AAAA"), "image", "AAAA'"),
        (entry(image="https://example.com/a.png"), "image", "a.png'"),
        (entry(image="a\0.png"), "image", "no file can have the name 'a\\x00.png'"),
        (entry(image="a" * 256), "image", "no file can have the name"),
        (entry(image="a/" * 2500), "image", "no file can have the name"),
        (entry(id=[]), "id", "must be a text or a whole number, got []"),
        (entry(id=True), "id", "must be a text or a whole number"),
        (entry(id=" "), "id", "must be a text, got ' '"),
        (entry(category={}), "category", "must be a text or a whole number, got {}"),
        (entry(level="hard"), "level", "must be a whole number of at least 0, got 'hard'"),
        (entry(level=True), "level", "must be a whole number"),
        (entry(level=2**31), "level", "must be a whole number"),
        (entry(question="half \ud83d"), "question", "holds \\ud83d, half of a surrogate pair"),
        (entry(message=chat(BRACKETS + "\ud83d")), "message", "half of a surrogate pair"),
        (entry(message="[" * 100_000), "message", "not a JSON chat"),
        (entry(message='[{"role": "user", "content": [{"type": []}]}]'), "message", "only text and image are read"),
        (entry(message='[{"role": "user", "role": "user"}]'), "role", "stands twice in one object"),
        (json.dumps(entry())[:-1] + ', "answer": "1"}', "answer", "stands twice in one object"),
        (json.dumps(entry())[:-1] + ', "score": NaN}', "(whole row)", "not JSON (NaN is no JSON number)"),
    ],
)
def test_each_bad_row_is_named_with_file_row_field_and_reason(write, bad, field, words):
    message = problem(write(entry(), bad, entry()))
    assert "data.jsonl: 1 row has a problem:" in message
    assert f"data.jsonl, row 2, field {field}: " in message and words in message
    assert "; " in message.split(words)[1]  # a remedy follows the reason


@pytest.mark.parametrize(
    ("address", "remedy"),
    [("data:image/png;base64,AAAA", "save it as a file"), ("https://example.com/a.png", "download the image"),
     ("s3://bucket/a.png", "download the image")],
)  # fmt: skip
def test_the_remedy_fits_the_address(write, address, remedy):
    assert f"{address}'; {remedy} and write the path of its file" in problem(write(entry(image=address)))


def test_a_missing_an_empty_and_a_binary_file(write, tmp_path):
    assert "there is no such file" in problem(tmp_path / "absent.jsonl")
    assert "a folder that holds no rows" in problem(tmp_path)
    assert "the file holds no rows" in problem(write("", "  "))
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(entry()).encode() + b"\n\xff\xfe\n")
    assert "row 2, field (whole row): not UTF-8" in problem(tmp_path / "latin.jsonl")


def test_problems_of_all_kinds_come_in_one_error_in_order_of_rows(write):
    bad = [entry(image="absent.png"), "no json", entry(answer=0)] * 5
    message = problem(write(entry(), *bad))
    lines = message.splitlines()
    assert "15 rows have problems" in lines[0] and len(lines) == 12 and lines[-1].strip() == "... and 5 more"
    assert [line.split(",")[1] for line in lines[1:-1]] == [f" row {number}" for number in range(2, 12)]


def test_links_below_the_root_may_lead_anywhere(write, tmp_path_factory, tmp_path):
    """The user put them there: the cache of the hub is made of links."""
    elsewhere = tmp_path_factory.mktemp("blobs")
    Image.new("RGB", (5, 4)).save(elsewhere / "0a1b.png")
    (tmp_path / "linked.png").symlink_to(elsewhere / "0a1b.png")
    (tmp_path / "folder").symlink_to(elsewhere)
    rows = read(write(entry(image="linked.png"), entry(image="folder/0a1b.png"), entry(image="x/../a.png")))
    names = ("linked.png", "folder/0a1b.png", "a.png")
    assert [row.images[0].path for row in rows] == [str(tmp_path / name) for name in names]
    assert len(read(write(entry(image=str(elsewhere / "0a1b.png"))), image_root=elsewhere)) == 1


def test_limits_of_images(write):
    from r1reward.data.images import ImageLimits

    assert "row 1, field image" in problem(write(entry()), limits=ImageLimits(max_pixels=3))
    assert len(read(write(entry()), limits=ImageLimits(max_pixels=4))) == 1


def test_a_long_value_is_cut_in_the_error(write):
    assert len(problem(write(entry(question=["word"] * 100_000)))) < 600


def test_unread_images_are_only_looked_for(write):
    assert len(read(write(entry(image="data.jsonl")), check_images=False)) == 1
    assert "file is missing" in problem(write(entry(image="absent.png")), check_images=False)
