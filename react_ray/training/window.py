"""Rows of pairs in memory: one window is some parts of the rows that are shuffled together, and this is what it
costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.vectors import from_vectors

WINDOW_BYTES = 1 << 29  # of encoded images


class Rows(Protocol):
    """Where training rows come from."""

    part_sizes: list[int]  # rows with a usable image
    part_bytes: list[int]  # bytes of their images, about

    def read(self, part: int) -> pa.Table:
        """image: binary; captions: list<string>; optionally pair_id: int64, class_id: int32,
        text_embedding: schema.vector(D), matched: map<int32, float>, the classes of `soft_classes`."""


@dataclass
class Window:
    """N rows of some parts."""

    images: list[bytes]
    captions: list[list[str]]
    class_ids: np.ndarray  # int64 [N]
    pair_ids: np.ndarray  # int64 [N]
    text_ND: np.ndarray | None  # float16
    stand_in: np.ndarray  # int64 [N]: the row whose image and caption are taken; the row itself if it can be decoded
    matched: list[dict[int, float]]  # empty where the rows have none
    pixels: np.ndarray | None = None  # uint8 [N, 3, H, W], where images are kept decoded


def load_window(rows: Rows, parts: tuple[int, ...]) -> Window:
    table = pa.concat_tables([rows.read(part) for part in parts])
    assert table.num_rows == sum(rows.part_sizes[part] for part in parts), "part_sizes do not count the rows"
    names = table.column_names
    unknown = np.full(table.num_rows, -1, np.int64)
    return Window(
        images=table["image"].to_pylist(),
        captions=table["captions"].to_pylist(),
        class_ids=table["class_id"].to_numpy().astype(np.int64) if "class_id" in names else unknown,
        pair_ids=table["pair_id"].to_numpy() if "pair_id" in names else unknown,
        text_ND=from_vectors(table["text_embedding"]) if "text_embedding" in names else None,
        stand_in=np.arange(table.num_rows),
        matched=[dict(row) for row in table["matched"].to_pylist()] if "matched" in names else [],
    )


def parts_of_window(rows: Rows) -> int:
    """The number of parts that are shuffled together unless the recipe says; a function of the data alone."""
    return max(1, int(WINDOW_BYTES * len(rows.part_bytes) / max(1, sum(rows.part_bytes))))


def pixels_bytes(rows: Rows, image_size: int) -> int:
    """Bytes of all images, decoded."""
    return sum(rows.part_sizes) * 3 * image_size**2


def held_bytes(rows: Rows, window_parts: int, cache_gb: float, image_size: int, augments: bool) -> int:
    """Memory of a process that makes batches.

    Two windows, one of them twice while it is read; or all images decoded, and one window twice.
    """
    window = sum(sorted(rows.part_bytes)[-(window_parts or parts_of_window(rows)) :])
    decoded = pixels_bytes(rows, image_size)
    return decoded + 2 * window if not augments and decoded <= cache_gb * 2**30 else 3 * window


def check_batch_size(rows: Rows, batch_size: int) -> None:
    if batch_size > sum(rows.part_sizes):
        raise ConfigError(
            f"customize.batch_size {batch_size} is larger than the {sum(rows.part_sizes)} pairs to train on (those "
            "with an image and, of a retrieved set, a vector of the caption); make it smaller or retrieve more"
        )
