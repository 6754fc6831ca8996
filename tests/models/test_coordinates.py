"""Coordinates: against the real image processors, which all build without a hub, and against what VLM-R1's code does instead.

The end-to-end tests draw a white rectangle on black, process the image, put the processor's pixels together again and look
where the rectangle went: there the coordinates must say it is.
"""

import io
import itertools
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from r1reward.data.images import open_image
from r1reward.data.rows import ImageSource
from r1reward.models.coordinates import SPACES, Coordinates, coordinates_of
from r1reward.models.families import known
from r1reward.models.loading import ModelSettings, load_processor, resolve

# The limits of the published checkpoints are large; these make small images cheap and let both limits act.
LOW, HIGH = 56 * 56, 640 * 640
PATCHED = {  # processors that cut one resized image into patches, with the families that use them
    "qwen2_5_vl": hf.Qwen2VLImageProcessor(min_pixels=LOW, max_pixels=HIGH),
    "qwen2_vl": hf.Qwen2VLImageProcessorPil(min_pixels=LOW, max_pixels=HIGH),
    "qwen3_vl": hf.Qwen2VLImageProcessor(min_pixels=256 * 256, max_pixels=HIGH, patch_size=16),
    "glm4v": hf.Glm4vImageProcessor(size={"shortest_edge": 112 * 112, "longest_edge": 2 * HIGH}),
    "glm46v": hf.Glm46VImageProcessor(size={"shortest_edge": 112 * 112, "longest_edge": 2 * HIGH}),
}
SIZES = [(640, 480), (1000, 333), (37, 300), (61, 61), (28, 28), (9, 14), (1601, 1199), (1500, 30), (4000, 1000)]
NO_PROCESSOR = None


def processor_of(image_processor) -> SimpleNamespace:
    """What a processor is to the coordinates: the holder of the image processor."""
    return SimpleNamespace(image_processor=image_processor)


def with_processor(family: str, name: str | None = None) -> Coordinates:
    return coordinates_of(family, processor_of(PATCHED[family]), name)


def iou(one, other) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)


def inner_box(size) -> tuple[int, int, int, int]:
    """A box off the centre, a fraction of the image on each axis, at least 2 pixels wide."""
    width, height = size
    x, y = width // 5, height // 3
    return x, y, max(x + 2, width * 3 // 5), max(y + 2, height * 5 // 6)


def drawn(size, box) -> Image.Image:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return Image.fromarray(pixels)


def whole_image(image_processor, image) -> torch.Tensor:
    """The resized image of a patching processor, height x width, put together from its patches. Black is 0, white is 1."""
    made = image_processor(image, return_tensors="pt")
    _, rows, columns = made["image_grid_thw"][0].tolist()
    patch, merge = image_processor.patch_size, image_processor.merge_size
    shape = (rows // merge, columns // merge, merge, merge, 3, image_processor.temporal_patch_size, patch, patch)
    patches = made["pixel_values"].reshape(shape)[..., 0, :, :]  # the frames of a still image are equal
    return brightness(patches.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * patch, columns * patch))


def brightness(channels: torch.Tensor) -> torch.Tensor:
    """Channels x height x width to height x width, from 0 for the darkest to 1 for the brightest pixel."""
    grey = channels.mean(0)
    return (grey - grey.min()) / (grey.max() - grey.min())


def bright_box(image: torch.Tensor) -> tuple[int, int, int, int]:
    rows, columns = (image > 0.5).any(1).nonzero(), (image > 0.5).any(0).nonzero()
    return columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1


@pytest.mark.parametrize(("family", "size"), itertools.product(PATCHED, SIZES))
def test_resized_size_is_that_of_the_processors_grid(family, size):
    image_processor = PATCHED[family]
    coordinates = with_processor(family, "resized_pixels")
    grid = image_processor(Image.new("RGB", size), return_tensors="pt")["image_grid_thw"][0]
    assert coordinates.extent(size) == (grid[2] * image_processor.patch_size, grid[1] * image_processor.patch_size)


@pytest.mark.parametrize("family", PATCHED)
@settings(max_examples=200, deadline=None)
@given(size=st.tuples(st.integers(28, 4000), st.integers(28, 4000)))
def test_resized_size_has_as_many_patches_as_the_processor_counts(family, size):
    image_processor = PATCHED[family]
    width, height = with_processor(family, "resized_pixels").extent(size)
    assert width * height == image_processor.get_number_of_image_patches(size[1], size[0]) * image_processor.patch_size**2


@pytest.mark.parametrize(("family", "size"), itertools.product(PATCHED, SIZES))
def test_end_to_end_a_drawn_rectangle_is_where_the_coordinates_say(family, size):
    image_processor, box = PATCHED[family], inner_box(size)
    seen = bright_box(whole_image(image_processor, drawn(size, box)))
    assert with_processor(family, "resized_pixels").from_pixels(box, size) == pytest.approx(seen, abs=1)


def last_tile(image_processor, image) -> torch.Tensor:
    """The view of the whole image, which InternVL, SmolVLM and Idefics3 put after the tiles."""
    return brightness(image_processor(image, return_tensors="pt")["pixel_values"].flatten(0, -4)[-1])


def first_tile(image_processor, image) -> torch.Tensor:
    """The view of the whole image, which Gemma 3 and LLaVA-OneVision put before the crops."""
    return brightness(image_processor(image, return_tensors="pt")["pixel_values"].flatten(0, -4)[0])


def internvl_canvas(image_processor, image) -> torch.Tensor:
    """InternVL's tiles put together to the canvas that they were cut from."""
    tiles = image_processor(image, return_tensors="pt")["pixel_values"][:-1]
    columns = 4  # for the one size used below: 4 x 3 tiles have its aspect ratio
    return brightness(tiles.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2))


TILED = {  # family: a processor, what it makes of an image, and where the whole image is in that
    "internvl": (hf.GotOcr2ImageProcessor(size={"height": 448, "width": 448}, crop_to_patches=True), last_tile),
    "internvl canvas": (
        hf.GotOcr2ImageProcessor(size={"height": 448, "width": 448}, crop_to_patches=True, min_patches=12, max_patches=12),
        internvl_canvas,
    ),
    "gemma3": (
        hf.Gemma3ImageProcessor(
            size={"height": 896, "width": 896},
            do_pan_and_scan=True,
            pan_and_scan_min_crop_size=256,
            pan_and_scan_max_num_crops=4,
            pan_and_scan_min_ratio_to_activate=1.2,
        ),
        first_tile,
    ),
    "smolvlm": (hf.SmolVLMImageProcessor(), last_tile),
    "idefics3": (hf.Idefics3ImageProcessor(), last_tile),
    "llava_onevision": (hf.LlavaOnevisionImageProcessor(), first_tile),
}


@pytest.mark.parametrize("family", TILED)
def test_end_to_end_fractions_hold_in_the_view_of_the_whole_image(family):
    """Where the processor stretches the image, thousandths and fractions still point at the same place."""
    (image_processor, view), size, box = TILED[family], (640, 480), (128, 160, 384, 400)
    seen = view(image_processor, drawn(size, box))
    height, width = seen.shape
    thousandths = coordinates_of(family, NO_PROCESSOR, "thousand").from_pixels(box, size)
    assert thousandths == pytest.approx((200, 1000 / 3, 600, 2500 / 3))
    expected = [number * extent / 1000 for number, extent in zip(thousandths, (width, height) * 2, strict=True)]
    assert bright_box(seen) == pytest.approx(expected, abs=1)


def test_gemma_resized_pixels_are_those_of_its_square():
    image_processor, view = TILED["gemma3"]
    coordinates = coordinates_of("gemma3", processor_of(image_processor), "resized_pixels")
    seen = view(image_processor, drawn((640, 480), (128, 160, 384, 400)))
    assert coordinates.extent((640, 480)) == tuple(reversed(seen.shape)) == (896, 896)
    wide = hf.Gemma3ImageProcessor(size={"height": 224, "width": 448})
    assert coordinates_of("gemma3", processor_of(wide), "resized_pixels").extent((640, 480)) == (448, 224)


def test_llava_crops_to_the_centre_so_that_no_space_of_the_whole_image_fits_what_it_sees():
    """The README's example: with the settings of the published 1.5 checkpoints a box at the left edge is not seen."""
    image_processor = hf.LlavaImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    seen = image_processor(drawn((640, 320), (0, 0, 100, 320)), return_tensors="pt")["pixel_values"]
    black = image_processor(drawn((640, 320), (0, 0, 0, 0)), return_tensors="pt")["pixel_values"]
    assert torch.equal(seen, black)


edges = st.floats(-1e4, 1e4)
sides = st.integers(28, 4000) | st.sampled_from([1, 2, 27, 29, 3999, 20000])


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=200, deadline=None)
@given(box=st.tuples(edges, edges, edges, edges), size=st.tuples(sides, sides))
def test_round_trip_is_exact(name, box, size):
    if max(size) > 200 * min(size):
        size = (max(size), max(size))
    coordinates = with_processor("qwen2_5_vl", name)
    assert coordinates.to_pixels(coordinates.from_pixels(box, size), size) == pytest.approx(box, rel=1e-12, abs=1e-9)
    assert coordinates.from_pixels(coordinates.to_pixels(box, size), size) == pytest.approx(box, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=200, deadline=None)
@given(fractions=st.tuples(*[st.floats(0, 1)] * 4), size=st.tuples(st.integers(28, 4000), st.integers(28, 4000)))
def test_written_boxes_are_within_half_a_unit(name, fractions, size):
    coordinates = with_processor("qwen2_5_vl", name)
    box = [fraction * side for fraction, side in zip(fractions, size * 2, strict=True)]
    written = coordinates.write(box, size)
    assert {type(number) for number in written} == {float if name == "unit" else int}
    unit = 0.001 if name == "unit" else 1
    assert written == pytest.approx(coordinates.from_pixels(box, size), abs=unit / 2 * (1 + 1e-9))
    in_pixels = [side / whole * unit / 2 for side, whole in zip(size * 2, coordinates.extent(size) * 2, strict=True)]
    apart = [abs(one - other) for one, other in zip(coordinates.to_pixels(written, size), box, strict=True)]
    assert all(one <= half * (1 + 1e-9) + 1e-9 for one, half in zip(apart, in_pixels, strict=True))


def test_each_space_by_hand():
    """An image of 200 x 100 pixels, which Qwen2.5-VL makes 196 x 112: 200 / 28 = 7.1 and 100 / 28 = 3.6."""
    processor, size, box = processor_of(PATCHED["qwen2_5_vl"]), (200, 100), (50.0, 10.0, 100.0, 75.0)
    written = {
        "pixels": (50, 10, 100, 75),
        "resized_pixels": (49, 11, 98, 84),  # 10 x 1.12 = 11.2
        "thousand": (250, 100, 500, 750),
        "thousand_y_first": (100, 250, 750, 500),
        "unit": (0.25, 0.1, 0.5, 0.75),
    }
    assert set(written) == set(SPACES)
    for name, numbers in written.items():
        coordinates = coordinates_of("qwen2_5_vl", processor, name)
        assert coordinates.name == name
        assert coordinates.write(box, size) == numbers
        y1 = 11 / 1.12 if name == "resized_pixels" else 10
        assert coordinates.to_pixels(numbers, size) == pytest.approx((50, y1, 100, 75))
    assert coordinates_of("qwen2_5_vl", processor).from_pixels(box, size) == pytest.approx((49, 11.2, 98, 84))


def test_what_the_authors_of_qwen_convert():
    """The example of QwenLM/Qwen3-VL's qwen-vl-finetune/tools/process_bbox.ipynb: its printed results for both families."""
    size, box = (640, 428), (146, 137, 615, 415)
    image_processor = hf.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=14 * 14 * 4 * 1280)
    assert coordinates_of("qwen2_vl", processor_of(image_processor)).write(box, size) == (228, 320, 961, 970)
    assert coordinates_of("qwen2_5_vl", processor_of(image_processor)).write(box, size) == (147, 134, 619, 407)


def test_the_space_of_each_family():
    def families(space):
        return {key for key, family in known().items() if family.space == space}

    thousand = {"qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"}
    thousand |= {"internvl", "internvl_chat", "glm4v", "glm4v_moe", "glm46v"}
    assert families("resized_pixels") == {"qwen2_5_vl"}
    assert families("thousand") == thousand
    assert families(None) == {"gemma3", "smolvlm", "idefics3", "llava_onevision"}
    for key in thousand:
        assert coordinates_of(key, NO_PROCESSOR).write((0, 0, 320, 240), (640, 480)) == (0, 0, 500, 500)
    assert all(family.source for family in known().values())


@pytest.mark.parametrize("family", ["gemma3", "smolvlm", "idefics3", "llava_onevision"])
def test_an_undocumented_family_must_be_told(family):
    with pytest.raises(ValueError, match=r"no documented coordinates.*model\.coordinates.*thousand.*unit.*qwen2_5_vl"):
        coordinates_of(family, NO_PROCESSOR)
    assert coordinates_of(family, NO_PROCESSOR, "unit").write((0, 0, 320, 240), (640, 480)) == (0.0, 0.0, 0.5, 0.5)


@pytest.mark.parametrize("family", ["llava", "blip_2"])
def test_a_model_of_no_known_family_must_be_told_or_described(family):
    for name in (None, "resized_pixels"):
        with pytest.raises(ValueError, match="of no family known here.*model.family=.*model.coordinates"):
            coordinates_of(family, NO_PROCESSOR, name)
    assert coordinates_of(family, NO_PROCESSOR, "unit").write((0, 0, 320, 240), (640, 480)) == (0.0, 0.0, 0.5, 0.5)


def test_an_unknown_name_lists_the_options():
    with pytest.raises(ValueError, match="model.coordinates=percent is unknown.*pixels, thousand, thousand_y_first, unit"):
        coordinates_of("qwen2_5_vl", NO_PROCESSOR, "percent")
    with pytest.raises(ValueError, match="is unknown"):
        coordinates_of("qwen2_5_vl", NO_PROCESSOR, "")


@pytest.mark.parametrize("family", ["internvl", "smolvlm", "idefics3", "llava_onevision"])
def test_resized_pixels_need_one_resized_image(family):
    with pytest.raises(ValueError, match="no one resized image.*choose one of pixels, thousand") as raised:
        coordinates_of(family, NO_PROCESSOR, "resized_pixels")
    assert "resized_pixels," not in str(raised.value)


def test_changed_pixel_limits_act():
    """Limits set through `model.max_pixels`, and limits changed on the processor afterwards."""
    model_type, size = hf.AutoConfig.from_pretrained(resolve("embedded")).model_type, (200, 100)
    for limits, extent in (
        ({}, (112, 56)),  # the embedded model's: at most 84 x 84 pixels
        ({"max_pixels": 10**6}, (196, 112)),
        ({"min_pixels": 10**6, "max_pixels": 10**7}, (1428, 728)),
    ):
        assert coordinates_of(model_type, load_processor(ModelSettings("embedded", **limits))).extent(size) == extent
    processor = load_processor(ModelSettings("embedded"))
    coordinates = coordinates_of(model_type, processor)
    processor.image_processor.size = {"shortest_edge": 28 * 28, "longest_edge": 10**6}
    assert coordinates.extent(size) == (196, 112)
    processor.image_processor.do_resize = False
    assert coordinates.extent(size) == size


def test_thin_images():
    """The processor refuses sides that differ by more than a factor of 200, and so do its coordinates, naming the image."""
    processor = processor_of(PATCHED["qwen2_5_vl"])
    coordinates = coordinates_of("qwen2_5_vl", processor)
    grid = processor.image_processor(Image.new("RGB", (4000, 20)), return_tensors="pt")["image_grid_thw"][0]
    assert coordinates.extent((4000, 20)) == (grid[2] * 14, grid[1] * 14)
    with pytest.raises(ValueError, match="aspect ratio"):
        processor.image_processor(Image.new("RGB", (4020, 20)), return_tensors="pt")
    for convert in (coordinates.to_pixels, coordinates.from_pixels, coordinates.write):
        with pytest.raises(ValueError, match="image of 4020 x 20 pixels cannot be resized: .*aspect ratio"):
            convert((0, 0, 1, 1), (4020, 20))
    assert coordinates_of("qwen3_vl", processor).write((0, 0, 2010, 10), (4020, 20)) == (0, 0, 500, 500)


@pytest.mark.parametrize("size", [(0, 480), (640, 0), (-640, 480)])
def test_a_size_that_no_image_has(size):
    for name in SPACES:
        coordinates = with_processor("qwen2_5_vl", name)
        for convert in (coordinates.to_pixels, coordinates.from_pixels, coordinates.write):
            with pytest.raises(ValueError, match="width and height in pixels"):
                convert((0, 0, 1, 1), size)


def test_predictions_are_not_mended():
    """A box over the edge keeps its loss, whatever a model writes does not raise, and the order of the edges stays."""
    coordinates = coordinates_of("qwen3_vl", NO_PROCESSOR)
    assert coordinates.to_pixels((-100, 500, 1200, 2000), (640, 480)) == (-64, 240, 768, 960)
    assert coordinates.to_pixels((900, 800, 100, 200), (1000, 1000)) == (900, 800, 100, 200)
    wild = (float("inf"), float("-inf"), float("nan"), 1e308)
    for name in SPACES:
        assert len(with_processor("qwen2_5_vl", name).to_pixels(wild, (640, 480))) == 4


def test_a_ground_truth_over_the_edge_is_written_at_the_edge():
    """VLM-R1's RefCOCO boxes add 1 to x2 and y2, and so leave the image where the object touches its border."""
    size, box = (640, 480), (-3.0, 100.0, 641.0, 481.0)
    processor = processor_of(PATCHED["qwen2_5_vl"])
    assert coordinates_of("qwen3_vl", NO_PROCESSOR).write(box, size) == (0, 208, 1000, 1000)
    assert coordinates_of("qwen2_5_vl", processor).write(box, size) == (0, 99, 644, 476)  # 23 x 28 and 17 x 28
    assert coordinates_of("gemma3", NO_PROCESSOR, "thousand_y_first").write(box, size) == (208, 0, 1000, 1000)
    assert coordinates_of("gemma3", NO_PROCESSOR, "unit").write(box, size) == (0.0, 0.208, 1.0, 1.0)
    with pytest.raises(ValueError):
        coordinates_of("qwen3_vl", NO_PROCESSOR).write((0, 0, float("nan"), 1), size)


def test_the_size_is_that_of_the_upright_image(tmp_path):
    """A photograph of 90 x 60 pixels, stored lying on its side as 60 x 90, with the rotation in its EXIF block."""
    upright = Image.new("RGB", (90, 60))
    ImageDraw.Draw(upright).rectangle((45, 12, 89, 35), fill="white")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    stored = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(stored, "PNG", exif=exif)
    (tmp_path / "photo.png").write_bytes(stored.getvalue())
    image = open_image(ImageSource(path=str(tmp_path / "photo.png")))
    assert image.size == (90, 60)
    image_processor = PATCHED["qwen2_5_vl"]
    box = coordinates_of("qwen2_5_vl", processor_of(image_processor)).from_pixels((45, 12, 90, 36), image.size)
    assert bright_box(whole_image(image_processor, image)) == pytest.approx(box, abs=1)


def test_several_images_each_with_its_own_size():
    """The coordinates of the second image follow from its own size, as the processor's grids do."""
    sizes = [(640, 480), (300, 90), (1601, 1199)]
    image_processor = PATCHED["qwen2_5_vl"]
    grids = image_processor([Image.new("RGB", size) for size in sizes], return_tensors="pt")["image_grid_thw"]
    coordinates = coordinates_of("qwen2_5_vl", processor_of(image_processor))
    assert [coordinates.extent(size) for size in sizes] == [(columns * 14, rows * 14) for _, rows, columns in grids.tolist()]


def test_coordinates_travel_to_other_processes():
    coordinates = with_processor("qwen2_5_vl")
    assert pickle.loads(pickle.dumps(coordinates)).extent((200, 100)) == coordinates.extent((200, 100)) == (196, 112)


def test_importing_loads_neither_torch_nor_transformers():
    code = (
        "import sys; from r1reward.models.coordinates import coordinates_of; coordinates_of('qwen3_vl', None)"
        ".to_pixels((1, 2, 3, 4), (640, 480)); print({'torch', 'transformers'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


# VLM-R1's loopholes (its released code at commit 90052f4): what pays there, and what does here.


def released_iou(one, other) -> float:
    """VLM-R1's: x2 and y2 lose a pixel before the overlap is sought, and an overlap needs more than that."""
    x1, y1 = max(one[0], other[0]), max(one[1], other[1])
    x2, y2 = min(one[2] - 1, other[2] - 1), min(one[3] - 1, other[3] - 1)
    overlap = (x2 - x1 + 1) * (y2 - y1 + 1) if x1 < x2 and y1 < y2 else 0
    return overlap / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - overlap)


def released_rescale(box, grid, size, patch=14):
    """VLM-R1's: prediction x original / (grid x 14)."""
    return tuple(number / (cells * patch) * side for number, cells, side in zip(box, grid * 2, size * 2, strict=True))


def test_vlm_r1_bug_6_normalised_boxes_are_always_0():
    """A perfect prediction in fractions: IoU 0 with the released code, 1 with a space for it."""
    size, truth, prediction = (640, 480), (64, 120, 320, 360), (0.1, 0.25, 0.5, 0.75)
    assert released_iou(prediction, prediction) == 0
    assert released_iou(prediction, truth) == 0
    pixels = coordinates_of("smolvlm", NO_PROCESSOR, "unit").to_pixels(prediction, size)
    assert iou(pixels, truth) == pytest.approx(1)


@pytest.mark.parametrize(
    ("most", "resized", "truth", "unscaled"),
    [
        (1280 * 28 * 28, (1316, 728), (960, 540, 1440, 810), 162 / 189316),  # read as pixels of the original: IoU 0.0009
        (16384 * 28 * 28, (1932, 1092), (960, 540, 1440, 810), 125136 / 136323),  # the published limit: 0.92
        (16384 * 28 * 28, (1932, 1092), (1800, 1000, 1832, 1032), 0.266),  # a small object near the corner
    ],
)
def test_vlm_r1_section_3_qwen_boxes_read_as_original_pixels_lose_iou(most, resized, truth, unscaled):
    """What a perfect Qwen2.5-VL lost on a 1920 x 1080 image before VLM-R1's correction, and still loses in its detection
    rewards, which never rescale."""
    size = (1920, 1080)
    coordinates = coordinates_of("qwen2_5_vl", processor_of(hf.Qwen2VLImageProcessor(min_pixels=3136, max_pixels=most)))
    assert coordinates.extent(size) == resized
    perfect = coordinates.from_pixels(truth, size)
    assert iou(perfect, truth) == pytest.approx(unscaled, abs=1e-3)
    assert iou(coordinates.to_pixels(perfect, size), truth) == pytest.approx(1)


def test_vlm_r1_section_3_its_correction_is_ours_for_qwen2_5_only():
    """Right where a patch has 14 pixels. With the 16 of Qwen3-VL's processor it stretches by 16/14, and for thousandths, which
    Qwen3-VL writes, it has no meaning at all."""
    size, box = (640, 480), (60.0, 90.0, 200.0, 300.0)
    for family, patch in (("qwen2_5_vl", 14), ("qwen3_vl", 16)):
        image_processor = PATCHED[family]
        assert image_processor.patch_size == patch
        _, rows, columns = image_processor(Image.new("RGB", size), return_tensors="pt")["image_grid_thw"][0].tolist()
        ours = with_processor(family, "resized_pixels").to_pixels(box, size)
        assert released_rescale(box, (columns, rows), size, patch) == pytest.approx(ours)
        assert released_rescale(box, (columns, rows), size) == pytest.approx([number * patch / 14 for number in ours])
    perfect = coordinates_of("qwen3_vl", NO_PROCESSOR).from_pixels(box, size)
    assert perfect == (93.75, 187.5, 312.5, 625.0)
    assert iou(released_rescale(perfect, (columns, rows), size), box) < 0.2


def test_vlm_r1_section_3_only_the_first_image_is_used():
    """A perfect box in the second image: the released correction takes the size and the grid of the first."""
    first, second, truth = (1601, 1199), (300, 90), (30, 10, 200, 80)
    coordinates = with_processor("qwen2_5_vl")
    perfect = coordinates.from_pixels(truth, second)
    grid_of_first = tuple(side // 14 for side in coordinates.extent(first))
    assert iou(released_rescale(perfect, grid_of_first, first), truth) < 0.2
    assert iou(coordinates.to_pixels(perfect, second), truth) == pytest.approx(1)


def test_vlm_r1_bug_14_stale_size_of_a_small_image():
    """After a small image the released trainer resizes every later one to the small one's new size: a box of the later image
    then has a few pixels to be written in. Ours keep no state: the answer for a size does not depend on those before it."""

    def released_sizes(sizes):
        seen, stale = [], None
        for width, height in sizes:
            if min(width, height) < 28:
                stale = (28, int(height * (28 / width))) if width < height else (int(width * (28 / height)), 28)
            seen.append(stale or (width, height))
        return seen

    sizes = [(640, 480), (20, 40), (640, 480)]
    assert released_sizes(sizes) == [(640, 480), (28, 56), (28, 56)]
    coordinates = with_processor("qwen2_5_vl")
    extents = [coordinates.extent(size) for size in sizes]
    assert extents == list(reversed([coordinates.extent(size) for size in reversed(sizes)]))
    assert extents[0] == extents[2] == (644, 476)
