"""Where rows may lie: the same rows, whatever holds them, and files that hold none are named for what they are."""

import gzip
import json
import logging
import os
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from datasets.features import List

from r1reward.benchmarks.preference_files import preference_file
from r1reward.benchmarks.read import read_benchmark
from r1reward.benchmarks.settings import BenchmarkSettings
from r1reward.benchmarks.tasks import read_rows as read_task_rows
from r1reward.data import r1_reward_jsonl, vlm_r1_jsonl
from r1reward.data.build import build_splits
from r1reward.data.images import open_image
from r1reward.data.jsonl import image_field
from r1reward.data.records import records_of, rows_files
from r1reward.settings import DataSettings
from tests.hub_cache import snapshot_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ROWS = [json.loads(line) for line in (EXAMPLES / "chosen_rejected.jsonl").read_text().splitlines()]


def test_the_examples_of_training_formats():
    pairs = r1_reward_jsonl.read(EXAMPLES / "r1_reward.jsonl")
    assert [row.label for row in pairs] == [1, 2, 1] and pairs[1].responses == ("It is red.", "It is green.")
    chosen = r1_reward_jsonl.read(EXAMPLES / "chosen_rejected.jsonl")
    assert [row.responses[row.label - 1] for row in chosen] == ["It is red.", "It is green.", "It is blue."]
    tasks = vlm_r1_jsonl.read(EXAMPLES / "vlm_r1.jsonl", None)
    assert [(row.task, len(row.images)) for row in tasks] == [("rec", 1), ("ovd", 1), ("yes_no", 2)]
    evaluation = vlm_r1_jsonl.read(EXAMPLES / "vlm_r1_evaluation.json", "rec")
    assert [row.solution for row in evaluation] == ["[8, 10, 40, 42]", "[30, 6, 58, 34]", "[16, 20, 52, 44]"]
    assert all(open_image(row.images[0]).size == (64, 48) for row in [*pairs, *chosen, *tasks, *evaluation])


@pytest.mark.parametrize(
    "name", ["vl_rewardbench.jsonl", "multimodal_rewardbench.json", "mm_rlhf_rewardbench.jsonl", "r1_reward.jsonl"]
)
def test_the_examples_of_benchmarks(name):
    of = name.partition(".")[0]
    root = EXAMPLES / "images" if of == "mm_rlhf_rewardbench" else EXAMPLES
    path = EXAMPLES / name
    read = preference_file(path) if of == "r1_reward" else read_benchmark(of, path, root, check_sizes=False)
    assert [item.row.responses[item.row.label - 1] for item in read.items] == ["It is red.", "It is green.", "It is blue."]
    assert all(open_image(item.row.images[0]).size == (64, 48) for item in read.items)


@pytest.mark.parametrize(
    ("name", "task", "number"),
    [("vlm_r1_evaluation.json", "referring", 3), ("coco.json", "referring", 6), ("coco.json", "detection", 3)],
)
def test_the_examples_with_boxes_are_evaluated(name, task, number):
    root = str(EXAMPLES) if name == "coco.json" else None
    rows = read_task_rows(BenchmarkSettings(task, path=str(EXAMPLES / name), image_root=root))
    assert len(rows) == number


def as_jsonl(folder: Path) -> Path:
    (folder / "rows.jsonl").write_text("\ufeff" + "\n\n".join(map(json.dumps, ROWS)))
    return folder / "rows.jsonl"


def as_list(folder: Path) -> Path:
    (folder / "rows.json").write_text("\n" + json.dumps(ROWS, indent=1) + "\n")
    return folder / "rows.json"


def as_list_in_one_line(folder: Path) -> Path:
    (folder / "rows.jsonl").write_text(json.dumps(ROWS))
    return folder / "rows.jsonl"


def as_gz(folder: Path) -> Path:
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(as_jsonl(folder).read_bytes()))
    return folder / "rows.jsonl.gz"


def as_list_in_gz(folder: Path) -> Path:
    (folder / "rows.json.gz").write_bytes(gzip.compress(as_list(folder).read_bytes()))
    return folder / "rows.json.gz"


def as_parquet(folder: Path) -> Path:
    Dataset.from_list(ROWS).to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def as_shards(folder: Path) -> Path:
    (folder / "data").mkdir()
    for number, rows in enumerate((ROWS[:2], ROWS[2:])):
        Dataset.from_list(rows).to_parquet(folder / "data" / f"train-0000{number}-of-00002.parquet")
    Dataset.from_list(ROWS).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    os.symlink(EXAMPLES / "images", folder / "data" / "images")
    return folder


def as_dataset(folder: Path) -> Path:
    Dataset.from_list(ROWS).save_to_disk(folder / "saved")
    os.symlink(EXAMPLES / "images", folder / "saved" / "images")
    return folder / "saved"


def as_splits(folder: Path) -> Path:
    DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}).save_to_disk(folder / "saved")
    os.symlink(EXAMPLES / "images", folder / "saved" / "train" / "images")
    os.symlink(EXAMPLES / "images", folder / "saved" / "images")
    return folder / "saved"


def with_images_inside(folder: Path) -> Path:
    rows = [row | {"image": {"bytes": (EXAMPLES / row["image"]).read_bytes(), "path": None}} for row in ROWS]
    texts = {key: Value("string") for key in ("question", "chosen", "rejected")}
    Dataset.from_list(rows, Features(texts | {"image": Image()})).save_to_disk(folder / "saved")
    return folder / "saved"


def with_lists_of_images_inside(folder: Path) -> Path:
    rows = [row | {"images": [{"bytes": (EXAMPLES / row["image"]).read_bytes(), "path": "x.png"}]} for row in ROWS]
    rows = [{key: value for key, value in row.items() if key != "image"} for row in rows]
    texts = {key: Value("string") for key in ("question", "chosen", "rejected")}
    Dataset.from_list(rows, Features(texts | {"images": List(Image())})).to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


FORMS = [
    as_jsonl, as_list, as_list_in_one_line, as_gz, as_list_in_gz, as_parquet, as_shards, as_dataset, as_splits,
    with_images_inside, with_lists_of_images_inside,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_same_rows_whatever_holds_them(form, tmp_path):
    os.symlink(EXAMPLES / "images", tmp_path / "images")
    expected = sorted(r1_reward_jsonl.read(EXAMPLES / "chosen_rejected.jsonl"), key=lambda row: row.responses)
    splits = build_splits(DataSettings("r1_reward_jsonl", path=str(form(tmp_path)), held_out_fraction=0.4))
    found = sorted([*splits.train, *splits.evaluation["held_out"]], key=lambda row: row.responses)
    assert [(row.question, row.responses, row.label) for row in found] == [
        (row.question, row.responses, row.label) for row in expected
    ]
    pictures = [[open_image(row.images[0]).tobytes() for row in rows] for rows in (found, expected)]
    assert pictures[0] == pictures[1]


def test_a_hub_id_is_taken_from_the_cache(tmp_path, monkeypatch):
    snapshot = snapshot_of("somebody/pairs", tmp_path, monkeypatch)
    os.symlink(EXAMPLES / "images", snapshot / "images")
    as_jsonl(snapshot)
    assert len(r1_reward_jsonl.read("somebody/pairs")) == 3
    with pytest.raises(ValueError, match="somebody/nothing: there is no such file here, and the hub"):
        r1_reward_jsonl.read("somebody/nothing")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        ("rows.json", b"<!doctype html><html><body>401</body></html>", "HTML"),
        ("rows.jsonl", b"\n  <HTML lang='en'>", "HTML"),
        ("rows.jsonl", b"PK\x03\x04" + b"\0" * 50, "zip archive"),
        ("rows.pkl", b"\x80\x04\x95" + b"\0" * 50, "pickle"),
        ("rows.csv", b"question,chosen,rejected\n", "CSV"),
        ("rows.parquet", b"PAR1" + b"\0" * 50, "not a valid Parquet file"),
        ("rows.gz", b"\x1f\x8b" + b"\0" * 50, "cannot be unpacked"),
        ("rows.gz", gzip.compress(b'{"a": 1}' * 999, mtime=0)[:40], "cannot be unpacked"),
        ("rows.json", b'{\n "data": [\n  {"a": 1}]\n}', "one JSON object with the keys ['data']"),
        (
            "rows.json",
            json.dumps({"images": [], "annotations": [], "categories": []}, indent=1).encode(),
            "benchmark=detection",
        ),
    ],
)
def test_a_file_that_holds_no_rows_is_named_for_what_it_is(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    for read in (r1_reward_jsonl.read, lambda path: vlm_r1_jsonl.read(path, None)):
        with pytest.raises(ValueError) as caught:
            read(tmp_path / name)
        assert said in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_a_folder_with_several_files_of_rows_or_none(tmp_path):
    with pytest.raises(ValueError, match="a folder that holds no rows"):
        rows_files(tmp_path)
    (tmp_path / "a.jsonl").write_text("{}")
    assert rows_files(tmp_path) == [tmp_path / "a.jsonl"]
    (tmp_path / "b.jsonl").write_text("{}")
    with pytest.raises(ValueError, match="several files of rows .a.jsonl, b.jsonl."):
        rows_files(tmp_path)


def test_items_of_a_list_are_wrong_by_themselves(tmp_path):
    (tmp_path / "rows.json").write_text('[{"a": 1}, {"a": NaN}, {"a": 1, "a": 2}, 3, {"b": [1, "],"]}]')
    records = dict(records_of(tmp_path / "rows.json"))
    assert records[1] == {"a": 1} and records[5] == {"b": [1, "],"]} and len(records) == 5
    for row, words in ((2, "NaN"), (3, "stands twice"), (4, "a JSON int")):
        assert words in str(records[row])
    assert dict(records_of(tmp_path / "rows.json", strict=False))[3] == {"a": 2}


@pytest.mark.parametrize(
    ("text", "row"),
    [("[{}, ]", 1), ("[{}", 1), ("[{}] {}", 1), ("[{} {}]", 1), ("[", 0), ("[{},{},{}", 3), ("[] {}", 0),
     (json.dumps(ROWS, indent=1)[:-2], 3), (json.dumps(ROWS, indent=1)[:-9], 2), (json.dumps(ROWS)[:-9], 2)],
)  # fmt: skip
def test_a_list_that_is_cut_off_is_one_problem(text, row, tmp_path):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(ValueError, match=f"rows.json: a JSON list that is cut off or damaged after row {row}; "):
        list(records_of(tmp_path / "rows.json"))


def test_a_list_that_is_not_utf8(tmp_path):
    (tmp_path / "rows.json").write_bytes(json.dumps(ROWS, indent=1).encode() + b"\xff")
    with pytest.raises(ValueError, match="rows.json: not UTF-8"):
        list(records_of(tmp_path / "rows.json"))


def test_rows_that_are_lists_are_wrong_by_themselves(tmp_path):
    (tmp_path / "rows.jsonl").write_text('[1, 2]\n{"a": 1}\n[3]\n')
    records = dict(records_of(tmp_path / "rows.jsonl"))
    assert records[2] == {"a": 1} and all("a JSON list, not an object" in str(records[row]) for row in (1, 3))


KEYS = ("images", "image_path", "image_paths", "img", "image_file", "picture", "photo")


@pytest.mark.parametrize("key", KEYS)
def test_images_under_other_keys(key, tmp_path):
    for reader, name in ((r1_reward_jsonl.read, "chosen_rejected"), (lambda path: vlm_r1_jsonl.read(path, None), "vlm_r1")):
        rows = [json.loads(line) for line in (EXAMPLES / f"{name}.jsonl").read_text().splitlines()]
        moved = [{key if old == "image" else old: value for old, value in row.items()} for row in rows]
        os.path.lexists(tmp_path / "images") or os.symlink(EXAMPLES / "images", tmp_path / "images")
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, moved)))
        found, expected = reader(tmp_path / "rows.jsonl"), reader(EXAMPLES / f"{name}.jsonl")
        assert [len(row.images) for row in found] == [len(row.images) for row in expected]


ENCODED = {"bytes": b"picture", "path": "images/3.png"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"image": "1.png", "image_path": "2.png"}, ("image", ["1.png"])),
        ({"image_path": "2.png", "image": "1.png"}, ("image", ["1.png"])),
        ({"image": "1.png", "images": ["1.png", "2.png"]}, ("image", ["1.png"])),
        ({"image": "1.png", "image_url": "https://example.com/2.png"}, ("image", ["1.png"])),
        ({"image": "https://example.com/1.png", "image_path": "2.png"}, ("image_path", ["2.png"])),
        ({"image": "https://example.com/1.png", "img": "file:///2.png"}, ("img", ["file:///2.png"])),
        ({"image_url": "https://example.com/1.png"}, ("image_url", ["https://example.com/1.png"])),
        ({"image": ["1.png", "data:image/png;base64,AAAA"], "images": ["1.png", "2.png"]}, ("images", ["1.png", "2.png"])),
        ({"image": "1.png", "images": [ENCODED, ENCODED]}, ("images", [ENCODED, ENCODED])),
        ({"image": ENCODED, "image_path": "2.png"}, ("image", [ENCODED])),
        ({"image": {"bytes": None, "path": "1.png"}, "photo": ENCODED}, ("photo", [ENCODED])),
        ({"image": {"bytes": None, "path": None}, "image_path": "2.png"}, ("image_path", ["2.png"])),
        ({"image": "", "img": "2.png"}, ("img", ["2.png"])),
        ({"image": 3, "img": "2.png"}, ("img", ["2.png"])),
        ({"image": [], "images": ["2.png"]}, ("images", ["2.png"])),
        ({"image": None, "images": []}, ("images", [])),
        ({"picture": 3}, ("picture", [3])),
        ({}, ("image", None)),
    ],
)
def test_of_several_keys_the_nearest_images_count(row, expected):
    assert image_field(row) == expected


def test_rows_with_an_image_and_its_former_path(tmp_path, caplog):
    """The columns of RLAIF-V, in shards as it has them; its paths lead nowhere."""
    for shard in range(2):
        rows = [
            {
                "ds_name": "RLAIF-V",
                "image": {"bytes": (EXAMPLES / row["image"]).read_bytes(), "path": None},
                **{key: row[key] for key in ("question", "chosen", "rejected")},
                "origin_dataset": "LLaVA",
                "origin_split": "{}",
                "idx": index,
                "image_path": f"llava1.5/{index}.jpg",
            }
            for index, row in enumerate(ROWS)
        ]
        texts = {key: Value("int64" if key == "idx" else "string") for key in rows[0] if key != "image"}
        Dataset.from_list(rows, Features(texts | {"image": Image()})).to_parquet(
            tmp_path / f"RLAIF-V-Dataset_00{shard}.parquet"
        )
    found = r1_reward_jsonl.read(tmp_path)
    assert [row.responses[row.label - 1] for row in found] == ["It is red.", "It is green.", "It is blue."] * 2
    assert all(open_image(row.images[0]).size == (64, 48) for row in found)
    assert "'image_path' (6 rows)" in caplog.text and "'image' (" not in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002", "train-00001-of-00002"],
        ["data/train-00000-of-00002", "data/train-00001-of-00002"],
        ["train-00000-of-00002-0a1b2c3d4e5f6071", "train-00001-of-00002-f0e1d2c3b4a59687"],
        ["RLAIF-V-Dataset_000", "RLAIF-V-Dataset_001", "RLAIF-V-Dataset_010"],
        ["default/train/0000", "default/train/0001"],
        ["part-00000", "part-00001"],
    ],
)
def test_shards_are_one_file(names, tmp_path):
    for name in [*names, *(["default/test/0000"] if names[0].startswith("default") else [])]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.parquet").write_bytes(b"")
    assert rows_files(tmp_path) == [tmp_path / f"{name}.parquet" for name in names]


@pytest.mark.parametrize(
    "names",
    [
        ["en/train-00000-of-00001", "zh/train-00000-of-00001"],
        ["en/train/0000", "zh/train/0000"],
        ["default/validation/0000", "default/test/0000"],
        ["test-00000-of-00001", "validation-00000-of-00001"],
        ["train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"],
        ["train_prefs-00000-of-00001", "train_sft-00000-of-00001"],
        ["pairs-2023", "pairs-2024"],
        ["fold_1", "fold_2"],
        ["model-7b", "model-3b"],
    ],
)
def test_tables_that_are_no_shards_of_one_are_not_mixed(names, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="a folder with several files of rows .*; name one of them"):
        rows_files(tmp_path)


def test_keys_that_are_not_read_are_listed_once(tmp_path, caplog):
    os.symlink(EXAMPLES / "images", tmp_path / "images")
    for read in (r1_reward_jsonl.read, lambda path: vlm_r1_jsonl.read(path, "rec")):
        read(EXAMPLES / ("r1_reward.jsonl" if read is r1_reward_jsonl.read else "vlm_r1.jsonl"))
    assert not caplog.records
    rows = [row | {"pics": "images/1.png", "score": None, "id": 1, "level": 2, "category": "a"} for row in ROWS]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with caplog.at_level(logging.WARNING):
        r1_reward_jsonl.read(tmp_path / "rows.jsonl")
    assert len(caplog.records) == 1 and "keys that are not read: 'pics' (3 rows); images" in caplog.text


@pytest.mark.parametrize("address", ["file://{}/images/1.png", "file:{}/images/1.png", "file://localhost{}/images/1.png",
                                     "file://{}/images/with%20space.png"])  # fmt: skip
def test_addresses_of_files_below_the_root(address, tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("1.png", "with space.png"):
        (tmp_path / "images" / name).write_bytes((EXAMPLES / "images" / "1.png").read_bytes())
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[0] | {"image": address.format(tmp_path)}))
    (row,) = r1_reward_jsonl.read(tmp_path / "rows.jsonl")
    assert open_image(row.images[0]).size == (64, 48)


def test_the_better_response_stands_first_in_half_of_the_rows(tmp_path):
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Question {n}?"}],
            "chosen": [{"role": "assistant", "content": f"yes {n}"}],
            "rejected": f"no {n}",
        }
        for n in range(400)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = r1_reward_jsonl.read(tmp_path / "rows.jsonl")
    assert 160 < sum(row.label == 1 for row in found) < 240  # 200 on average, 4 standard deviations of 10
    assert all(row.responses[row.label - 1].startswith("yes") and row.question.startswith("Question") for row in found)
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows[::-1]))
    assert {row.question: row.label for row in r1_reward_jsonl.read(tmp_path / "rows.jsonl")} == {
        row.question: row.label for row in found
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [({"rejected": ROWS[0]["chosen"]}, "rejected"), ({"chosen": 3}, "chosen"), ({"question": ""}, "question"),
     ({"prompt": "another"}, "question"), ({"question": None}, "question"), ({"rejected": None}, "rejected")],
)  # fmt: skip
def test_wrong_pairs_are_named(change, field, tmp_path):
    os.symlink(EXAMPLES / "images", tmp_path / "images")
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in (ROWS[1], ROWS[0] | change)))
    with pytest.raises(ValueError, match=f"rows.jsonl, row 2, field {field}: .*; "):
        r1_reward_jsonl.read(tmp_path / "rows.jsonl")


def test_a_response_that_is_not_there_is_missing(tmp_path):
    row = {key: value for key, value in ROWS[0].items() if key != "rejected"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match="rows.jsonl, row 1, field rejected: missing"):
        r1_reward_jsonl.read(tmp_path / "rows.jsonl", check_images=False)


def test_the_given_files(shared_cases, shared_data):
    root = str(shared_data / "coco128")
    images = vlm_r1_jsonl.read(shared_cases / "case03_images_key.jsonl", "rec", root)
    assert images and all(len(row.images) == 1 for row in images)
    rows = read_task_rows(BenchmarkSettings("referring", path=str(shared_cases / "refcoco_val.json"), image_root=root))
    assert [(row.prompt, row.solution) for row in rows[:2]] == [("thing 0", "[1, 2, 30, 40]"), ("thing 1", "[1, 2, 30, 40]")]
