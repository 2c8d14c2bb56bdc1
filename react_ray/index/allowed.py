"""Allowed: one bit per pair says whether a search may return it; searches still return k hits, all of them allowed.

Takes a bool per row of each part; answers for any pair_ids. 100 million pairs take 13 MB.
"""

from __future__ import annotations

import numpy as np

from react_ray.artifact import Artifact
from react_ray.pair_id import part_of, row_of


class Allowed:
    """Bits by part; a part that was never added allows nothing. All parts are added before a search starts."""

    def __init__(self) -> None:
        self._bits: dict[int, np.ndarray] = {}
        self._num_rows: dict[int, int] = {}
        # Part numbers, the first byte of each part, its number of rows; the bits of all parts.
        self._joined: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None
        self.count = 0

    @classmethod
    def load(cls, artifact: Artifact) -> Allowed:
        """Loads all bits of an `allowed` artifact: N / 8 bytes."""
        bits = cls()
        for part in range(artifact.num_parts):
            bits.add(part, artifact.read(part, ["allowed"])["allowed"].to_numpy())
        return bits

    def add(self, part: int, mask: np.ndarray) -> None:
        """mask: bool [rows of the part]."""
        self._bits[part], self._num_rows[part] = np.packbits(mask), len(mask)
        self.count += int(mask.sum())
        self._joined = None

    @property
    def num_rows(self) -> int:
        return sum(self._num_rows.values())

    def rows(self, part: int) -> np.ndarray:
        """bool [rows of the part]."""
        return np.unpackbits(self._bits[part], count=self._num_rows[part]).astype(bool)

    def contains(self, pair_ids: np.ndarray) -> np.ndarray:
        """Returns bool with the shape of pair_ids; -1 is not contained."""
        pair_ids = np.asarray(pair_ids, dtype=np.int64)
        if not self._bits:
            return np.zeros(pair_ids.shape, dtype=bool)
        if self._joined is None:
            numbers = sorted(self._bits)
            starts = np.cumsum([0, *(len(self._bits[part]) for part in numbers[:-1])])
            rows = np.array([self._num_rows[part] for part in numbers])
            self._joined = np.array(numbers), starts, rows, np.concatenate([self._bits[part] for part in numbers])
        parts, starts, num_rows, bits = self._joined
        part, row = part_of(pair_ids), row_of(pair_ids)
        at = np.searchsorted(parts, part).clip(max=len(parts) - 1)
        known = (parts[at] == part) & (row < num_rows[at]) & (pair_ids >= 0)
        row = np.where(known, row, 0)
        found: np.ndarray = known & (
            bits.take(starts[at] + (row >> 3), mode="clip") >> (7 - (row & 7)).astype(np.uint8) & 1
        ).astype(bool)
        return found
