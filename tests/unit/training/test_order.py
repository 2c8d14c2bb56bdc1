"""The order of the rows: whole epochs, and each block read by one process."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from react_ray.training.order import Order

SIZES = np.random.default_rng(0).integers(0, 16, 600).tolist()  # 600 blocks, some of them empty
ALL = range(240)


def order(streams: int = 60, seed: int = 0, sizes: list[int] = SIZES) -> Order:
    return Order(sizes, len(ALL), streams, seed)


def taken(given: Order, epoch: int, slots: range = ALL) -> list[tuple[int, int]]:
    steps = range(epoch * given.steps_per_epoch, (epoch + 1) * given.steps_per_epoch)
    places = [given.places(step, slots) for step in steps]
    return [pair for p in places for pair in zip(p.block_B.tolist(), p.row_B.tolist(), strict=True)]


@pytest.mark.parametrize("streams", [1, 7, 60, 240])
def test_an_epoch_takes_every_row_once_but_for_those_that_fill_no_batch(streams: int) -> None:
    given = order(streams)
    epochs = [taken(given, epoch) for epoch in range(2)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == given.num_rows // 240 * 240
        assert all(0 <= row < SIZES[block] for block, row in epoch)
    assert epochs[0] != epochs[1] and set(epochs[0]) != set(epochs[1])
    assert taken(order(streams, seed=1), 0) != epochs[0]


def test_a_batch_comes_from_many_places_and_its_neighbour_from_almost_the_same() -> None:
    given = order()
    blocks = [set(given.places(step, ALL).block_B.tolist()) for step in range(10)]
    assert all(len(some) >= 30 for some in blocks[:2]), "neighbours begin in the block where they meet"
    assert all(len(some) >= 50 for some in blocks[5:])
    assert all(len(one & other) >= 20 for one, other in pairwise(blocks))
    one_place = order(1)
    assert all(len(set(one_place.places(step, ALL).block_B.tolist())) < 40 for step in range(10))


def blocks_read(given: Order, num_workers: int, num_loaders: int) -> int:
    """Blocks that are read in one epoch by processes that keep only what their last batch used."""
    reads = 0
    for worker in range(num_workers):
        local = len(ALL) // num_workers
        slots = range(worker * local, (worker + 1) * local)
        shares = [given.share(slots, loader, num_loaders) for loader in range(num_loaders)]
        assert [slot for share in shares for slot in share] == list(slots)
        for share in shares:
            held: set[int] = set()
            for step in range(given.steps_per_epoch):
                used = set(given.places(step, share).block_B.tolist())
                reads, held = reads + len(used - held), used
    return reads


@pytest.mark.parametrize(("num_workers", "num_loaders"), [(1, 1), (1, 4), (2, 3), (3, 4), (5, 1), (8, 4)])
def test_all_processes_together_read_each_block_about_once(num_workers: int, num_loaders: int) -> None:
    given, num_blocks = order(), np.count_nonzero(SIZES)
    reads, processes = blocks_read(given, num_workers, num_loaders), num_workers * num_loaders
    assert 0.99 * num_blocks <= reads <= num_blocks * (1 + (num_workers - 1) / 60) + 2 * processes
    assert reads <= 1.2 * num_blocks


def test_the_rows_of_few_blocks_are_shuffled_as_one() -> None:
    given = order(240, sizes=[4800])
    counts = Counter(row * 20 // 4800 for _, row in (pair for pair in taken(given, 0)[:480]))
    assert len(counts) == 20 and max(counts.values()) < 60, "the first batches come from everywhere"
