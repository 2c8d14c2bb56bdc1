"""Blocks of pairs: the least that a training reads at once, and how many of them are in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.vectors import from_vectors

OPEN_BYTES = 1 << 29  # of the encoded images of all open blocks, over all processes
MAX_STREAMS = 256  # a batch of 4096 takes 16 rows of each
READS_AT_ONCE = 8  # blocks; a request to S3 waits 30 ms for its first byte


class Rows(Protocol):
    """Where training rows come from."""

    block_sizes: list[int]  # rows with a usable image
    block_bytes: list[int]  # bytes of their images, about

    def read(self, block: int) -> pa.Table:
        """image: binary; captions: list<string>; optionally pair_id: int64, class_id: int32,
        text_embedding: schema.vector(D), matched: map<int32, float>, the classes of `soft_classes`."""


@dataclass
class Block:
    """N rows."""

    images: list[bytes]  # empty where they are kept decoded
    captions: list[list[str]]
    class_ids: np.ndarray  # int64 [N]
    pair_ids: np.ndarray  # int64 [N]
    text_ND: np.ndarray | None  # float16
    matched: list[dict[int, float]]  # empty where the rows have none
    pixels: np.ndarray | None = None  # uint8 [N, 3, H, W], where images are kept decoded
    stand_in: dict[int, tuple[int, int]] = field(default_factory=dict)  # row -> the (block, row) of its pixels


def load_block(rows: Rows, block: int) -> Block:
    table = rows.read(block)
    assert table.num_rows == rows.block_sizes[block], "block_sizes do not count the rows"
    names = table.column_names
    unknown = np.full(table.num_rows, -1, np.int64)
    return Block(
        images=table["image"].to_pylist(),
        captions=table["captions"].to_pylist(),
        class_ids=table["class_id"].to_numpy().astype(np.int64) if "class_id" in names else unknown,
        pair_ids=table["pair_id"].to_numpy() if "pair_id" in names else unknown,
        text_ND=from_vectors(table["text_embedding"]) if "text_embedding" in names else None,
        matched=[dict(row) for row in table["matched"].to_pylist()] if "matched" in names else [],
    )


def count_streams(rows: Rows, batch_size: int, wanted: int = 0) -> int:
    """The number of streams of a batch (order.py), each of which has one block open; a function of the data alone.

    wanted: customize.streams; 0 = as many as OPEN_BYTES has room for.
    """
    mean_bytes = max(1, sum(rows.block_bytes) // max(1, len(rows.block_bytes)))
    return max(1, min(wanted or min(OPEN_BYTES // mean_bytes, MAX_STREAMS), batch_size))


def fits(rows: Rows) -> bool:
    """Whether every process keeps all encoded images that it has read."""
    return sum(rows.block_bytes) <= OPEN_BYTES


def pixels_bytes(rows: Rows, image_size: int) -> int:
    """Bytes of all images, decoded."""
    return sum(rows.block_sizes) * 3 * image_size**2


def held_bytes(
    rows: Rows, num_streams: int, num_processes: int, cache_gb: float, image_size: int, augments: bool
) -> int:
    """Memory of one of the processes that make batches: its open blocks, or all images decoded, and those blocks that
    are being read, twice: as they are stored and as they are used."""
    largest = max(rows.block_bytes, default=0)
    own = -(-num_streams // num_processes)  # streams
    reading = 2 * min(own, READS_AT_ONCE) * largest
    decoded = pixels_bytes(rows, image_size)
    if not augments and decoded <= cache_gb * 2**30:
        return decoded + reading
    everything = sum(rows.block_bytes)
    return reading + (everything if fits(rows) else min(everything, (own + 1) * largest))


def check_batch_size(rows: Rows, batch_size: int) -> None:
    if batch_size > sum(rows.block_sizes):
        raise ConfigError(
            f"customize.batch_size {batch_size} is larger than the {sum(rows.block_sizes)} pairs to train on (those "
            "with an image and, of a retrieved set, a vector of the caption); make it smaller or retrieve more"
        )
