"""Accuracy of preference pairs, visual tasks and mixtures of them, on completions written by hand."""

import io

import pytest
from PIL import Image

from r1reward.benchmarks.accuracy import measure, num_completions
from r1reward.benchmarks.both_orders import judge_both_orders
from r1reward.data.images import ImageError, ImageLimits
from r1reward.data.rows import ImageSource, PreferenceRow, TaskRow
from r1reward.inference.backend import Completion
from r1reward.inference.reward_model import RewardModel
from r1reward.models.coordinates import Coordinates
from r1reward.rewards.judges.opinion import Opinion, TooManyFailures
from r1reward.rewards.preference import PreferenceReward
from r1reward.rewards.registry import Context, make
from r1reward.rewards.tasks import RoutedReward, TaskReward, Term


def picture(width: int, height: int, colour: str) -> ImageSource:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format="PNG")
    return ImageSource(data=buffer.getvalue())


WIDE, HIGH = picture(200, 100, "red"), picture(50, 100, "blue")
PREFERENCES = PreferenceReward(consistency_weight=0.0)


def term(function: str, name: str | None = None, context: Context | None = None) -> Term:
    return Term(name or function, make(function, "strict", {}, context or Context()))


def reward(**tasks: list[Term]) -> RoutedReward:
    return RoutedReward({"preference": PREFERENCES} | {task: TaskReward(terms) for task, terms in tasks.items()})


BOXES = [term("iou"), term("box_format", "format")]
NUMBERS = [term("number"), term("think_answer", "format")]


def box(name: str, image: ImageSource = WIDE, category: str = "") -> TaskRow:
    return TaskRow(name, (image,), f"Where is {name}?", "[10, 10, 50, 50]", "rec", category=category)


def number(name: str, solution: str, image: ImageSource = WIDE, category: str = "") -> TaskRow:
    return TaskRow(name, (image,), f"How many are {name}?", solution, "number", category=category)


def pair(name: str, label: int, category: str = "") -> PreferenceRow:
    return PreferenceRow(name, (), "Q", (f"{name} A", f"{name} B"), label, ("", " or ", ""), category=category)


def answer(text: str) -> str:
    return f"<think>I look.</think><answer>{text}</answer>"


class Scripted:
    """A backend that says what is written down for a prompt's text, with one token per character."""

    def __init__(self, said: dict[str, str]):
        self.said, self.batches = said, []

    def complete(self, rows, votes, sampling, seed):
        assert votes == 1 and sampling.temperature == 0
        self.batches.append([row.id for row in rows])
        return [[Completion(self.said[row.text()], len(self.said[row.text()]))] for row in rows]


def measured(rows, texts, reward, batch_size=2, **options) -> tuple[dict, Scripted]:
    """`texts`: what is said about each row; of a pair, what is said about both orders."""
    said = {}
    for row, text in zip(rows, texts, strict=True):
        if isinstance(row, PreferenceRow):
            said |= {row.text(): text[0], row.swapped().text(): text[1]}
        else:
            said[row.text()] = text
    backend = Scripted(said)
    return measure(RewardModel(backend), rows, reward, batch_size, 64, **options), backend


def mean(value: dict) -> float:
    return value["mean"]


def test_boxes_are_right_from_an_iou_of_one_half():
    """IoU 1, 1/2, 1/4 (800, 400 or 200 of 800 pixels more), a text of the right box without the format, and junk."""
    rows = [box("a", category="near"), box("b", category="near"), box("c", category="far"), box("d", HIGH), box("e", HIGH)]
    texts = [answer("[10, 10, 50, 50]"), answer("[10, 10, 50, 30]"), answer("[10, 10, 30, 30]")]
    texts += ["It is <answer>[10, 10, 50, 50]</answer>", "?"]
    summary, _ = measured(rows, texts, reward(rec=BOXES))
    assert summary["n"] == 5 and summary["unscored"] == 0
    assert mean(summary["accuracy"]) == pytest.approx(3 / 5)
    assert mean(summary["format_rate"]) == pytest.approx(3 / 5)
    assert summary["mean_completion_tokens"] == sum(map(len, texts)) / 5
    assert list(summary["by_task"]) == ["rec"]
    rec = summary["by_task"]["rec"]
    assert rec["n"] == 5 and rec["accuracy"] == summary["accuracy"]
    assert list(rec["terms"]) == ["iou", "format"]  # the first one says what is right
    assert mean(rec["terms"]["iou"]) == pytest.approx((1 + 1 / 2 + 1 / 4 + 1) / 5) and rec["terms"]["iou"]["n"] == 5
    categories = {name: (block["n"], mean(block["accuracy"])) for name, block in summary["by_category"].items()}
    assert categories == {"": (2, 0.5), "far": (1, 0.0), "near": (2, 1.0)}
    assert "flip_rate" not in summary  # there are no orders


def test_intervals_resample_images():
    """Two images, one all right and one all wrong: a resample has 0, 1/2 or 1. As rows the eight would vary less."""
    rows = [box(f"a{i}") for i in range(4)] + [box(f"b{i}", HIGH) for i in range(4)]
    summary, _ = measured(rows, [answer("[10, 10, 50, 50]")] * 4 + ["?"] * 4, reward(rec=BOXES))
    assert summary["accuracy"] == {"mean": 0.5, "low": 0.0, "high": 1.0}


def test_boxes_are_placed_in_each_rows_own_image():
    """A policy that writes thousandths of the image: the true box is x 0.05 to 0.25 and y 0.1 to 0.5 of the wide one."""
    thousandths = Context(coordinates=lambda: Coordinates("norm1000", lambda size: (1000.0, 1000.0)))
    terms = [term("iou", context=thousandths)]
    text = answer("[50, 100, 250, 500]")
    summary, _ = measured([box("a", WIDE), box("b", HIGH)], [text, text], reward(rec=terms))
    # In the high one, 50 pixels wide, it is [2.5, 10, 12.5, 50]: 100 of 1600 + 400 - 100 pixels.
    assert mean(summary["by_task"]["rec"]["terms"]["iou"]) == pytest.approx((1 + 100 / 1900) / 2)
    assert mean(summary["accuracy"]) == 0.5
    assert summary["format_rate"] is None  # no task has a term of that name


def test_pairs_alone_are_what_they_were():
    rows = [pair("a", 1, "x"), pair("b", 2, "y"), pair("c", 1, "x")]
    texts = [(answer("1"), answer("2")), (answer("1"), answer("1")), ("?", answer("2"))]
    summary, backend = measured(rows, texts, PREFERENCES)
    assert summary == judge_both_orders(RewardModel(Scripted(backend.said)), rows, 2, 64).summary()
    assert mean(summary["accuracy"]) == pytest.approx((1 + 0.5 + 0.5) / 3)


def test_a_mixture_is_over_all_rows():
    """Pairs: both orders right, one order right; boxes: right; numbers: right, wrong."""
    rows = [number("n1", "3", HIGH, "x"), pair("a", 1, "x"), box("b", WIDE, "y"), pair("c", 2, "y"), number("n2", "4", HIGH)]
    texts = [answer("3"), (answer("1"), answer("2")), answer("[10, 10, 50, 50]"), ("?", answer("1")), "four"]
    summary, _ = measured(rows, texts, reward(rec=BOXES, number=NUMBERS))
    assert summary["n"] == 5
    assert mean(summary["accuracy"]) == pytest.approx((1 + 1 + 1 + 0.5 + 0) / 5)
    assert mean(summary["format_rate"]) == pytest.approx((1 + 1 + 1 + 0.5 + 0) / 5)
    one, two, verdict = len(answer("3")), len(answer("[10, 10, 50, 50]")), len(answer("1"))
    assert summary["mean_completion_tokens"] == pytest.approx((one + verdict + two + (1 + verdict) / 2 + 4) / 5)
    accuracies = {task: (block["n"], mean(block["accuracy"])) for task, block in summary["by_task"].items()}
    assert accuracies == {"number": (2, 0.5), "preference": (2, 0.75), "rec": (1, 1.0)}
    assert mean(summary["by_task"]["preference"]["terms"]["format"]) == 0.75
    categories = {name: (block["n"], mean(block["accuracy"])) for name, block in summary["by_category"].items()}
    assert categories == {"": (1, 0.0), "x": (2, 1.0), "y": (2, 0.75)}
    # Of the pairs alone.
    assert mean(summary["both_orders_correct"]) == 0.5
    assert mean(summary["flip_rate"]) == 0.5
    assert mean(summary["first_position_rate"]) == pytest.approx((0.5 + 1) / 2)  # "a": one of two; "c": the only one


def test_batches_hold_rows_of_similar_length_and_progress_counts_completions():
    rows = [box("a" * size) for size in (9, 1, 8, 2)] + [pair("p", 1)]
    progress = []
    texts = ["?"] * 4 + [("?", "?")]
    _, backend = measured(rows, texts, reward(rec=BOXES), on_progress=progress.append)
    assert backend.batches == [["p", "p"], ["a", "aa"], ["a" * 8, "a" * 9]]
    assert progress == [2, 2, 2] and num_completions(rows) == 6


def test_a_reward_is_given_what_the_trainer_gives_it():
    given = {}

    def mine(completions, **columns):
        given.update(columns | {"completions": completions})
        return [1.0] * len(completions)

    rows = [box("a", WIDE, "near"), box("bb", HIGH, "far")]
    measured(rows, ["yes", "no"], reward(rec=[Term("mine", mine)]))
    assert [completion[0]["content"] for completion in given["completions"]] == ["yes", "no"]
    assert [len(ids) for ids in given["completion_ids"]] == [3, 2]
    assert given["id"] == ["a", "bb"] and given["task"] == ["rec", "rec"] and given["category"] == ["near", "far"]
    assert given["solution"] == ["[10, 10, 50, 50]"] * 2 and given["label"] == [None, None] and given["level"] == [0, 0]
    assert [images[0].size for images in given["images"]] == [(200, 100), (50, 100)]
    first, second = given["prompts"][1][0]["content"]
    assert first["image"] is given["images"][1][0] and second["text"] == "Where is bb?"
    assert given["trainer_state"].global_step == 0
    given["log_metric"]("name", 1.0)  # goes nowhere


def test_terms_beyond_zero_and_one_have_the_interval_of_a_mean():
    """Two rows of one image with +1 and -1: their mean 0 is no share of 0 out of 1, and nothing says how far it is off."""
    sign = Term("sign", lambda completions, **columns: [1.0 if "3" in text[0]["content"] else -1.0 for text in completions])
    summary, _ = measured([number("a", "3"), number("b", "4")], [answer("3"), answer("4")], reward(number=[*NUMBERS, sign]))
    assert summary["by_task"]["number"]["terms"]["sign"] == {"n": 2, "mean": 0.0, "low": 0.0, "high": 0.0}
    assert summary["accuracy"]["low"] < 1.0  # one image that is all right does not say "certainly"


class Unreliable:
    """A language model that says "1", but fails on some answers."""

    def __init__(self, fails: str):
        self.fails = fails

    def __call__(self, prompts, read):
        return [Opinion(None, "timeout") if self.fails in prompt else Opinion(1.0) for prompt in prompts]


def judged_reward(fails: str) -> RoutedReward:
    context = Context(text_model=Unreliable(fails))
    return reward(text=[term("judged", context=context), term("think_answer", "format")])


def text(name: str) -> TaskRow:
    return TaskRow(name, (), f"What is {name}?", "a car", "text")


def test_rows_whose_judge_failed_are_counted_and_left_out():
    rows = [text("a"), text("b"), text("c"), text("d")]
    texts = [answer("an automobile"), answer("a dodo"), "?", "<answer>a car</answer>"]
    summary, _ = measured(rows, texts, judged_reward(fails="dodo"))
    assert summary["n"] == 4 and summary["unscored"] == 1
    assert mean(summary["accuracy"]) == pytest.approx(2 / 3)  # "a" and "d" of "a", "c" and "d"
    assert mean(summary["format_rate"]) == 0.5  # of "a" and "b": the judge has no part in it
    terms = summary["by_task"]["text"]["terms"]
    assert terms["judged"]["n"] == 3 and terms["format"]["n"] == 4


def test_nothing_scored_is_no_accuracy_and_too_many_failures_end_the_run():
    rows = [text(str(i)) for i in range(8)]
    summary, _ = measured(rows, [answer("a dodo")] * 8, judged_reward(fails="dodo"))
    assert summary["accuracy"] is None and summary["unscored"] == 8 and mean(summary["format_rate"]) == 1.0
    assert summary["by_task"]["text"]["terms"]["judged"] is None
    rows = [text(str(i)) for i in range(64)]
    with pytest.raises(TooManyFailures, match="timeout 32"):
        measured(rows, [answer("a dodo")] * 64, judged_reward(fails="dodo"), batch_size=32)


def test_images_beyond_the_limits_are_refused():
    with pytest.raises(ImageError, match="more than the limit of 10,000"):
        measured([box("a", WIDE)], ["?"], reward(rec=BOXES), limits=ImageLimits(max_pixels=10_000))
