"""Reads csv and tsv, plain or .gz: a first line of column names, then rows. Every column is text.

Python's csv module both finds and parses the rows, so that quoted newlines and commas are handled alike. Planning reads
a file once (about a million rows a second); reading a part reads only its own bytes. A row with more fields than names
becomes a row of nulls, since nobody can tell which comma belongs to a text; missing last fields are null.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.formats.chunk import Chunk, cut
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.spans import open_bytes, read_span

MAX_FIELD_BYTES = 16 << 20  # a longer field is a quote that was never closed, and an error
MAX_NAMES_BYTES = 1 << 20
csv.field_size_limit(MAX_FIELD_BYTES)


@dataclass(frozen=True)
class Delimited:
    delimiter: str
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        names = self._names(uri)
        rows = ((start, end) for start, end, row in self._rows(uri) if row or len(names) == 1)
        next(rows, None)  # the names
        return pa.schema([(name, pa.string()) for name in names]), cut(
            uri, rows, row_start, rows_per_part, tuple(names)
        )

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        names = chunks[0].names
        rows: list[list[str | None]] = []
        for chunk in chunks:
            lines = io.BytesIO(read_span(uri, chunk.start, chunk.num_bytes))
            found = csv.reader((_line(line, "utf-8") for line in lines), delimiter=self.delimiter)
            rows += [_fit(row, len(names)) for row in found if row or len(names) == 1]
        values = list(zip(*rows, strict=True))
        return pa.table(
            {name: pa.array(values[names.index(name)], pa.string()) for name in columns.names if name in names}
        )

    def _names(self, uri: str) -> list[str]:
        with open_bytes(uri) as file:
            head = io.BytesIO(file.read(MAX_NAMES_BYTES).removeprefix(b"\xef\xbb\xbf"))
        lines = (_line(line, "utf-8") for line in head)
        names = [name.strip() for name in next((row for row in csv.reader(lines, delimiter=self.delimiter) if row), [])]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"ingest.source: {uri} has several columns named {', '.join(twice)}; rename all but one")
        return names

    def _rows(self, uri: str) -> Iterator[tuple[int, int, list[str]]]:
        """Yields first byte, byte after the last, and fields (as Latin-1) of all records, including the names."""
        end = 0

        def lines(file: Iterable[bytes]) -> Iterator[str]:
            nonlocal end
            for line in file:
                end += len(line)
                yield _line(line, "latin-1")

        with open_bytes(uri) as file:
            start, number = 0, 0
            try:
                for row in csv.reader(lines(file), delimiter=self.delimiter):
                    yield start, end, row
                    start, number = end, number + 1
            except csv.Error as error:
                raise StorageError(
                    f"cannot read {uri}: row {number + 1}, at byte {start}: {error}; "
                    "is a quote not closed? correct that row"
                ) from error


def _line(line: bytes, encoding: str) -> str:
    """Decodes one line and removes what the csv module rejects within it: carriage returns and NULs."""
    text = line.decode(encoding, "replace").rstrip("\r\n").replace("\r", " ").replace("\0", "")
    return text + "\n"


def _fit(row: list[str], num_columns: int) -> list[str | None]:
    if len(row) > num_columns and any(row[num_columns:]):
        return [None] * num_columns
    return [*row[:num_columns], *[None] * (num_columns - len(row))]
