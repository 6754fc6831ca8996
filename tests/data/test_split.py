"""Training and held-out rows: no image on both sides, whatever the kind and the order of the rows."""

import random

import pytest

from r1reward.data.rows import ImageSource, PreferenceRow, TaskRow
from r1reward.data.split import at_most, split
from r1reward.data.vlm_r1_jsonl import read


def pairs(images: list[tuple[str, ...]]) -> list[PreferenceRow]:
    return [
        PreferenceRow(str(n), tuple(ImageSource(path=path) for path in paths), f"q{n}", ("a", "b"), 1, ("", "", ""))
        for n, paths in enumerate(images)
    ]


def tasks(images: list[tuple[str, ...]]) -> list[TaskRow]:
    return [
        TaskRow(str(n), tuple(ImageSource(path=path) for path in paths), f"q{n}", "yes", "yes_no")
        for n, paths in enumerate(images)
    ]


@pytest.mark.parametrize("rows_of", [pairs, tasks])
def test_split_depends_on_image_names_and_seed_only(rows_of):
    rows = rows_of([(f"/data/{n % 100}.png",) for n in range(300)])
    train, held_out = split(rows, 0.3, 1, "/data")
    assert split(rows, 0.3, 1, "/data") == (train, held_out)
    held_ids = {row.id for row in held_out}
    shuffled = random.Random(0).sample(rows, len(rows))
    assert {row.id for row in split(shuffled, 0.3, 1, "/data")[1]} == held_ids
    elsewhere = rows_of([(f"/other/place/{n % 100}.png",) for n in range(300)])
    assert {row.id for row in split(elsewhere, 0.3, 1, "/other/place")[1]} == held_ids
    assert {row.id for row in split(rows[:60], 0.3, 1, "/data")[1]} == {n for n in held_ids if int(n) < 60}
    assert {row.id for row in split(rows, 0.3, 2, "/data")[1]} != held_ids
    assert 15 <= len(held_out) / 3 <= 45  # 100 images, 30 expected, standard deviation 4.6


def test_an_image_of_preference_and_task_rows_is_on_one_side():
    names = [(f"/data/{n}.png",) for n in range(100)]
    train, held_out = split([*pairs(names), *tasks(names)], 0.4, 0, "/data")
    assert not {row.images for row in train} & {row.images for row in held_out}
    assert {type(row) for row in held_out} == {type(row) for row in train} == {PreferenceRow, TaskRow}


@pytest.mark.parametrize("rows_of", [pairs, tasks])
def test_rows_tied_by_any_image_stay_together(rows_of):
    chain = [(f"/{n}.png", f"/{n + 1}.png") for n in range(50)]
    others = [(f"/o{n}.png",) for n in range(100)]
    for seed in range(5):
        train, held_out = split(rows_of(chain + others), 0.5, seed, "/")
        sides = [{image.path for row in side for image in row.images} for side in (train, held_out)]
        assert not sides[0] & sides[1]
        assert {f"/{n}.png" for n in range(51)} <= sides[0] or {f"/{n}.png" for n in range(51)} <= sides[1]


def test_ties_hold_in_every_order_of_the_rows():
    """Ten groups of four images each, whose rows name any two of them that are neighbours, either first."""
    ties = [(f"/{n}.png", f"/{n + 1}.png") for n in range(40) if n % 4 != 3]
    rows = tasks([pair[:: 1 if n % 2 else -1] for n, pair in enumerate(ties)])
    held_ids = {row.id for row in split(rows, 0.5, 0, "/")[1]}
    assert all(len({str(3 * group + n) in held_ids for n in range(3)}) == 1 for group in range(10))
    for seed in range(20):
        shuffled = random.Random(seed).sample(rows, len(rows))
        assert {row.id for row in split(shuffled, 0.5, 0, "/")[1]} == held_ids


def test_rows_without_an_image_and_images_in_memory_are_grouped_too():
    questions = [PreferenceRow(str(n), (), f"q{n % 20}", ("a", "b"), 1, ("", "", "")) for n in range(60)]
    sums = [TaskRow(f"t{n}", (), f"{n % 20} + 1?", "2", "number") for n in range(60)]
    images = [TaskRow(f"b{n}", (ImageSource(data=bytes([n % 20])),), "q", "yes", "yes_no") for n in range(60)]
    for rows, shown in ((questions, "question"), (sums, "prompt"), (images, "images")):
        train, held_out = split(rows, 0.5, 0, "/")
        assert not {getattr(row, shown) for row in train} & {getattr(row, shown) for row in held_out}


def test_the_same_name_in_two_folders_is_two_images():
    train, held_out = split(tasks([(f"/data/{n}/0001.png",) for n in range(40)]), 0.5, 0, "/data")
    assert len(train) + len(held_out) == 40 and len(train) > 5 and len(held_out) > 5


def test_of_few_images_one_is_on_either_side():
    """Two images at 1 %, at 99 % and at 50 %: one each. A file of one image says what to do."""
    for fraction in (0.01, 0.5, 0.99):
        for seed in range(10):
            train, held_out = split(tasks([("/a.png",), ("/b.png",), ("/a.png",)]), fraction, seed, "/")
            assert {len(train), len(held_out)} == {1, 2}
    train, held_out = split(tasks([(f"/{n}.png",) for n in range(10)]), 0.1, 0, "/")
    assert len(train) + len(held_out) == 10 and 1 <= len(held_out) <= 4
    for images in ([("/a.png",)] * 3, [("/a.png", "/b.png"), ("/b.png",)]):
        with pytest.raises(ValueError, match="rows cannot be split .*data.held_out_fraction=0 trains on all of them"):
            split(tasks(images), 0.1, 0, "/")
        assert split(tasks(images), 0, 0, "/") == (tasks(images), [])


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_a_wrong_fraction(fraction):
    with pytest.raises(ValueError, match="data.held_out_fraction must be at least 0 and below 1"):
        split(tasks([("/a.png",), ("/b.png",)]), fraction, 0, "/")


def test_rows_taken_are_evenly_spaced():
    assert at_most(list("abcdefghij"), 4) == ["a", "c", "f", "h"]  # 0, 2.5, 5, 7.5
    assert at_most(list("abc"), 3) == at_most(list("abc"), 9) == list("abc")
    assert at_most(list("abc"), 1) == ["a"] and at_most([], 5) == []


def test_real_rows_split_without_a_shared_image(shared_data):
    folder = shared_data / "coco128"
    rows = [*read(folder / "rec.jsonl", "rec", check_images=False), *read(folder / "ovd.jsonl", "ovd", check_images=False)]
    train, held_out = split(rows, 0.2, 0, folder)
    assert 0.1 < len(held_out) / len(rows) < 0.3 and {row.task for row in held_out} == {"rec", "ovd"}
    assert not {row.images for row in train} & {row.images for row in held_out}
