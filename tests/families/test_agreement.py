"""One example, written by each family in its own space: the same rewards."""

import pytest
import torch
from PIL import Image

from r1reward.data.rows import TaskRow

SIZES = [(640, 480), (333, 777), (1024, 256), (60, 40)]  # width and height


def rewards(tiny, text: str, solution: str, size: tuple[int, int]) -> tuple[float, float, float]:
    """(iou, format, total) as the trainer makes them."""
    row = TaskRow("0", (), "where", solution, "rec")
    reward = tiny.reward([row])
    columns = {"prompts": [row.messages()], "solution": [solution], "task": ["rec"], "images": [[Image.new("RGB", size)]]}
    completions = [[{"role": "assistant", "content": text}]]
    terms = [
        torch.tensor(f(completions=completions, completion_ids=[[0]], log_metric=lambda *x: None, **columns))
        for f in reward.reward_functions()
    ]
    return (*(float(term) for term in terms), float(reward.total(*terms)))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_box_comes_back_from_the_space_of_the_family(tiny, size):
    width, height = size
    truth = (0.125 * width, 0.25 * height, 0.625 * width, 0.875 * height)
    written = list(tiny.coordinates().write(truth, size))
    iou, form, total = rewards(tiny, f"<think>It is there.</think><answer>{written}</answer>", str(list(truth)), size)
    assert 0.9 <= iou <= 1.0 and form == 1.0 and total == pytest.approx(iou + 1.0)


def test_the_same_text_is_worth_the_same(tiny):
    """Where the space of a family does not matter."""
    solution, size = "[100, 100, 300, 200]", (640, 480)
    whole = list(tiny.coordinates().write((0, 0, *size), size))
    area = 200 * 100 / (640 * 480)  # of the truth, as a share of the image
    assert rewards(tiny, f"<think>All of it.</think><answer>{whole}</answer>", solution, size) == pytest.approx(
        (area, 1.0, 1 + area), abs=1e-6
    )
    elsewhere = list(tiny.coordinates().write((400, 300, 600, 400), size))
    assert rewards(tiny, f"<think>Below.</think><answer>{elsewhere}</answer>", solution, size) == (0.0, 1.0, 1.0)
    assert rewards(tiny, "<think>Nowhere.</think><answer>None</answer>", solution, size) == (0.0, 1.0, 1.0)
    assert rewards(tiny, "It is at the left.", solution, size) == (0.0, 0.0, 0.0)
