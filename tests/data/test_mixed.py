"""Several sources in one run."""

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from PIL import Image

from r1reward.configs import compose_settings
from r1reward.data.build import bad_images, build_splits, training_dataset
from r1reward.data.fingerprint import fingerprint
from r1reward.data.images import decode_columns
from r1reward.data.mixed import join
from r1reward.data.rows import ImageSource, PreferenceRow, TaskRow
from r1reward.data.split import Splits
from r1reward.data.used import USED
from r1reward.parsing import parse_settings
from r1reward.settings import DataSettings, TrainSettings
from tests.reference_config import composed


def task_file(folder: Path, task: str, count: int = 10, images: str = "images") -> DataSettings:
    """A file of rows on images of its own folder, all named alike."""
    (folder / images).mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(folder / images / f"{number}.png")
        turns = [{"from": "human", "value": f"<image>Question {number}?"}, {"from": "gpt", "value": "yes"}]
        lines.append(json.dumps({"image": f"{number}.png", "conversations": turns, "id": f"row{number}"}))
    path = folder / f"{task}.jsonl"
    path.write_text("\n".join(lines))
    root = str(folder / images)
    return DataSettings("vlm_r1_jsonl", path=str(path), image_root=root, task=task, held_out_fraction=0.3)


def mix(**sources: DataSettings) -> DataSettings:
    return DataSettings("mixed", sources=sources)


WORLD = DataSettings("shapes", num_train=3, num_eval=2)


def test_files_folders_tasks_and_the_generated_world_in_one_run(tmp_path):
    one, two = task_file(tmp_path / "a", "yes_no"), task_file(tmp_path / "b", "exact", count=20)
    splits = build_splits(mix(first=one, world=WORLD, second=replace(two, num_eval=1)))
    alone = {name: build_splits(settings) for name, settings in (("first", one), ("world", WORLD), ("second", two))}
    held = len(alone["second"].evaluation["held_out"])
    assert held > 1
    assert [row.id for row in splits.train] == [f"{name}/{row.id}" for name, part in alone.items() for row in part.train]
    assert list(splits.evaluation) == ["held_out", "out_of_distribution"]
    sources = [row.id.split("/")[0] for row in splits.evaluation["held_out"]]
    assert sources == ["first"] * len(alone["first"].evaluation["held_out"]) + ["world"] * 2 + ["second"]
    assert [row.id for row in splits.evaluation["out_of_distribution"]] == [
        f"world/{row.id}" for row in alone["world"].evaluation["out_of_distribution"]
    ]
    assert {row.task for row in splits.train} == {"yes_no", "preference", "exact"}
    ids = [row.id for rows in (splits.train, *splits.evaluation.values()) for row in rows]
    assert len(set(ids)) == len(ids)
    assert {split: list(rows) for split, rows in fingerprint(splits).items()} == {
        split: [row.id for row in rows] for split, rows in {"train": splits.train, **splits.evaluation}.items()
    }
    # Images of the same name in two folders are two images.
    images = {row.images[0].path for row in splits.train if row.id.endswith("/row5")}
    assert images <= {str(tmp_path / "a/images/5.png"), str(tmp_path / "b/images/5.png")}
    (decoded,) = decode_columns([training_dataset(splits.train)[0]])
    assert decoded["images"][0].size == (8, 6)


def test_real_boxes_detections_and_preferences_together(shared_data):
    folder = shared_data / "coco128"
    sources = {
        "rec": DataSettings("vlm_r1_jsonl", path=str(folder / "rec.jsonl"), task="rec", limit=40),
        "ovd": DataSettings("vlm_r1_jsonl", path=str(folder / "ovd.jsonl"), task="ovd", limit=40),
        "pairs": DataSettings("r1_reward_jsonl", path=str(folder / "preference.jsonl"), limit=40),
    }
    splits = build_splits(mix(**sources))
    train, held_out = splits.train, splits.evaluation["held_out"]
    assert {row.task for row in train} == {"rec", "ovd", "preference"} and len({row.task for row in held_out}) > 1
    assert len(train) + len(held_out) == 120  # the same seed and folder: all sources hold out the same images
    assert not {row.images for row in train} & {row.images for row in held_out}


def row(id: str, name: str = "", question: str = "Q?") -> TaskRow:
    return TaskRow(id, (ImageSource(path=f"/{name}.png"),) if name else (), question, "yes", "yes_no")


def pair(id: str, name: str) -> PreferenceRow:
    return PreferenceRow(id, (ImageSource(path=f"/{name}.png"),), "Q?", ("a", "b"), 1, ("", "", ""))


def test_what_one_source_holds_out_no_other_trains_on(caplog):
    first = Splits([row("0", "a"), row("1", "b"), row("2", question="Sum?")], {"held_out": [row("3", "c")]})
    second = Splits([pair("0", "a"), pair("1", "c"), row("2", "d")], {"held_out": [pair("3", "b"), row("4", question="Sum?")]})
    with caplog.at_level(logging.WARNING):
        joined = join({"x": first, "y": second})
    assert [row.id for row in joined.train] == ["x/0", "y/0", "y/2"]
    assert [row.id for row in joined.evaluation["held_out"]] == ["x/3", "y/3", "y/4"]
    assert [record.message.split(" show ")[0] for record in caplog.records] == [
        "data.sources.x: 2 of 3 training rows",
        "data.sources.y: 1 of 3 training rows",
    ]
    with pytest.raises(ValueError, match="data.sources.y: no training rows are left; hold out less"):
        join({"x": Splits([row("0", "a")], {"held_out": [row("1", "b")]}), "y": Splits([row("0", "b")], {})})


def test_limits_of_images_are_those_of_the_mix(tmp_path):
    source = task_file(tmp_path, "yes_no")
    small = replace(mix(a=source), max_image_pixels=47, on_bad_image="skip", max_bad_images=3)
    with pytest.raises(ValueError, match="data.sources.a: .*10 rows have problems(.|\n)*more than the limit of 47"):
        build_splits(small)
    images = bad_images(small)
    assert (images.limits.max_pixels, images.policy, images.most) == (47, "skip", 3)
    with pytest.raises(ValueError, match="data.sources.a.max_image_pixels has no effect: data.max_image_pixels holds for"):
        build_splits(mix(a=replace(source, max_image_pixels=48)))
    same = replace(mix(a=replace(source, max_image_pixels=48)), max_image_pixels=48)
    assert build_splits(same).train


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DataSettings("mixed"), "data.sources is empty: name what is mixed, for example '[+]data.sources.rec="),
        (mix(a=mix(b=WORLD)), "data.sources.a.reader=mixed: a mix cannot hold another"),
        (replace(WORLD, sources={"a": WORLD}), "data.sources has no effect with data.reader=shapes; it is for mixed"),
        (mix(a=replace(WORLD, sources={"b": WORLD})), "data.sources.a.sources has no effect .*it is for mixed"),
        (mix(**{"a/b": WORLD}), "data.sources.a/b: a source's name stands before its rows' ids"),
        (mix(**{"": WORLD}), "data.sources.: a source's name"),
        (mix(a=DataSettings("vlm_r1_jsonl")), "data.sources.a: data.path is not set"),
        (mix(a=DataSettings("vlm_r1_jsonl", path="gone.jsonl")), "data.sources.a: gone.jsonl: there is no such file"),
        (replace(mix(a=WORLD), path="x.jsonl"), "data.path has no effect with data.reader=mixed; it is for r1_reward_jsonl or"),
        (mix(a=replace(WORLD, task="rec")), "data.sources.a.task has no effect with .*reader=shapes; it is for vlm_r1_jsonl"),
    ],
)
def test_wrong_sources(settings, message):
    with pytest.raises(ValueError, match=message):
        build_splits(settings)


def test_every_setting_is_used_by_a_reader():
    assert {name for used in USED.values() for name in used} | {"reader"} == set(asdict(WORLD))
    assert set(get_args(get_type_hints(DataSettings)["reader"])) == USED.keys()


def test_sources_from_the_command_line_and_from_options():
    rec, path = "+data.sources.rec={reader: vlm_r1_jsonl, path: rec.jsonl, task: rec}", "data.sources.ovd.path=ovd.jsonl"
    config = composed("data=mixed", "arm=mix", rec, "+data@data.sources.ovd=vlm_r1_jsonl", path)
    settings = compose_settings(config, TrainSettings).data
    assert settings.sources.keys() == {"rec", "ovd"}
    assert settings.sources["rec"] == DataSettings("vlm_r1_jsonl", path="rec.jsonl", task="rec")
    assert settings.sources["ovd"] == DataSettings("vlm_r1_jsonl", path="ovd.jsonl")


def test_a_wrong_setting_of_a_source_names_itself():
    for source, message in (
        ({"reader": "vlm_r1"}, "data.sources.a.reader=vlm_r1: choose one of shapes, r1_reward_jsonl"),
        ({"reader": "shapes", "levles": [1]}, "data.sources.a.levles: unknown setting; data.sources.a has reader, sources"),
        ({"path": "x"}, "data.sources.a.reader: missing"),
        (3, "data.sources.a: expected settings, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_settings(DataSettings, {"reader": "mixed", "sources": {"a": source}}, "data")
