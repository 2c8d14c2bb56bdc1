"""Chunk: some rows of one file, and where in it they lie. Format: what every kind of file can do.

Planning looks at a file once and gives its chunks; a part of the source is then read from the chunks that it touches
and from nothing else. Next: parquet.py, the plainest Format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class Chunk:
    uri: str
    row_start: int  # in the whole source
    num_rows: int
    num_bytes: int
    start: int  # what the format finds its rows by: the first byte, or the number of a row group or batch
    names: tuple[
        str, ...
    ] = ()  # of the file's columns, or of the files that are its rows, where that is not in its bytes


class Format(Protocol):
    """Frozen and picklable: planned on one machine, read on others."""

    @property
    def every_column(self) -> bool:
        """True where all files must have the columns of the first; else only those that are used."""

    def plan(self, uri: str, row_start: int, rows_per_part: int) -> tuple[pa.Schema, Iterator[Chunk]]:
        """The columns of a file, and its chunks in order, found as they are asked for; row_start: rows before this file."""

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        """Rows of consecutive chunks of one file, with exactly these columns."""


def cut(
    uri: str, spans: Iterable[tuple[int, int]], row_start: int, rows_per_part: int, names: tuple[str, ...] = ()
) -> Iterator[Chunk]:
    """Chunks of rows that lie one after another in a file, cut where the parts of the source are.

    spans: first byte and byte behind the last of each row.
    """
    rows, begin, end = 0, 0, 0
    for first, last in spans:
        if rows and (row_start + rows) % rows_per_part == 0:
            yield Chunk(uri, row_start, rows, end - begin, begin, names)
            row_start, rows = row_start + rows, 0
        if not rows:
            begin = first
        rows, end = rows + 1, last
    if rows:
        yield Chunk(uri, row_start, rows, end - begin, begin, names)
