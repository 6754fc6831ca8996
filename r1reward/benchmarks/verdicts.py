"""Sampled verdicts: one line of `verdicts.jsonl` each, and all of them as arrays.

Shapes: N items, 2 orders (forward, backward), K votes for each item and order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields

import numpy as np

from r1reward.benchmarks.items import Item
from r1reward.messages import listed
from r1reward.rewards.verdict import is_format

ORDERS = ("forward", "backward")


@dataclass(frozen=True)
class Vote:
    """One sampled verdict on one item in one order of its responses.

    Attributes:
        item: Id of the item (`Item.row.id`).
        order: "forward" shows the responses as the row has them, "backward" shows them swapped.
        vote: Number of the sample, 0 to K - 1.
        choice: The response said to be better, 1 or 2 in the order shown; None if that could not be read.
        rejection: The fault of the format (`rewards.verdict.REJECTIONS`), or `failure`; None if there is none. There may be a
            choice anyway.
        tokens: Length of the text in tokens; 0 where that is not known.
        text: What the reward model wrote.
        failure: Why it wrote nothing (`inference.backend.Completion`); None if it did.
    """

    item: str
    order: str
    vote: int
    choice: int | None
    rejection: str | None
    tokens: int
    text: str
    failure: str | None = None

    def __post_init__(self):
        if self.order not in ORDERS:
            raise ValueError(f"{self._name()}: order must be one of {ORDERS}")
        if self.choice not in (1, 2, None):
            raise ValueError(f"{self._name()}: choice must be 1, 2 or null, got {self.choice!r}")

    def to_dict(self) -> dict:
        """The fields of one line of `verdicts.jsonl`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> "Vote":
        """The vote in such a line; further fields are ignored.

        Raises:
            ValueError: A field is missing or has no legal value.
        """
        missing = [field.name for field in fields(cls) if field.name not in data and field.default is MISSING]
        if missing:
            raise ValueError(f"a vote without {', '.join(missing)}: it has {sorted(data)}")
        return cls(**{field.name: data[field.name] for field in fields(cls) if field.name in data})

    def _name(self) -> str:
        return _name(self.item, self.order, self.vote)


@dataclass(frozen=True)
class Table:
    """All votes on the items of a benchmark, in the order of the items.

    Attributes:
        ids: The N item ids.
        judged: (N, 2) bool, which orders of an item were judged.
        choices: (N, 2, K) int8, the response said to be better in the numbering of the FORWARD order: 1 is `responses[0]` of
            the row in both orders; 0 is none (unparsable, or not judged).
        tokens: (N, 2, K) int64, lengths in tokens, 0 where not judged or not known.
        malformed: (N, 2, K) bool, the text does not keep to the format, whether or not a choice could be read.
    """

    ids: tuple[str, ...]
    judged: np.ndarray
    choices: np.ndarray
    tokens: np.ndarray
    malformed: np.ndarray

    @classmethod
    def build(
        cls, items: Sequence[Item], votes: Iterable[Vote], requests: Sequence[tuple[str, str]], num_votes: int = 1
    ) -> "Table":
        """Sort votes into a table.

        Args:
            items: The items, ids unique.
            votes: Votes 0 to K - 1 of each request, in any order.
            requests: The (item id, order) pairs that were to be judged (`protocols.requests`).
            num_votes: K.

        Raises:
            ValueError: Missing or repeated votes, or votes that nobody asked for: which ones, the first ten of each.
        """
        if num_votes < 1:
            raise ValueError(f"num_votes must be at least 1, got {num_votes}")
        ids = tuple(item.row.id for item in items)
        position = {id: i for i, id in enumerate(ids)}
        if len(position) < len(ids):
            raise ValueError(f"item ids must be unique: {listed([id for i, id in enumerate(ids) if position[id] != i], ', ')}")
        judged = np.zeros((len(ids), 2), dtype=bool)
        for id, order in requests:
            if id not in position:
                raise ValueError(f"a verdict on {id!r} is requested, but there is no such item")
            judged[position[id], ORDERS.index(order)] = True
        choices = np.zeros((len(ids), 2, num_votes), dtype=np.int8)
        tokens = np.zeros((len(ids), 2, num_votes), dtype=np.int64)
        malformed, seen = np.zeros((2, len(ids), 2, num_votes), dtype=bool)
        unwanted, repeated = [], []
        for vote in votes:
            i, order = position.get(vote.item), ORDERS.index(vote.order)
            if i is None or not judged[i, order] or not 0 <= vote.vote < num_votes:
                unwanted.append(vote._name())
            elif seen[i, order, vote.vote]:
                repeated.append(vote._name())
            else:
                seen[i, order, vote.vote] = True
                tokens[i, order, vote.vote] = vote.tokens
                malformed[i, order, vote.vote] = not is_format(vote.rejection)
                if vote.choice is not None:
                    choices[i, order, vote.vote] = vote.choice if order == 0 else 3 - vote.choice
        missing = [_name(ids[i], ORDERS[order], k) for i, order, k in np.argwhere(judged[:, :, None] & ~seen)]
        kinds = {"missing": missing, "repeated": repeated, "not asked for": unwanted}
        problems = [f"{len(names)} {kind}: {listed(names, '; ')}" for kind, names in kinds.items() if names]
        if problems:
            raise ValueError("\n  ".join(["the votes do not fit the items and orders to judge:", *problems]))
        return cls(ids, judged, choices, tokens, malformed)

    @property
    def num_votes(self) -> int:
        """K, the number of votes for each item and order."""
        return self.choices.shape[2]


def _name(item: str, order: str, vote: int) -> str:
    return f"item {item!r}, {order}, vote {vote}"
