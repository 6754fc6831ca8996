"""MM-RLHF-RewardBench: groups of pairs, categories from paths, videos as sampled frames."""

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1reward.benchmarks.items import MissingFiles
from r1reward.benchmarks.mm_rlhf_rewardbench import SIZES, official_category, released_category
from r1reward.benchmarks.read import read_benchmark
from r1reward.data.records import Problem

# (category, questions, pairs); of the 46 questions and 170 pairs.
QUESTIONS = [("mcq", 10, 42), ("long", 10, 37), ("short", 10, 34), ("safety", 6, 32), ("video", 10, 25)]


def row(id="1", image="mcq/1.png", **changes):
    return {"id": id, "image": image, "prompt": "Which?", "chosen": "good", "rejected": "bad"} | changes


def video_row(id="2", video="video/clip"):
    return {"id": id, "video": video, "prompt": "What happens?", "chosen": "good", "rejected": "bad"}


def write(folder, rows):
    (folder / "mm_reward_bench.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in rows))
    return folder


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"pixels")


def read(path, **options):
    return read_benchmark("mm_rlhf_rewardbench", path, **({"check_sizes": False} | options))


def names(item):
    return [image.path.rsplit("/", 1)[1] for image in item.row.images]


def test_whole_benchmark(tmp_path):
    rows = []
    for category, questions, pairs in QUESTIONS:
        for pair in range(pairs):
            name = f"{category}/{pair % questions}"
            field = {"video": name} if category == "video" else {"image": f"{name}.png"}
            rows.append({"id": name, "prompt": "q", "chosen": "a", "rejected": "b"} | field)
            touch(tmp_path / (f"{name}/c01_0001.jpeg" if category == "video" else f"{name}.png"))
    benchmark = read(write(tmp_path, rows), check_sizes=True)
    assert benchmark.is_complete and len(benchmark.items) == 170 == len({item.row.id for item in benchmark.items})
    assert len({item.group for item in benchmark.items}) == 46
    assert Counter(item.row.category for item in benchmark.items) == SIZES == benchmark.sizes
    assert benchmark.notes["duplicate_ids"] == 124 and benchmark.notes["short_videos"] == 25


@pytest.mark.parametrize("root", ["", "images"])
def test_images_lie_beside_the_rows_or_in_the_folder_of_the_dataset(tmp_path, root):
    touch(tmp_path / root / "mcq" / "1.png")
    benchmark = read(write(tmp_path, [row(), row()]))
    assert benchmark.items[0].row.images[0].path == str(tmp_path / root / "mcq" / "1.png")
    assert [item.row.id for item in benchmark.items] == ["1", "1#2"] and {item.group for item in benchmark.items} == {"1"}
    assert {item.row.label for item in benchmark.items} == {1}


@pytest.mark.parametrize("root", ["video", "images", "images/video"])
def test_frames_of_a_video(tmp_path, root):
    """100 frames, 5 of them: floor of 0, 24.75, 49.5, 74.25, 99; numbers sort by value, other files are no frames."""
    folder = tmp_path / root / "clip"
    for number in range(100):
        touch(folder / f"frame{number}.jpg")
    touch(folder / "index.txt")
    benchmark = read(write(tmp_path, [video_row()]), num_frames=5)
    (item,) = benchmark.items
    assert names(item) == ["frame0.jpg", "frame24.jpg", "frame49.jpg", "frame74.jpg", "frame99.jpg"]
    assert item.row.category == item.released_category == "video"
    assert item.row.images[0].path == str(folder / "frame0.jpg")
    assert "short_videos" not in benchmark.notes


def test_short_video_shows_each_frame_once_and_is_counted(tmp_path):
    for name in ("c01_0010.jpeg", "c01_0002.JPEG"):
        touch(tmp_path / "images" / "clip" / name)
    benchmark = read(write(tmp_path, [video_row()]))
    assert names(benchmark.items[0]) == ["c01_0002.JPEG", "c01_0010.jpeg"] and benchmark.notes["short_videos"] == 1


def test_default_is_32_frames(tmp_path):
    for number in range(64):
        touch(tmp_path / "video" / "clip" / f"{number:03d}.png")
    assert len(read(write(tmp_path, [video_row()])).items[0].row.images) == 32


def test_video_file_without_frames_says_how_to_extract_them(tmp_path):
    touch(tmp_path / "video" / "clip.mp4")
    with pytest.raises(MissingFiles, match="ffmpeg -i .*video/clip.mp4") as caught:
        read(write(tmp_path, [video_row()]))
    assert caught.value.missing == [str(tmp_path / "video" / "clip")]


def test_empty_folder_of_frames_is_missing(tmp_path):
    (tmp_path / "images" / "clip").mkdir(parents=True)
    with pytest.raises(MissingFiles, match="hf download yifanzhang114/MM-RLHF-RewardBench") as caught:
        read(write(tmp_path, [video_row()]))
    assert caught.value.missing == [str(tmp_path / "images" / "clip")] and "ffmpeg" not in str(caught.value)


def test_parquet_layout(tmp_path):
    """The rows as parquet, where absent fields are null."""
    touch(tmp_path / "images" / "mcq" / "1.png")
    touch(tmp_path / "images" / "clip" / "1.png")
    (tmp_path / "data").mkdir()
    rows = [row(video=None), video_row() | {"image": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "train-00000-of-00001.parquet")
    items = read(tmp_path, image_root=tmp_path).items
    assert [item.row.category for item in items] == ["mcq", "video"]


def test_parquet_layout_with_the_image_inside(tmp_path):
    rows = [row(image={"bytes": b"pixels", "path": "short/1.png"})]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (item,) = read(tmp_path / "rows.parquet").items
    assert item.row.images[0].data == b"pixels" and item.row.category == "short"


def test_categories_of_paths():
    """The official category is a folder, the released one the first word found anywhere in the path."""
    assert official_category("safety/a_long_video.png") == "safety"
    assert released_category("safety/a_long_video.png") == "long"
    assert official_category("/data/images/short/1.png") == "short"
    with pytest.raises(Problem, match="unknown category"):
        official_category("other/long.png")


def test_bad_rows(tmp_path):
    with pytest.raises(ValueError) as caught:
        read(write(tmp_path, [row(image="other/1.png"), row(image=None), row(prompt=3)]))
    lines = str(caught.value).splitlines()
    assert "row 1, field image or video: unknown category of 'other/1.png'" in lines[1]
    assert "row 2, field image or video: must be a path" in lines[2]
    assert "row 3, field prompt: must be a text" in lines[3]


def test_paths_outside_of_the_image_root(tmp_path):
    with pytest.raises(ValueError) as caught:
        read(write(tmp_path, [row(image="../mcq/1.png"), video_row() | {"video": "../video/clip"}]))
    lines = str(caught.value).splitlines()
    assert "row 1, field image: '../mcq/1.png' lies outside of" in lines[1]
    assert "row 2, field video: '../video/clip' lies outside of" in lines[2]


def test_real_rows_report_exactly_which_files_are_missing(shared_data):
    """30 pairs, six of each category, on ten images and videos."""
    path = shared_data / "mm_rlhf_rewardbench_sample.jsonl"
    with pytest.raises(MissingFiles) as caught:
        read(path)
    assert len(caught.value.missing) == 10 and "10 files are missing, of 30 of 30 items" in str(caught.value)
    assert caught.value.missing[0] == str(shared_data / "mcq" / "073712.png")
    assert Counter(file.removeprefix(f"{shared_data}/").split("/")[0] for file in caught.value.missing)["video"] == 3


def test_real_rows(shared_data, tmp_path):
    with pytest.raises(MissingFiles) as caught:
        read(shared_data / "mm_rlhf_rewardbench_sample.jsonl", image_root=tmp_path)
    for file in map(tmp_path.joinpath, caught.value.missing):
        touch(file if file.suffix in (".png", ".jpg") else file / "c01_0001.jpeg")
    benchmark = read(shared_data / "mm_rlhf_rewardbench_sample.jsonl", image_root=tmp_path)
    assert len(benchmark.items) == 30 and len({item.group for item in benchmark.items}) == 10
    assert Counter(item.row.category for item in benchmark.items) == dict.fromkeys(SIZES, 6)
