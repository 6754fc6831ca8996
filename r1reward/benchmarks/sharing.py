"""The work of an evaluation in batches, shared among the processes of one training."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")


def in_shared_batches(
    lengths: Sequence[int],
    batch_size: int,
    work: Callable[[list[int]], Sequence[Result]],
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Result]:
    """What `work` returns for each of N things, done in batches of similar length, so that little is padded.

    Each process works on its share of the batches and returns all results. The batches are those of one process, so that the
    results are the same however many there are. All processes must call this, with the same lengths.

    Args:
        lengths: (N,) the things' lengths, in any unit.
        batch_size: Things per batch.
        work: Takes the positions of a batch; returns one result for each, which can be pickled.
        on_progress: Called with the number of things just done, on each process with those of all.

    Returns:
        N results, in the order of `lengths`.
    """
    from torch import distributed

    shared = distributed.is_available() and distributed.is_initialized()
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if shared else (0, 1)
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    done: dict[int, Result] = {}
    for start in range(0, len(batches), world):
        at_once = batches[start : start + world]
        for batch in at_once[rank : rank + 1]:  # none where fewer are left than there are processes
            done |= zip(batch, work(batch), strict=True)
        on_progress(sum(map(len, at_once)))
    parts = [done]
    if shared:
        parts = [{} for _ in range(world)]
        distributed.all_gather_object(parts, done)
    done = {position: result for part in parts for position, result in part.items()}
    return [done[position] for position in range(len(lengths))]
