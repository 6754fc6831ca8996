"""A data set from which each row of a rollout batch is read once.

TRL's sampler names every prompt G times, and the whole rollout batch again for each of its micro-batches, of which only the
first is used. Reading a row can mean decoding it, so what was read for one rollout batch is kept until the next.
"""

from collections.abc import Sequence


class ReadOnce:
    """Wraps a map-style data set; keeps the rows of the last batch that was asked for."""

    def __init__(self, dataset):
        self.dataset = dataset
        self._rows: dict[int, dict] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        """Rows at `indices`, in this order; called by torch's data loader with a whole batch."""
        rows = {index: self._rows[index] if index in self._rows else self.dataset[index] for index in dict.fromkeys(indices)}
        self._rows = rows
        return [rows[index] for index in indices]
