"""What all readers share: where rows are found, rules for bad input, sizes, missing files."""

import json
import time

import pytest

from r1reward.benchmarks.items import Benchmark, Item, MissingFiles
from r1reward.benchmarks.read import read_benchmark
from r1reward.data.jsonl import unique_ids
from r1reward.data.prompts import prompt_parts
from r1reward.data.rows import ImageSource, PreferenceRow
from tests.hub_cache import snapshot_of


def vl_row(id="mmmu_1", image="a.png", **changes):
    return {"id": id, "prompt": "Which?", "chosen": "good", "rejected": "bad", "image": image} | changes


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.png").write_bytes(b"pixels")
    return tmp_path


def read(path, **options):
    return read_benchmark("vl_rewardbench", path, **({"check_sizes": False} | options))


def test_item_of_a_row(folder):
    """R1-Reward's rows show the better response first: label 1; images first; the named prompt; the published id as group."""
    (item,) = read(write_jsonl(folder / "rows.jsonl", [vl_row()]), prompt="short").items
    assert item == Item(
        PreferenceRow(
            id="mmmu_1",
            images=(ImageSource(path=str(folder / "a.png")),),
            question="Which?",
            responses=("good", "bad"),
            label=1,
            prompt_parts=prompt_parts("short", "Which?"),
            images_first=True,
            category="reasoning",
        ),
        group="mmmu_1",
        released_category="reasoning",
    )


def test_default_prompt_is_the_judge_prompt(folder):
    (item,) = read(write_jsonl(folder / "rows.jsonl", [vl_row()])).items
    assert item.row.prompt_parts == prompt_parts("r1_reward", "Which?")


def test_repeated_ids_are_kept_and_counted(folder):
    benchmark = read(write_jsonl(folder / "rows.jsonl", [vl_row(), vl_row(rejected="worse"), vl_row("mmmu_2"), vl_row()]))
    assert [item.row.id for item in benchmark.items] == ["mmmu_1", "mmmu_1#2", "mmmu_2", "mmmu_1#3"]
    assert [item.group for item in benchmark.items] == ["mmmu_1", "mmmu_1", "mmmu_2", "mmmu_1"]
    assert [item.row.responses[1] for item in benchmark.items] == ["bad", "worse", "bad", "bad"]
    assert benchmark.notes == {"rows": 4, "duplicate_ids": 2, "ties_left_out": 0, "missing_images_skipped": 0}


def test_unique_ids_never_take_a_published_name():
    assert unique_ids(["a", "a", "a#2", "a", "b"]) == ["a", "a#3", "a#2", "a#4", "b"]
    assert unique_ids(["a#2", "a", "a#2", "a"]) == ["a#2", "a", "a#2#2", "a#3"]


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a", "a#2"]])
def test_fifty_thousand_rows_of_few_ids_take_no_time(names):
    began = time.process_time()
    unique = unique_ids(names * (50_000 // len(names)))
    assert len(set(unique)) == len(unique) == 50_000 and unique[: len(names)] == names
    assert time.process_time() - began < 2


def test_missing_images_stop_with_every_path(folder):
    """12 rows on 11 missing images and one row on a present one: all 11 paths in order, ten of them in the message."""
    rows = [vl_row(f"mmmu_{n}", f"img/{n}.png") for n in range(11)] + [vl_row("mmmu_a", "img/0.png"), vl_row("mmmu_b")]
    with pytest.raises(MissingFiles) as caught:
        read(write_jsonl(folder / "rows.jsonl", rows))
    assert caught.value.missing == [str(folder / "img" / f"{n}.png") for n in range(11)]
    text = str(caught.value)
    assert "11 files are missing, of 12 of 13 items" in text
    assert "img/9.png" in text and "img/10.png" not in text and "... and 1 more" in text
    assert "hf download MMInstruction/VL-RewardBench" in text and "image_root" in text


def test_missing_images_can_be_skipped_and_are_counted(folder):
    rows = [vl_row(), vl_row("mmmu_2", "gone.png"), vl_row("mmmu_3"), vl_row("mmmu_2")]
    benchmark = read(write_jsonl(folder / "rows.jsonl", rows), missing="skip")
    # The last row keeps the name that it has in the whole benchmark, so that two runs name the same pair alike.
    assert [item.row.id for item in benchmark.items] == ["mmmu_1", "mmmu_3", "mmmu_2#2"]
    assert benchmark.notes["missing_images_skipped"] == 1


def test_nothing_left_is_an_error_even_when_skipping(folder):
    with pytest.raises(MissingFiles, match="gone.png"):
        read(write_jsonl(folder / "rows.jsonl", [vl_row(image="gone.png")]), missing="skip")


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"])
def test_an_empty_file_and_a_git_lfs_pointer_count_as_missing(folder, content):
    (folder / "pointer.png").write_bytes(content)
    with pytest.raises(MissingFiles, match="pointer.png"):
        read(write_jsonl(folder / "rows.jsonl", [vl_row(image="pointer.png")]))


def test_rows_file_that_is_a_git_lfs_pointer(folder):
    path = folder / "rows.jsonl"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(MissingFiles, match="git lfs pull"):
        read(path)


def test_image_root_moves_the_images_but_not_the_rows(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("rows")
    path = write_jsonl(elsewhere / "rows.jsonl", [vl_row()])
    assert read(path, image_root=folder).items[0].row.images == (ImageSource(path=str(folder / "a.png")),)
    with pytest.raises(MissingFiles):
        read(path)


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/passwd", "x/../../a.png", "https://example.com/a.png", "a\0.png", "a" * 300]
)
def test_a_path_outside_of_the_image_root_is_a_problem(folder, name):
    path = write_jsonl(folder / "rows.jsonl", [vl_row(), vl_row(image=name)])
    with pytest.raises(ValueError, match="rows.jsonl, row 2, field image: (.*benchmark.image_root|an address|no file can)"):
        read(path)
    assert len(read(write_jsonl(folder / "rows.jsonl", [vl_row(image=str(folder / "a.png"))])).items) == 1


def test_problems_of_all_rows_in_one_error(folder):
    bad = [vl_row(id=7), vl_row(chosen=None), {"id": "mmmu_1", "image": "a.png"}, ["not", "a", "row"], vl_row(image=3)]
    path = write_jsonl(folder / "rows.jsonl", [vl_row(), *bad])
    path.write_text(path.read_text() + "\n{half a row\n")
    with pytest.raises(ValueError) as caught:
        read(path)
    lines = str(caught.value).splitlines()
    assert "6 rows have problems" in lines[0]
    assert "rows.jsonl, row 2, field id: must be a text, got 7" in lines[1]
    assert "row 3, field chosen: must be a text, got None" in lines[2]
    assert "row 4, field prompt: is missing" in lines[3]
    assert "row 5, field (whole row): a JSON list" in lines[4]
    assert "row 6, field image" in lines[5]
    assert "row 8, field (whole row): not JSON" in lines[6]


def test_more_than_ten_problems_are_counted(folder):
    with pytest.raises(ValueError, match=r"(?s)12 rows have problems.*row 10, .*\.\.\. and 2 more"):
        read(write_jsonl(folder / "rows.jsonl", [vl_row(prompt=1)] * 12))


def test_empty_responses_are_responses(folder):
    (item,) = read(write_jsonl(folder / "rows.jsonl", [vl_row(rejected="")])).items
    assert item.row.responses == ("good", "")


def test_sizes_are_asserted_unless_waived(folder):
    path = write_jsonl(folder / "rows.jsonl", [vl_row()])
    with pytest.raises(ValueError) as caught:
        read_benchmark("vl_rewardbench", path)
    assert "reasoning: 1 items, officially 31" in str(caught.value) and "check_sizes=False" in str(caught.value)
    benchmark = read(path)
    assert not benchmark.is_complete and len(benchmark.size_problems()) == 3


def test_size_problems_name_each_category_once():
    row = PreferenceRow("1", (), "q", ("a", "b"), 1, ("", "", ""), category="cats")
    items = [Item(row, "1", "cats")]
    assert Benchmark("pets", items, {"cats": 1}, {}).is_complete
    assert Benchmark("pets", items, {"cats": 2, "dogs": 1}, {}).size_problems() == [
        "cats: 1 items, officially 2",
        "dogs: 0 items, officially 1",
    ]
    assert Benchmark("pets", items, {}, {}).size_problems() == ["cats: 1 items, officially 0"]


def test_a_json_list_and_a_byte_order_mark_are_read(folder):
    path = folder / "rows.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([vl_row(), vl_row("mmmu_2")], indent=1).encode())
    assert len(read(path).items) == 2
    path.write_text("[{")
    with pytest.raises(ValueError, match="JSON list that is cut off or damaged after row 0"):
        read(path)


def test_no_rows_and_no_files(folder):
    (folder / "rows.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no rows of vl_rewardbench"):
        read(folder / "rows.jsonl")
    empty = folder / "empty"
    (empty / ".cache").mkdir(parents=True)
    (empty / ".cache" / "test.parquet").write_text("the downloader's, not ours")
    with pytest.raises(MissingFiles) as caught:
        read(empty)
    assert str(empty / "data.jsonl") in caught.value.missing and "hf download" in str(caught.value)
    with pytest.raises(MissingFiles, match=r"nowhere\.jsonl"):
        read(folder / "nowhere.jsonl")


def test_hub_id_is_taken_from_the_cache(folder, monkeypatch):
    snapshot = snapshot_of("somebody/pairs", folder, monkeypatch)
    (snapshot / "a.png").write_bytes(b"pixels")
    write_jsonl(snapshot / "data.jsonl", [vl_row()])
    assert read("somebody/pairs").items[0].row.images[0].path == str(snapshot / "a.png")
    with pytest.raises(MissingFiles, match="somebody/nothing") as caught:
        read("somebody/nothing")
    assert "hf download" in str(caught.value)


def test_wrong_options_are_named(folder):
    path = write_jsonl(folder / "rows.jsonl", [vl_row()])
    with pytest.raises(ValueError, match="unknown benchmark 'rewardbench'.*vl_rewardbench"):
        read_benchmark("rewardbench", path)
    with pytest.raises(ValueError, match="missing must be stop or skip, got 'ignore'"):
        read(path, missing="ignore")
    with pytest.raises(ValueError, match="num_frames must be at least 1"):
        read(path, num_frames=0)
    with pytest.raises(ValueError, match="unknown prompt"):
        read(path, prompt="none")
