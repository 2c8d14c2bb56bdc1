"""The rows of a training on retrieved pairs and labelled images, which are mixed by repeating the labelled ones.

A block of labelled images that is repeated is a block of its own each time, so that order.py spreads the copies over
the epoch.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from react_ray.counted import counted
from react_ray.stages.training.rows import RetrievedRows
from react_ray.training.labelled_share import copies


class MixedRows:
    """The blocks of the pairs, then those of the labelled images, each as often as `copies` says.

    labelled: images as pairs (labelled_pairs.py). share: of the labelled images in an epoch, as
    customize.labelled_share; with 1 no pair is read. Labelled rows have the pair_id -1.
    """

    def __init__(self, pairs: RetrievedRows, labelled: RetrievedRows, share: float) -> None:
        self.pairs, self.labelled = pairs, labelled
        num_pairs = sum(pairs.block_sizes) if share < 1 else 0
        self.left_out = pairs.left_out if num_pairs else ""
        self._blocks = [(block, -1) for block in range(len(pairs.block_sizes) if num_pairs else 0)]
        self.block_sizes = [pairs.block_sizes[block] for block, _ in self._blocks]
        self.block_bytes = [pairs.block_bytes[block] for block, _ in self._blocks]
        class_ids = [labelled.class_ids(block) for block in range(len(labelled.block_sizes))]
        copies_N = copies(np.concatenate(class_ids), num_pairs, share)
        self._copies = np.split(copies_N, np.cumsum([len(ids) for ids in class_ids])[:-1])
        for block, copies_B in enumerate(self._copies):
            for turn in range(copies_B.max(initial=0)):
                size = int((copies_B > turn).sum())
                self._blocks.append((block, turn))
                self.block_sizes.append(size)
                self.block_bytes.append(labelled.block_bytes[block] * size // len(copies_B))
        self.labelled_N = np.repeat(np.concatenate(class_ids), copies_N)  # int64: class ids, as often as they train

    def told(self) -> str:
        num_rows, num_images = sum(self.block_sizes), sum(self.labelled.block_sizes)
        return (
            f"{len(self.labelled_N):,} of the {num_rows:,} images of an epoch are labelled "
            f"({100 * len(self.labelled_N) / num_rows:.0f} %): {counted(num_images, 'image')} of "
            f"{counted(len(np.unique(self.labelled_N)), 'class', 'classes')}, repeated"
        )

    def read(self, block: int) -> pa.Table:
        number, turn = self._blocks[block]
        if turn < 0:
            return self.pairs.read(number)
        rows = self.labelled.read(number).filter(pa.array(self._copies[number] > turn))
        return rows.set_column(rows.column_names.index("pair_id"), "pair_id", pa.array([-1] * len(rows), pa.int64()))
