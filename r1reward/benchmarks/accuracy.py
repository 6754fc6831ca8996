"""How often a policy is right on a split of held-out rows: preference pairs, visual tasks, or both.

    preference rows    judged in both orders of their responses (`both_orders`); a row counts with the mean of the two
    task rows          completed once, greedily, and scored by the reward that trains, called as the trainer calls it; a row
                       is right where the reward says so: its first term is 0.5 or more, for boxes an IoU of 0.5

Intervals of splits with task rows are 95 %, from resampled images: rows of one image are right or wrong together.

Shapes: N rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from r1reward.benchmarks.both_orders import BothOrders, judge_both_orders
from r1reward.benchmarks.grounding import image_numbers, ratios
from r1reward.benchmarks.sharing import in_shared_batches
from r1reward.data.images import DEFAULT_LIMITS, ImageLimits, decode_columns
from r1reward.data.rows import PREFERENCE, Row, TaskRow, to_training_row
from r1reward.inference.backend import Completion, Sampling
from r1reward.inference.reward_model import RewardModel
from r1reward.rewards.tasks import CompositeReward

FORMAT = "format"  # the term that says whether a text is well formed


@dataclass(frozen=True)
class Outcome:
    """What became of one row.

    Attributes:
        right: 1.0 or 0.0, of a preference row the mean of both orders; None where the first term is lacking.
        formatted: The same of the format; None where the task has no such term, or it is lacking.
        tokens: Length of the completion in tokens, of a preference row the mean of both orders.
        terms: The reward's terms by name; None where one does not apply, or failed.
    """

    right: float | None
    formatted: float | None
    tokens: float
    terms: dict[str, float | None]


def num_completions(rows: Sequence[Row]) -> int:
    """How many completions `measure` samples of the rows."""
    return sum(2 if row.task == PREFERENCE else 1 for row in rows)


def measure(
    reward_model: RewardModel,
    rows: list[Row],
    reward: CompositeReward,
    batch_size: int,
    max_new_tokens: int,
    on_progress: Callable[[int], None] = lambda done: None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> dict:
    """Accuracy and what goes with it, JSON-able; of preference rows alone it is `BothOrders.summary`, else:

        n                        rows; `unscored`, those without an accuracy: their reward, such as a language model, failed
        accuracy                 over all others
        format_rate              share of well-formed completions: the term `format` is 1; None where no task has it
        mean_completion_tokens   a number
        by_category              by category of question: `n`, `accuracy`
        by_task                  by task: `n`, `accuracy`, and `terms` by name: the mean of each over the `n` rows that have it

    With preference rows among them also `both_orders_correct`, `flip_rate` and `first_position_rate`, of those rows.

    Rates and means are {mean, low, high}, or None where there is nothing to measure them on. Processes of one training share
    the work, and all must call this.

    Args:
        reward_model: The policy.
        rows: The rows, the same on all processes.
        reward: Of the run; with task rows a `RoutedReward` that has their tasks.
        batch_size: Completions per generated batch.
        max_new_tokens: Longest completion in tokens.
        on_progress: Called with the number of completions just made, on each process with those of all.
        limits: Images beyond them are refused.

    Raises:
        TooManyFailures: A judge or a reward function failed too often.
        ImageError: An image that cannot be decoded.
    """
    pairs, questions = [row for row in rows if row.task == PREFERENCE], [row for row in rows if row.task != PREFERENCE]
    judged = None
    if pairs or not questions:
        judged = judge_both_orders(reward_model, pairs, batch_size, max_new_tokens, on_progress)
    if judged is not None and not questions:
        return judged.summary()

    def answered(batch: list[int]) -> list[Outcome]:
        chosen = [questions[position] for position in batch]
        drawn = reward_model.backend.complete(chosen, 1, Sampling(max_new_tokens), 0)
        return outcomes(chosen, [completion for (completion,) in drawn], reward, limits)

    found = in_shared_batches([len(row.text()) for row in questions], batch_size, answered, on_progress)
    if judged is None:
        return summarise(questions, found)
    of_pairs = judged.summary()
    kept = {name: of_pairs[name] for name in ("both_orders_correct", "flip_rate", "first_position_rate")}
    return summarise([*pairs, *questions], [*_of_pairs(judged), *found]) | kept


def outcomes(
    rows: Sequence[TaskRow],
    completions: Sequence[Completion],
    reward: CompositeReward,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> list[Outcome]:
    """Score one batch of completions with the reward of a run, which is given what the trainer gives it.

    The metrics that a reward logs go nowhere; `trainer_state` is that of a training that has not begun, and of
    `completion_ids` only their number is true.
    """
    from transformers import TrainerState
    from trl.data_utils import prepare_multimodal_messages

    inputs = decode_columns([to_training_row(row) for row in rows], limits)
    found: dict[int, Outcome] = {}
    for task in dict.fromkeys(row.task for row in rows):
        chosen = [position for position, row in enumerate(rows) if row.task == task]
        own = [inputs[position] for position in chosen]
        columns = {name: [row[name] for row in own] for name in own[0] if name != "prompt"}
        columns |= {
            "prompts": [prepare_multimodal_messages(row["prompt"], images=row["images"]) for row in own],
            "completions": [[{"role": "assistant", "content": completions[position].text}] for position in chosen],
            "completion_ids": [[0] * completions[position].tokens for position in chosen],
            "trainer_state": TrainerState(),
            "log_metric": lambda name, value: None,
            "log_extra": lambda name, values: None,
        }
        of_task = _score(reward.rewards[task], columns)
        tokens = [completions[position].tokens for position in chosen]
        found |= {
            position: Outcome(right, None if terms.get(FORMAT) is None else float(terms[FORMAT] == 1), count, terms)
            for position, (right, terms), count in zip(chosen, of_task, tokens, strict=True)
        }
    return [found[position] for position in range(len(rows))]


def summarise(rows: Sequence[Row], found: Sequence[Outcome]) -> dict:
    """The numbers of `measure` over rows and what became of them."""
    images = image_numbers(rows)
    categories, tasks = np.array([row.category for row in rows]), np.array([row.task for row in rows])
    right, formatted = [one.right for one in found], [one.formatted for one in found]
    everything = _means({"accuracy": right, "format_rate": formatted}, images)

    def accuracy(chosen: np.ndarray) -> dict:
        return {"n": len(chosen)} | _means({"accuracy": [right[i] for i in chosen]}, images[chosen])

    def terms(chosen: np.ndarray) -> dict:
        values = {name: [found[i].terms[name] for i in chosen] for name in found[chosen[0]].terms}
        means = _means(values, images[chosen])
        return {name: mean and {"n": sum(v is not None for v in values[name])} | mean for name, mean in means.items()}

    return {
        "n": len(rows),
        "unscored": right.count(None),
        **everything,
        "mean_completion_tokens": sum(one.tokens for one in found) / len(found),
        "by_category": {str(name): accuracy(np.flatnonzero(categories == name)) for name in np.unique(categories)},
        "by_task": {
            str(name): accuracy(chosen) | {"terms": terms(chosen)}
            for name in np.unique(tasks)
            for chosen in [np.flatnonzero(tasks == name)]
        },
    }


def _score(reward: CompositeReward, columns: dict) -> list[tuple[float | None, dict[str, float | None]]]:
    """For each row of one task whether it is right, and its terms by name."""
    import torch

    terms = {function.__name__: function(**columns) for function in reward.reward_functions()}
    # As the trainer holds them, so that a value at the border falls to the same side.
    right = reward.right(*(torch.tensor([torch.nan if value is None else value for value in of]) for of in terms.values()))
    first = next(iter(terms.values()))
    return [
        (None if first[row] is None else float(is_right), {name: values[row] for name, values in terms.items()})
        for row, is_right in enumerate(right.tolist())
    ]


def _of_pairs(judged: BothOrders) -> list[Outcome]:
    both = zip(judged.rows, zip(judged.forward, judged.backward, strict=True), strict=True)
    found = []
    for row, (forward, backward) in both:
        choices = forward.verdict.choice, backward.verdict.choice
        right = ((choices[0] == row.label) + (choices[1] == row.swapped().label)) / 2
        formatted = (forward.verdict.formatted + backward.verdict.formatted) / 2
        found.append(Outcome(right, formatted, (forward.tokens + backward.tokens) / 2, {FORMAT: formatted}))
    return found


def _means(values: dict[str, Sequence[float | None]], images: np.ndarray) -> dict[str, dict | None]:
    """The mean of each with its interval from resampled images, without the rows that lack it."""
    numbers = {name: ([v or 0.0 for v in of], [v is not None for v in of]) for name, of in values.items()}
    no_shares = [name for name, (above, _) in numbers.items() if not all(0 <= value <= 1 for value in above)]
    return ratios(numbers, images, no_shares=no_shares)
