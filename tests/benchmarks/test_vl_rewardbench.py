"""VL-RewardBench: official and released categories, both layouts, ties."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1reward.benchmarks.items import MissingFiles
from r1reward.benchmarks.read import read_benchmark
from r1reward.benchmarks.vl_rewardbench import EDITIONS, official_category, released_category

# How many of the 1,250 pairs each source has.
COUNTS = {
    "hallucination_pair-{}": 448,
    "RLAIF-V-{}": 233,
    "wildvision-battle-{}": 173,
    "mathverse_{}": 167,
    "mmmu_pro_test_Finance_{}": 100,
    "mmmu_pro_validation_Physics_{}": 51,
    "RLHF-V-{}": 68,
    "jailbreak-typo-Illegal_Activitiy-{}": 7,
    "LRVInstruction-{}": 1,
    "politics-{}": 1,
    "svit-{}": 1,
}
IDS = [form.format(number) for form, count in COUNTS.items() for number in range(count)]


def parquet_row(id="mathverse_1", ranking=(0, 1), **changes):
    """A row as the hub's parquet files hold it; images are structs of bytes and a path."""
    return {
        "id": id,
        "query": "<image>\nWhich?",
        "response": ["first", "second"],
        "image": {"bytes": b"pixels of " + id.encode(), "path": None},
        "human_ranking": list(ranking),
        "query_source": "reasoning_tasks",
    } | changes


def write_parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read(path, **options):
    return read_benchmark("vl_rewardbench", path, check_sizes=False, **options)


def test_official_sizes():
    assert len(IDS) == 1250
    assert Counter(official_category(id)[0] for id in IDS) == {"general": 183, "hallucination": 749, "reasoning": 318}
    assert all(known for _, known in map(official_category, IDS))
    assert [sum(sizes.values()) for sizes in EDITIONS.values()] == [1250, 1247]


def test_released_buckets_put_301_hallucination_pairs_into_general():
    assert Counter(map(released_category, IDS)) == {"general": 484, "hallucination": 448, "reasoning": 318}
    moved = [id for id in IDS if released_category(id) != official_category(id)[0]]
    assert len(moved) == 301 and {id[:6] for id in moved} == {"RLAIF-", "RLHF-V"}


def test_released_scorer_looks_anywhere_in_the_id():
    assert released_category("x-rlaif-v-1") == "hallucination"
    assert released_category("x-mmmu-1") == "reasoning"
    assert official_category("x-mmmu-1") == ("general", False)


@pytest.mark.parametrize(
    ("id", "source", "expected"),
    [
        ("new-1", "povid", ("hallucination", True)),
        ("new-1", "RLAIF-V", ("hallucination", True)),
        ("new-1", "reasoning_tasks", ("reasoning", True)),
        ("new-1", "wildvision-battle", ("general", True)),
        ("new-1", "elsewhere", ("general", False)),
        ("new-1", None, ("general", False)),
        ("RLHF-V-1", "vlfeedback", ("hallucination", True)),  # the id decides, as in the official scorer
    ],
)
def test_query_source_decides_where_the_id_does_not(id, source, expected):
    assert official_category(id, source) == expected


def test_repeated_ids_of_the_whole_benchmark(tmp_path):
    """1,250 rows with 1,225 ids, as published: nothing is dropped."""
    ids = [*IDS[: 1250 - 25], *IDS[-370:-345]]
    counts = Counter(official_category(id)[0] for id in ids)
    rows = [{"id": id, "query": "q", "response": ["a", "b"], "human_ranking": [0, 1]} for id in ids]
    image = {"bytes": b"pixels", "path": None}
    path = write_parquet(tmp_path / "test.parquet", [row | {"image": image} for row in rows])
    benchmark = read(path)
    assert len(benchmark.items) == len({item.row.id for item in benchmark.items}) == 1250
    assert len({item.group for item in benchmark.items}) == 1225 and benchmark.notes["duplicate_ids"] == 25
    assert Counter(item.row.category for item in benchmark.items) == counts


@pytest.mark.parametrize(("left_out", "edition"), [(0, "1,250"), (3, "1,247")])
def test_both_editions_are_complete(tmp_path, left_out, edition):
    """The later edition has two general pairs and one reasoning pair less."""
    ids = [id for id in IDS if id not in ("svit-0", "politics-0", "mathverse_0")[:left_out]]
    rows = [parquet_row(id) for id in ids]
    benchmark = read_benchmark("vl_rewardbench", write_parquet(tmp_path / "data" / "test-0.parquet", rows))
    assert benchmark.is_complete and benchmark.edition.startswith(edition) and len(benchmark.items) == 1250 - left_out
    assert sum(benchmark.sizes.values()) == 1250 - left_out


def test_one_pair_too_few_is_not_the_benchmark(tmp_path):
    path = write_parquet(tmp_path / "test.parquet", [parquet_row(id) for id in IDS[1:]])
    with pytest.raises(ValueError, match="hallucination: 748 items, officially 749"):
        read_benchmark("vl_rewardbench", path)


def test_published_layout(tmp_path):
    """Lower rank is better: [0, 1] prefers the first response, [1, 0] the second; the order of responses stays."""
    shards = [[parquet_row("mathverse_1"), parquet_row("RLHF-V-2", (1, 0))], [parquet_row("svit-3", (2, 5))]]
    for number, rows in enumerate(shards):
        write_parquet(tmp_path / "data" / f"test-{number:05d}-of-00002.parquet", rows)
    items = read(tmp_path).items
    assert [item.row.label for item in items] == [1, 2, 1]
    assert {item.row.responses for item in items} == {("first", "second")}
    assert [item.row.category for item in items] == ["reasoning", "hallucination", "general"]
    assert [item.released_category for item in items] == ["reasoning", "general", "general"]
    assert items[1].row.images[0].data == b"pixels of RLHF-V-2"
    assert items[0].row.question == "Which?"  # without the image's placeholder


def test_test_split_is_read_once_where_there_is_a_train_split_too(tmp_path):
    for split in ("train", "test"):
        write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", [parquet_row()])
    assert len(read(tmp_path).items) == 1


def test_ties_are_counted_and_left_out(tmp_path):
    rows = [parquet_row("mmmu_1", (0, 0), image={"bytes": None, "path": "gone.png"}), parquet_row("mmmu_2")]
    benchmark = read(write_parquet(tmp_path / "test.parquet", rows))
    assert [item.row.id for item in benchmark.items] == ["mmmu_2"] and benchmark.notes["ties_left_out"] == 1


def test_struct_without_bytes_names_a_file(tmp_path):
    path = write_parquet(tmp_path / "test.parquet", [parquet_row(image={"bytes": None, "path": "a.png"})])
    with pytest.raises(MissingFiles) as caught:
        read(path)
    assert caught.value.missing == [str(tmp_path / "a.png")]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"response": ["one"]}, "field response: must be two texts"),
        ({"human_ranking": [0]}, "field human_ranking: must be two ranks"),
        ({"human_ranking": None}, "field human_ranking: must be two ranks"),
        ({"query": ""}, "field query: is empty"),
        ({"image": None}, "field image: must be an image or its path"),
    ],
)
def test_rows_that_cannot_be_read(tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=f"test.parquet, row 1, {complaint}"):
        read(write_parquet(tmp_path / "test.parquet", [parquet_row(**changes)]))


def test_unknown_sources_are_general_and_counted(tmp_path):
    rows = [parquet_row("new-1", query_source="elsewhere"), parquet_row("new-2", query_source="povid")]
    benchmark = read(write_parquet(tmp_path / "test.parquet", rows))
    assert [item.row.category for item in benchmark.items] == ["general", "hallucination"]
    assert benchmark.notes["unknown_sources_as_general"] == 1


def test_real_rows_report_exactly_which_images_are_missing(shared_data):
    path = shared_data / "vl_rewardbench_sample.jsonl"
    with pytest.raises(MissingFiles) as caught:
        read(path)
    assert len(caught.value.missing) == 45 and "45 files are missing, of 45 of 45 items" in str(caught.value)
    assert caught.value.missing[:2] == [str(shared_data / "vl_reward/img" / f"image_{n}.jpg") for n in (0, 1)]


def test_real_rows(shared_data, tmp_path):
    """45 real rows, of which the images of 44 are put in place."""
    with pytest.raises(MissingFiles) as caught:
        read(shared_data / "vl_rewardbench_sample.jsonl", image_root=tmp_path)
    (tmp_path / "vl_reward" / "img").mkdir(parents=True)
    for path in caught.value.missing[1:]:
        with open(path, "wb") as file:
            file.write(b"pixels")
    benchmark = read(shared_data / "vl_rewardbench_sample.jsonl", image_root=tmp_path, missing="skip")
    assert len(benchmark.items) == 44 and benchmark.notes["missing_images_skipped"] == 1
    # Six rows of each source, of which the one left out is POVID; three of VLFeedback's small sources have one each.
    assert Counter(item.row.category for item in benchmark.items) == {"general": 15, "hallucination": 17, "reasoning": 12}
    assert Counter(item.released_category for item in benchmark.items) == {"general": 27, "hallucination": 5, "reasoning": 12}
    assert {item.row.label for item in benchmark.items} == {1}
