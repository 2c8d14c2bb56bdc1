"""Reads .txt, plain or .gz, as one URL per line; an empty line is a row without a URL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from react_ray.pairs.formats.chunk import Chunk, cut
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.spans import open_bytes, read_span

COLUMNS = pa.schema([("url", pa.string())])


@dataclass(frozen=True)
class Lines:
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        return COLUMNS, cut(uri, _lines(uri), row_start, rows_per_part)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        lines = [
            line
            for chunk in chunks
            for line in read_span(uri, chunk.start, chunk.num_bytes).removesuffix(b"\n").split(b"\n")
        ]
        urls = [line.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").strip() or None for line in lines]
        return pa.table({"url": pa.array(urls, pa.string())})


def _lines(uri: str) -> Iterator[tuple[int, int]]:
    with open_bytes(uri) as file:
        start = 0
        for line in file:
            yield start, start + len(line)
            start += len(line)
