"""Reads .txt, plain or .gz, as one URL per line; an empty line is a row without a URL, and so is what is no URL.

A first line `url` is a header and no row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from react_ray.pairs.formats.chunk import Chunk, cut
from react_ray.pairs.formats.seen import Seen, place
from react_ray.pairs.formats.spans import BOM, NOT_ENCODED, decoded, encoding_of, open_bytes, read_lines, read_span

COLUMNS = pa.schema([("url", pa.string())])
HEADERS = (b"url", b"urls", b"image_url", b"img_url")
LOCAL = (b"data:", b"file:")  # URLs that need no host
TAB, NUL, CR = b"\t\0\r"  # which no URL has, but a line of several columns or several lines
MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Lines:
    encoding: str = ""  # that the recipe names
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        encoding = encoding_of(uri, self.encoding)
        if encoding:
            seen.tell(f"files that are read as {encoding.upper()}", place(uri))
        chunks = cut(uri, _lines(uri, encoding, seen), row_start, rows_per_part)
        return COLUMNS, (replace(chunk, encoding=encoding) for chunk in chunks)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        lines = [
            line
            for chunk in chunks
            for line in read_span(uri, chunk.start, chunk.num_bytes, chunk.encoding).removesuffix(b"\n").split(b"\n")
        ]
        urls = [line.removeprefix(BOM).decode("utf-8", "replace").strip() or None for line in lines]
        return pa.table({"url": pa.array(urls, pa.string())})


def _lines(uri: str, encoding: str, seen: Seen) -> Iterator[tuple[int, int]]:
    with open_bytes(uri, encoding) as file:
        start = 0
        for number, line in enumerate(read_lines(file, uri, MAX_LINE_BYTES), 1):
            end = start + len(line)
            if number == 1 and line.removeprefix(BOM).strip().lower() in HEADERS:
                seen.pass_over("lines that name the column", place(uri, number))
            else:
                if b"://" not in line and line.removeprefix(BOM).lstrip()[:5].lower() not in LOCAL:
                    reason = "lines that are no URL" if line.strip() else "empty lines"
                    seen.bad_row(reason, place(uri, number))
                elif (TAB in line and TAB in line.strip()) or NUL in line or CR in line.rstrip():
                    seen.bad_row("lines with a tab, NUL or CR inside (is it a table?)", place(uri, number))
                if not line.isascii() and decoded(line, encoding)[1]:
                    seen.tell(f"rows {NOT_ENCODED}", place(uri, number))
                yield start, end
            start = end
