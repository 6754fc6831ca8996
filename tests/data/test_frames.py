"""Videos as folders of frames, in a file of task rows; the benchmark's side is in benchmarks/test_mm_rlhf_rewardbench.py."""

import json
from pathlib import Path

import pytest
from PIL import Image

from r1reward.data.build import build_splits
from r1reward.data.fingerprint import changes, fingerprint
from r1reward.data.frames import extraction, frame_files, sample_frames
from r1reward.data.images import decode_columns
from r1reward.data.rows import to_training_row
from r1reward.data.vlm_r1_jsonl import read
from r1reward.settings import DataSettings


def clip(folder: Path, count: int, suffix: str = ".png") -> None:
    """Frame n is n pixels wide; their names sort otherwise as texts."""
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        Image.new("RGB", (number, 4)).save(folder / f"frame{number}{suffix}")
    (folder / "index.txt").write_text("no frame")


def write(folder: Path, *rows: dict) -> str:
    path = folder / "rows.jsonl"
    turns = {"conversations": [{"from": "human", "value": "What happens?"}, {"from": "gpt", "value": "A fall"}]}
    path.write_text("\n".join(json.dumps(turns | row) for row in rows), encoding="utf-8")
    return str(path)


def turns(question: str) -> list[dict]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": "A fall"}]


def test_sample_frames():
    files = [f"v/{number}.png" for number in (10, 9, 1, 2, 11)]
    assert sample_frames(files, 32) == ["v/1.png", "v/2.png", "v/9.png", "v/10.png", "v/11.png"]
    assert sample_frames(files, 2) == ["v/1.png", "v/11.png"]
    assert sample_frames(files, 1) == ["v/1.png"]
    assert sample_frames(["v/b2.png", "v/7.png", "v/b10.png", "v/a.png"], 4) == ["v/7.png", "v/a.png", "v/b2.png", "v/b10.png"]


def test_a_video_is_evenly_spaced_frames_in_their_order(tmp_path):
    """12 frames, 4 of them: floor of 0, 3.67, 7.33, 11, which are the frames 1, 4, 8 and 12."""
    clip(tmp_path / "clips" / "a", 12)
    assert len(frame_files(str(tmp_path / "clips" / "a"))) == 12
    path = write(tmp_path, {"video": "clips/a", "conversations": turns("<video>\nWhat happens?")}, {"video": "clips/a"})
    first, second = read(path, "answer", num_frames=4)
    assert first.prompt == second.prompt == "What happens?" and first.images == second.images
    (row,) = decode_columns([to_training_row(first)])
    assert [image.size for image in row["images"]] == [(1, 4), (4, 4), (8, 4), (12, 4)]
    assert [part["type"] for part in row["prompt"][0]["content"]] == ["image"] * 4 + ["text"]
    assert len(read(path, "answer", num_frames=99)[0].images) == 12
    with pytest.raises(ValueError, match="num_frames must be at least 1"):
        read(path, "answer", num_frames=0)


def test_videos_are_split_by_their_folder_and_their_frames_are_in_the_fingerprint(tmp_path):
    """All clips have frames of the same names."""
    for number in range(6):
        clip(tmp_path / "clips" / str(number), 3)
    path = write(tmp_path, *[{"video": f"clips/{number % 6}"} for number in range(12)])
    settings = DataSettings("vlm_r1_jsonl", path=path, task="answer", held_out_fraction=0.5, num_frames=2)
    splits = build_splits(settings)
    folders = [{Path(row.images[0].path).parent for row in rows} for rows in (splits.train, splits.evaluation["held_out"])]
    assert not folders[0] & folders[1] and len(folders[0] | folders[1]) == 6
    assert {len(row.images) for row in splits.train} == {2}
    before = fingerprint(splits)
    (folder, *_) = folders[0]
    Image.new("RGB", (9, 9)).save(folder / "frame2.png")  # not sampled
    assert changes(before, fingerprint(splits)) == []
    Image.new("RGB", (9, 9)).save(folder / "frame3.png")
    assert "2 rows changed" in changes(before, fingerprint(splits))[0]


def test_a_damaged_frame_is_named(tmp_path):
    clip(tmp_path / "a", 3)
    (tmp_path / "a" / "frame2.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="row 1, field image: .*frame2.png: unreadable"):
        read(write(tmp_path, {"video": "a"}), "answer")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"video": "gone"}, "field video: .*gone: there is no such folder; put its frames .*or set image_root"),
        ({"video": "empty"}, "field video: .*empty: holds no frames"),
        ({"video": "a.mp4"}, "'a.mp4' is read as a folder of frames; .*: mkdir -p .*/a && ffmpeg -i .*/a.mp4 .*/a/%04d.jpg"),
        ({"video": "a"}, "'a' is read as a folder of frames; .*: mkdir -p .*/a && ffmpeg -i .*/a.mp4"),
        ({"video": "clip", "image": "a.png"}, "field video: given as well as image; leave one of them out"),
        ({"video": 3}, "field video: must be the path of a folder of frames, got 3"),
        ({"video": ["clip", "clip"]}, "field video: must be the path of a folder"),
        ({"video": ""}, "field video: must be the path of a folder"),
        ({"video": "../clip"}, "field video: '../clip' lies outside of"),
        ({"video": "https://host/a.mp4"}, "field video: an address"),
        ({"conversations": turns("<video>What?")}, "field video: 0 given, but the question has 1 times <video>"),
        ({"video": "clip", "conversations": turns("<video><video>What?")}, "field video: 1 given, but .* 2 times <video>"),
        ({"video": "clip", "conversations": turns("<image>What?")}, "field image: 0 given, but .* 1 times <image>"),
        ({"video": "clip", "conversations": turns("<video> ")}, "the question must be a text, got '<video> '"),
    ],
)
def test_a_wrong_video_is_named_with_a_remedy(row, message, tmp_path):
    clip(tmp_path / "clip", 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.mp4").write_bytes(b"film")
    with pytest.raises(ValueError, match=f"(?s)row 1, .*{message}"):
        read(write(tmp_path, row), "answer")


def test_the_command_can_be_pasted_into_a_shell(tmp_path):
    film = tmp_path / "my film.mp4"
    film.write_bytes(b"film")
    for named in (film, tmp_path / "my film"):
        assert extraction(str(named)) == (
            f"mkdir -p '{tmp_path}/my film' && ffmpeg -i '{film}' -vf fps=1 '{tmp_path}/my film/%04d.jpg'"
        )
    assert extraction(str(tmp_path / "other")) is None
