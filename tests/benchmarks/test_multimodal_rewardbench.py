"""Multimodal RewardBench: categories split by id, its JSON and parquet layouts, other people's outputs."""

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1reward.benchmarks.items import MissingFiles
from r1reward.benchmarks.multimodal_rewardbench import EDITIONS, official_category, read_outputs
from r1reward.benchmarks.read import read_benchmark
from r1reward.data.records import Problem

# (published category, form of the id, number of pairs); only the first name is certain to be the published one.
PARTS = [
    ("open_generation/correctness_task", "nocaps_{}", 402),
    ("open_generation/correctness_task", "visitbench_{}", 221),
    ("open_generation/preference_task", "nocaps_{}", 389),
    ("open_generation/preference_task", "visitbench_{}", 265),
    ("knowledge", "mmmu-s_{}", 330),
    ("knowledge", "mmmu-v_{}", 300),
    ("reasoning", "mathvista_{}", 514),
    ("reasoning", "EMMA-Coding_{}", 84),
    ("reasoning", "image2struct_{}", 500),
    ("safety", "pairs_{}", 508),
    ("vqa", "MMBench_{}", 1198),
]
MEMES = ("safety", "hateful_memes_{}", 500)


def row(id="nocaps_1", category="open_generation/correctness_task", **changes):
    image = f"images/{id}.jpg"
    values = {"ID": id, "Text": "Describe.", "Image": image, "Output1": "one", "Output2": "two", "Better": "Output2"}
    return values | {"Category": category} | changes


def rows_of(parts):
    return [row(form.format(number), category) for category, form, count in parts for number in range(count)]


def write(folder, rows, images=True):
    """data/all_data.json and data/images as the benchmark's script leaves them; the repository's folder."""
    data = folder / "data"
    (data / "images").mkdir(parents=True, exist_ok=True)
    (data / "all_data.json").write_text(json.dumps(rows, indent=2))
    for entry in rows if images else []:
        (data / entry["Image"]).write_bytes(b"pixels")
    return folder


def read(path, **options):
    return read_benchmark("multimodal_rewardbench", path, **({"check_sizes": False} | options))


def test_published_sizes():
    assert [sum(sizes.values()) for sizes in EDITIONS.values()] == [4711, 5211]


@pytest.mark.parametrize(("parts", "total"), [(PARTS, 4711), ([*PARTS, MEMES], 5211)])
def test_either_size_is_complete_and_named(tmp_path, parts, total):
    benchmark = read(write(tmp_path, rows_of(parts)), check_sizes=True)
    assert len(benchmark.items) == total and benchmark.is_complete
    assert benchmark.edition.startswith(f"{total:,} pairs")
    # Captions of the same image ask for correctness and for preference, under one id.
    assert len({item.row.id for item in benchmark.items}) == total
    assert benchmark.notes["duplicate_ids"] == 389 + 221
    assert Counter(item.row.category for item in benchmark.items) == benchmark.sizes
    assert all(item.released_category == item.row.category for item in benchmark.items)


@pytest.mark.parametrize(
    ("category", "id", "expected"),
    [
        ("open_generation/correctness_task", "nocaps_13062", "correctness"),
        ("open_generation/preference_task", "nocaps_13062", "preference"),
        ("Knowledge", "mathvista_1", "knowledge"),
        ("VQA", "pairs_1", "vqa"),
        ("reasoning", "MathVista_1", "reasoning/math"),
        ("reasoning", "image2struct_math", "reasoning/coding"),
        ("safety", "PAIRS_1", "safety/bias"),
        ("safety", "hateful_pairs_1", "safety/toxicity"),
    ],
)
def test_official_category(category, id, expected):
    assert official_category(category, id) == expected


@pytest.mark.parametrize("category", ["style", "knowledge and reasoning"])
def test_unknown_category_is_a_problem(category):
    with pytest.raises(Problem, match="unknown category"):
        official_category(category, "x")


def test_rows_keep_their_order_and_their_better_response(tmp_path):
    rows = [row("nocaps_1"), row("nocaps_2", Better="Output1"), row("nocaps_3", Meta={"Category": "vqa"})]
    items = read(write(tmp_path, rows)).items
    assert [item.row.label for item in items] == [2, 1, 2]
    assert {item.row.responses for item in items} == {("one", "two")}
    assert [item.row.category for item in items] == ["correctness", "correctness", "vqa"]
    assert items[0].row.images[0].path == str(tmp_path / "data" / "images" / "nocaps_1.jpg")
    assert [item.group for item in items] == ["nocaps_1", "nocaps_2", "nocaps_3"]


def test_file_and_folder_mean_the_same(tmp_path):
    write(tmp_path, [row()])
    assert read(tmp_path) == read(tmp_path / "data") == read(tmp_path / "data" / "all_data.json")


def test_parquet_copy_of_the_hub(tmp_path):
    image = {"bytes": b"pixels", "path": "images/nocaps/1.jpg"}
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist([row(Image=image)]), tmp_path / "data" / "test-00000-of-00001.parquet")
    (item,) = read(tmp_path).items
    assert item.row.images[0].data == b"pixels" and item.row.label == 2


def test_before_the_script_has_run(tmp_path):
    """The repository alone holds all_data_release.json, without the third parties' questions."""
    (tmp_path / "data").mkdir()
    release = tmp_path / "data" / "all_data_release.json"
    release.write_text(json.dumps([{key: value for key, value in row().items() if key != "Text"}]))
    with pytest.raises(MissingFiles, match="0_download_data.py") as caught:
        read(tmp_path)
    assert str(tmp_path / "data" / "all_data.json") in caught.value.missing
    with pytest.raises(ValueError, match="row 1, field Text: is missing.*0_download_data.py"):
        read(release)


def test_missing_memes_are_explained(tmp_path):
    rows = [row("hateful_memes_1", "safety"), row()]
    with pytest.raises(MissingFiles, match="Hateful Memes") as caught:
        read(write(tmp_path, rows, images=False))
    assert len(caught.value.missing) == 2 and "git clone" in str(caught.value)
    with pytest.raises(MissingFiles) as caught:
        read(write(tmp_path, [row()], images=False))
    assert "Hateful" not in str(caught.value)


def test_bad_labels(tmp_path):
    benchmark = read(write(tmp_path, [row("vqa_1", "vqa", Better="Tie"), row()]))
    assert len(benchmark.items) == 1 and benchmark.notes["ties_left_out"] == 1
    with pytest.raises(ValueError, match="row 1, field Better: must be Output1 or Output2, got 'Output3'"):
        read(write(tmp_path, [row(Better="Output3")]))


def write_outputs(path, outputs):
    path.write_text("".join(json.dumps(output) + "\n" for output in outputs))
    return path


def test_outputs_become_choices(tmp_path):
    texts = {"a": "so [[A]]", "b": "so [[B]]", "both": "[[B]] or rather [[A]]", "none": "A is better", "empty": ""}
    path = write_outputs(tmp_path / "out.jsonl", [{"ID": id, "Label": "A", "output": text} for id, text in texts.items()])
    assert read_outputs(path) == {"a": 1, "b": 2, "both": 1, "none": None, "empty": None}


def test_outputs_of_a_repeated_id_match_the_items(tmp_path):
    rows = [row("nocaps_1"), row("nocaps_1", "open_generation/preference_task", Better="Output1")]
    items = read(write(tmp_path, rows)).items
    path = write_outputs(tmp_path / "out.jsonl", [{"ID": "nocaps_1", "output": f"[[{letter}]]"} for letter in "BA"])
    assert [read_outputs(path)[item.row.id] for item in items] == [2, 1] == [item.row.label for item in items]


def test_outputs_that_cannot_be_read(tmp_path):
    path = write_outputs(tmp_path / "out.jsonl", [{"ID": "a"}, {"ID": "b", "outputs": ["[[A]]", "[[B]]"]}, {"output": "x"}])
    with pytest.raises(ValueError) as caught:
        read_outputs(path)
    lines = str(caught.value).splitlines()
    assert "3 rows have problems" in lines[0]
    assert "row 1, field output: is missing" in lines[1]
    assert "row 2, field outputs: holds several samples" in lines[2]
    assert "row 3, field ID: is missing" in lines[3]


def test_real_outputs(shared_data):
    path = shared_data / "multimodal_rewardbench_example_outputs.jsonl"
    assert read_outputs(path) == {"nocaps_13062": 2, "visitbench_235": 1}


def test_real_outputs_are_not_rows(shared_data):
    with pytest.raises(ValueError, match="row 1, field Text: is missing"):
        read(shared_data / "multimodal_rewardbench_example_outputs.jsonl")
