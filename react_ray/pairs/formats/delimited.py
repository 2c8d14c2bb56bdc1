"""csv and tsv in (a first line of names, then rows; also .gz), tables of text out: every column as it stands in the file.

Python's csv module finds the rows and reads them, so quoted newlines and commas are right and both passes agree: planning
reads a file once (about a million rows a second), a part its own bytes only. A row with more fields than there are names
is a row of nulls, since nobody knows which comma was meant as text; missing last fields are null. Next: json_rows.py.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.formats.chunk import Chunk, cut
from react_ray.pairs.formats.spans import open_bytes, read_span

MAX_FIELD_BYTES = 16 << 20  # more is a quote that was never closed: an error, not the rest of the file as one caption
MAX_NAMES_BYTES = 1 << 20
csv.field_size_limit(MAX_FIELD_BYTES)


@dataclass(frozen=True)
class Delimited:
    delimiter: str
    every_column: bool = True

    def plan(self, uri: str, row_start: int, rows_per_part: int) -> tuple[pa.Schema, Iterator[Chunk]]:
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
        """First byte, byte behind the last, and fields (as Latin-1) of every record, that of the names too."""
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
                    f"cannot read {uri}: row {number + 1}, at byte {start}: {error}; is a quote not closed? correct that row"
                ) from error


def _line(line: bytes, encoding: str) -> str:
    """One line for the csv module, which stops at a carriage return or a NUL within a line."""
    text = line.decode(encoding, "replace").rstrip("\r\n").replace("\r", " ").replace("\0", "")
    return text + "\n"


def _fit(row: list[str], num_columns: int) -> list[str | None]:
    if len(row) > num_columns and any(row[num_columns:]):
        return [None] * num_columns
    return [*row[:num_columns], *[None] * (num_columns - len(row))]
