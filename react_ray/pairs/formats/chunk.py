"""Defines Format, the interface of all file formats, and Chunk, a run of rows in one file.

A file is planned once, which gives its chunks. A part of the source is then read from the chunks that it overlaps and
from nothing else. parquet.py is the simplest Format.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from react_ray.pairs.formats.seen import Seen


@dataclass(frozen=True)
class Chunk:
    uri: str
    row_start: int  # in the whole source
    num_rows: int
    num_bytes: int
    start: int  # where the format finds the rows: their first byte, or the number of a row group or batch
    names: tuple[str, ...] = ()  # of the columns, or of the files that are rows, if the chunk's bytes do not have them
    spans: bytes = b""  # int64 [N, 2]: first byte and the byte after the last of each run, if there are several
    beside: tuple[str, ...] = ()  # the file of each row's caption, "" = none
    encoding: str = ""  # of a text, which is converted to UTF-8 before its bytes are counted; "" = it is UTF-8
    delimiter: str = ""  # of a delimited text
    is_quoted: bool = True  # False if quotes are characters of a delimited text like any others


class Format(Protocol):
    """Is frozen and picklable, because a source is planned on one machine and read on others."""

    @property
    def every_column(self) -> bool:
        """True if all files must have all columns that are used; otherwise captions may be missing."""

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        """Returns the columns of a file and an iterator over its chunks; row_start is the number of rows before the
        file.
        """

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        """Reads consecutive chunks of one file, with exactly these columns."""


def covering(chunks: Sequence[Chunk], start: int, count: int) -> list[Chunk]:
    """Returns the chunks that hold these rows of a source, of which there is at least one."""
    first = bisect_right(chunks, start, key=lambda chunk: chunk.row_start) - 1
    behind = bisect_right(chunks, start + count - 1, key=lambda chunk: chunk.row_start)
    return list(chunks[first:behind])


def cut(
    uri: str, spans: Iterable[tuple[int, int]], row_start: int, rows_per_part: int, names: tuple[str, ...] = ()
) -> Iterator[Chunk]:
    """Groups rows that follow each other in a file into chunks, which end where the parts of the source end.

    spans: the first byte of each row, and the byte after its last.
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
