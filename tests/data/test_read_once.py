"""Rows of a rollout batch are read once, however often the sampler names them."""

from r1reward.data.read_once import ReadOnce


class Counting:
    def __init__(self):
        self.reads = []

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.reads.append(index)
        return {"index": index}


def test_each_row_of_a_batch_is_read_once():
    source = Counting()
    rows = ReadOnce(source)
    for _ in range(3):  # a rollout batch of two prompts, three micro-batches
        assert [row["index"] for row in rows.__getitems__([4, 4, 7, 7])] == [4, 4, 7, 7]
    assert source.reads == [4, 7]


def test_rows_of_an_earlier_batch_are_let_go():
    source = Counting()
    rows = ReadOnce(source)
    rows.__getitems__([1, 2])
    rows.__getitems__([2, 3])
    assert rows[1] == {"index": 1}
    assert source.reads == [1, 2, 3, 1]
    assert len(rows) == 10
