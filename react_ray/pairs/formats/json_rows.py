"""Reads JSON objects as rows: one object per line (.jsonl, also .json) or an array of objects (.json), plain or .gz.

The columns are the keys of the first rows. Strings stay as they are, and other values become their JSON text, so that
all parts have one schema whatever their rows hold; only a column of lists of strings (several captions) stays a list. A
line or element that is no object becomes a row of nulls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa

from react_ray.errors import StorageError
from react_ray.pairs.formats.chunk import Chunk, cut
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.spans import open_bytes, read_span

FIRST_ROWS = 1000  # rows whose keys become the columns
READ_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"  # byte order mark that some editors write
MAX_OBJECT_BYTES = 64 << 20
BLANK = re.compile(r"[ \t\r\n]*")
TEXTS = pa.list_(pa.string())
Row = dict[str, Any]


@dataclass(frozen=True)
class JsonRows:
    is_array: bool
    every_column: bool = False  # a key may be missing in any row

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        spans = _elements if self.is_array else _lines
        head = cut(uri, islice(spans(uri), FIRST_ROWS), 0, FIRST_ROWS)
        rows = [row for chunk in head for row in _parse(chunk, self.is_array)]
        return columns_of(rows), cut(uri, spans(uri), row_start, rows_per_part)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        return table_of([row for chunk in chunks for row in _parse(chunk, self.is_array)], columns)


def is_array(uri: str) -> bool:
    """Returns True for `[{...}, ...]`, False for one object per line."""
    with open_bytes(uri) as file:
        return file.read(READ_BYTES).removeprefix(BOM).lstrip().startswith(b"[")


def parse_object(text: str) -> Row:
    """Parses an object; returns an empty one if the text is none."""
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def columns_of(rows: list[Row]) -> pa.Schema:
    """Returns the keys of all rows, as columns of text or of lists of texts."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                values.setdefault(name, []).append(value)
            else:
                values.setdefault(name, [])
    return pa.schema(
        [(name, TEXTS if found and all(map(_is_texts, found)) else pa.string()) for name, found in values.items()]
    )


def table_of(rows: list[Row], columns: pa.Schema) -> pa.Table:
    """Converts rows to columns of these names and types, which are text or lists of texts."""
    made = {}
    for field in columns:
        as_column = _as_texts if pa.types.is_list(field.type) else _as_text
        made[field.name] = pa.array([as_column(row.get(field.name)) for row in rows], field.type)
    return pa.table(made)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair is valid JSON but not text


def _as_texts(value: Any) -> list[str | None] | None:
    if value is None:
        return None
    return [_as_text(item) for item in (value if isinstance(value, list) else [value])]


def _parse(chunk: Chunk, is_array: bool) -> list[Row]:
    data = read_span(chunk.uri, chunk.start, chunk.num_bytes)
    if is_array:
        values = json.loads(f"[{data.decode('utf-8', 'replace')}]", strict=False)
        return [value if isinstance(value, dict) else {} for value in values]
    lines = data.removeprefix(BOM).split(b"\n")
    return [parse_object(line.decode("utf-8", "replace")) for line in lines if line.strip()]


def _lines(uri: str) -> Iterator[tuple[int, int]]:
    """Yields the spans of lines that are not blank."""
    with open_bytes(uri) as file:
        start = 0
        for line in file:
            if line.strip():
                yield start, start + len(line)
            start += len(line)


def _elements(uri: str) -> Iterator[tuple[int, int]]:
    """Yields the spans of the elements of an array, read as Latin-1: each byte is a character, and the structure is the
    same.
    """
    decode = json.JSONDecoder(strict=False).raw_decode
    with open_bytes(uri) as file:
        window = _Window(file)
        window.skip("[")
        if window.next() == "]":
            return
        while True:
            window.next()
            while True:
                try:
                    _, end = decode(window.text, window.at)
                    if end < len(window.text) or not window.more():  # a number that ends with the text may go on
                        break
                except (ValueError, RecursionError) as error:
                    if len(window.text) - window.at > MAX_OBJECT_BYTES or not window.more():
                        raise _broken(uri, window, str(error)) from error
            yield window.offset + window.at, window.offset + end
            window.at = end
            if window.next() == "]":
                return
            if not window.skip(","):
                raise _broken(uri, window, "neither a comma nor the end of the array")


class _Window:
    """A window of a file as text, which begins at byte `offset` of the file; everything before `at` has been parsed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.text, self.offset, self.at = file, file.read(READ_BYTES).decode("latin-1"), 0, 0
        self.at = 3 if self.text.startswith(BOM.decode("latin-1")) else 0

    def more(self) -> bool:
        """Reads on, and drops what has been parsed; False at the end of the file."""
        # The window doubles, so that an object of n bytes is parsed log n times.
        data = self.file.read(max(READ_BYTES, len(self.text) - self.at))
        if data:
            self.text, self.offset, self.at = self.text[self.at :] + data.decode("latin-1"), self.offset + self.at, 0
        return bool(data)

    def next(self) -> str:
        """Moves to the next character that is not blank and returns it, or "" at the end."""
        while True:
            blank = BLANK.match(self.text, self.at)
            assert blank is not None
            self.at = blank.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def skip(self, character: str) -> bool:
        found = self.next() == character
        self.at += found
        return found


def _broken(uri: str, window: _Window, why: str) -> StorageError:
    return StorageError(
        f"cannot read {uri}: no JSON at byte {window.offset + window.at}: {why}; "
        "correct it, or write one object a line (.jsonl)"
    )
