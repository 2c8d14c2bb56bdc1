"""The order in which a training takes its pairs: which row fills which slot of the global batch of a step.

Rows are stored in blocks (of about 4 MB, blocks.py), the least that is read at once. In each epoch the blocks are
shuffled, and so are the rows of each, which makes one sequence of all rows. The sequence is cut into `num_streams`
streams, each of which owns some slots of the batch and has as many rows as it needs for them: a batch takes the next
rows of every stream.

The streams are a function of the data and the batch size, not of how many processes read. So the batch of a step is
the same for any number of workers, and can be made again after any interruption; and a process that fills some
neighbouring slots reads their streams alone. All processes together read each block once per epoch, and twice only a
block, or a stream, that two of them share: with W workers, P processes in all, K blocks and S streams at most
(P - 1) / K + (W - 1) / S more than the data. What it costs is that rows are mixed by block: a batch comes from about
`num_streams` places of the data, and from half as many where an epoch begins and ends, because neighbouring streams
meet there. (An exchange of rows between processes would mix them freely, and send every image over the network once
more.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Places:
    """Where the rows of some slots are stored, B of each."""

    block_B: np.ndarray  # int64
    row_B: np.ndarray  # int64, in its block
    draw_B: np.ndarray  # float64 in [0, 1), a number of the row that differs in each epoch


class Order:
    def __init__(self, block_sizes: Sequence[int], batch_size: int, num_streams: int, seed: int) -> None:
        self.sizes_K, self.batch_size, self.seed = np.asarray(block_sizes, np.int64), batch_size, seed
        self.num_rows = int(self.sizes_K.sum())
        self.steps_per_epoch = self.num_rows // batch_size
        self.first_S = np.arange(num_streams + 1) * batch_size // num_streams  # slot of each stream, and the end
        self._cut_S = self.num_rows * self.first_S // batch_size
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._shuffled: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}  # those that the last step used

    def places(self, step: int, slots: range) -> Places:
        """Where the rows of these slots are in the global batch of a step, counted from the first step of all."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order_K, end_K = self._blocks(epoch)
        slot_B = np.arange(slots.start, slots.stop)
        stream_B = np.searchsorted(self.first_S, slot_B, "right") - 1
        first_B = self.first_S[stream_B]
        nth_B = index * (self.first_S[stream_B + 1] - first_B) + slot_B - first_B
        # Each second stream runs backwards, so that neighbours use the block in which they meet at the same time.
        backwards_B = self._cut_S[stream_B + 1] - 1 - nth_B
        at_B = np.where(stream_B % 2, backwards_B, self._cut_S[stream_B] + nth_B)
        turn_B = np.searchsorted(end_K, at_B, "right")
        block_B = order_K[turn_B]
        row_B, draw_B = at_B - (end_K[turn_B] - self.sizes_K[block_B]), np.empty(len(at_B))
        used: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        for block in np.unique(block_B).tolist():
            own_B, key = block_B == block, (epoch, block)
            used[key] = order_N, draw_N = self._shuffled.get(key) or self._shuffle(*key)
            row_B[own_B] = order_N[row_B[own_B]]
            draw_B[own_B] = draw_N[row_B[own_B]]
        self._shuffled = used
        return Places(block_B, row_B, draw_B)

    def share(self, slots: range, part: int, num_parts: int) -> range:
        """The part of these slots that one of `num_parts` processes fills: whole streams, if there are enough."""
        ideal = [slots.start + len(slots) * nth // num_parts for nth in range(num_parts + 1)]
        inside_S = self.first_S[(self.first_S > slots.start) & (self.first_S < slots.stop)]
        if len(inside_S) >= num_parts - 1 > 0:
            ends = len(inside_S) * np.arange(1, num_parts) // num_parts
            ideal[1:-1] = inside_S[ends].tolist()
        return range(ideal[part], ideal[part + 1])

    def _shuffle(self, epoch: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a block in the order of an epoch, and the number drawn for each row."""
        generator, size = np.random.default_rng([self.seed, epoch, block]), int(self.sizes_K[block])
        return generator.permutation(size), generator.random(size)

    def _blocks(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The blocks in their order, and the number of rows up to the end of each."""
        if epoch not in self._epochs:
            self._epochs.clear()
            order_K = np.random.default_rng([self.seed, epoch]).permutation(len(self.sizes_K))
            self._epochs[epoch] = order_K, self.sizes_K[order_K].cumsum()
        return self._epochs[epoch]
