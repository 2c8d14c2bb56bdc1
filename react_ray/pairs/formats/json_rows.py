"""Reads JSON objects as rows: one object per line (.jsonl, also .json) or an array of objects (.json), plain or .gz.

The columns are the keys of all rows. Strings stay as they are, and other values become their JSON text, so that all
parts have one schema whatever their rows hold; a column in which any row has a list of strings (several captions) is
one of lists. A line or element that is no object becomes a row of nulls. Planning parses every row, because a key or a
list may come late.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.column_types import check_width
from react_ray.pairs.formats.chunk import Chunk, cut
from react_ray.pairs.formats.json_array import MAX_OBJECT_BYTES, elements
from react_ray.pairs.formats.seen import Seen, place
from react_ray.pairs.formats.spans import BOM, NOT_ENCODED, decoded, encoding_of, open_bytes, read_lines, read_span

FIRST_ROWS = 1000  # whose keys are known before the file is read through
HEAD_BYTES = 8 << 20  # of these rows
TEXTS = pa.list_(pa.string())
DECODER = json.JSONDecoder(strict=False)
SCAN: Callable[[str, int], tuple[Any, int]] = DECODER.scan_once  # type: ignore[attr-defined]
ROWS_ONLY = "write one object a line, or an array of objects (pandas: to_json(orient='records'))"
Row = dict[str, Any]
Found = tuple[Any, int, int]  # a value, its first byte, and the byte after its last


@dataclass(frozen=True)
class JsonRows:
    is_array: bool
    encoding: str = ""  # that the recipe names
    every_column: bool = False  # a key may be missing in any row

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        encoding = encoding_of(uri, self.encoding)
        if encoding:
            seen.tell(f"files that are read as {encoding.upper()}", place(uri))
        found = elements(uri, encoding) if self.is_array else _lines(uri, encoding, seen)
        columns = ObjectColumns(uri, is_latin=self.is_array)
        head: list[Found] = []
        for value, start, end in islice(found, FIRST_ROWS):
            head.append((value, start, end))
            columns.add(value)
            if end > HEAD_BYTES:
                break
        _check_rows([value for value, _, _ in head], uri)
        spans = self._spans(chain(head, found), columns, uri, seen)
        chunks = cut(uri, spans, row_start, rows_per_part)
        return columns.schema(), (replace(chunk, encoding=encoding) for chunk in chunks)

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        return table_of([row for chunk in chunks for row in _parse(chunk, self.is_array)], columns)

    def _spans(self, found: Iterator[Found], columns: ObjectColumns, uri: str, seen: Seen) -> Iterator[tuple[int, int]]:
        """Yields the spans of all rows, counts those that cannot be used, and tells the columns that come late."""
        required = seen.required
        forms = _forms(required)
        late: dict[str, tuple[str, ...]] = {}
        thing = "element" if self.is_array else "row"
        for number, (value, start, end) in enumerate(found, 1):
            if not isinstance(value, dict):
                seen.bad_row(f"{thing}s that are no JSON object", f"{place(uri)} {thing} {number}")
            else:
                if required and not value.get(required) and columns.has(forms) and not any(map(value.get, forms)):
                    seen.bad_row(f"rows without {required}", f"{place(uri)} {thing} {number}")
                for field in columns.add(value):
                    seen.late[field.name] = field.type
                    late[field.name] = _forms(field.name)
                if late:
                    seen.filled.update(name for name, forms_of in late.items() if any(map(value.get, forms_of)))
            yield start, end


class ObjectColumns:
    """Settles the columns of objects while they are read: text, or lists of texts.

    is_latin: the names of UTF-8 were read as Latin-1, as those of an array are when it is planned.
    """

    def __init__(self, uri: str = "", is_latin: bool = False) -> None:
        self.uri, self.is_latin = uri, is_latin
        self.kinds: dict[str, pa.DataType | None] = {}  # None: there was no value yet but null and []

    def add(self, row: Any) -> list[pa.Field]:
        """Returns the columns that are new, or get their first list of texts, by this row."""
        if not isinstance(row, dict):
            return []
        changed = [] if row.keys() <= self.kinds.keys() else [name for name in row if name not in self.kinds]
        if changed:
            self.kinds |= dict.fromkeys(changed)
            check_width(len(self.kinds), self.uri)
        if list in map(type, row.values()):
            for name, value in row.items():
                if isinstance(value, list) and self.kinds[name] != TEXTS and _is_texts(value):
                    self.kinds[name] = TEXTS
                    changed.append(name)
        return [self._field(name) for name in changed]

    def has(self, names: tuple[str, ...]) -> bool:
        return any(name in self.kinds for name in names)

    def schema(self) -> pa.Schema:
        return pa.schema([self._field(name) for name in self.kinds])

    def _field(self, name: str) -> pa.Field:
        return pa.field(_utf8(name) if self.is_latin else name, self.kinds[name] or pa.string())


def parse_object(text: str) -> Row:
    """Parses an object; returns an empty one if the text is none."""
    value = _value(text)
    return value if isinstance(value, dict) else {}


def table_of(rows: list[Row], columns: pa.Schema) -> pa.Table:
    """Converts rows to columns of these names and types, which are text or lists of texts."""
    made = {}
    for field in columns:
        as_column = _as_texts if pa.types.is_list(field.type) else _as_text
        made[field.name] = pa.array([as_column(row.get(field.name)) for row in rows], field.type)
    return pa.table(made)


def _is_texts(values: list[Any]) -> bool:
    return str in map(type, values) and all(value is None or isinstance(value, str) for value in values)


def _as_text(value: Any) -> str | None:
    if value is None or value == []:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Half a surrogate pair is valid JSON but not text.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _as_texts(value: Any) -> list[str | None] | None:
    if value is None:
        return None
    return [_as_text(item) for item in (value if isinstance(value, list) else [value])]


def _check_rows(head: list[Any], uri: str) -> None:
    """Raises an error for JSON that is no list of rows: columns (pandas' default), or one object on many lines."""
    objects = [value for value in head if isinstance(value, dict)]
    if head and not objects:
        raise StorageError(f"cannot read {uri}: none of its first {len(head):,} rows is a JSON object; {ROWS_ONLY}")
    if objects and objects[0] and all(isinstance(value, (dict, list)) for value in objects[0].values()):
        names = ", ".join(list(objects[0])[:5])
        raise ConfigError(
            f"ingest.source: {uri} holds columns and not rows: its first object has no text but only objects or "
            f"lists ({names}); {ROWS_ONLY}"
        )


def _forms(name: str) -> tuple[str, str]:
    """Returns a key as it is in lines, and as in an array, which is planned as Latin-1."""
    return name, name.encode().decode("latin-1")


def _utf8(name: str) -> str:
    """Undoes that a name was read as Latin-1; a name that was escaped, or is ASCII, is right already."""
    try:
        return name if name.isascii() else name.encode("latin-1").decode()
    except UnicodeError:
        return name


def _value(text: str) -> Any:
    """Returns None for text that is no JSON."""
    text = text.strip()
    try:
        value, end = SCAN(text, 0)  # without the regular expressions of json.loads, a third of its time
    except (StopIteration, ValueError, RecursionError):
        return None
    return value if end == len(text) else None


def _parse(chunk: Chunk, is_array: bool) -> list[Row]:
    data = read_span(chunk.uri, chunk.start, chunk.num_bytes, chunk.encoding)
    if is_array:
        values = DECODER.decode(f"[{data.decode('utf-8', 'replace')}]")
        return [value if isinstance(value, dict) else {} for value in values]
    lines = data.removeprefix(BOM).split(b"\n")
    return [parse_object(line.decode("utf-8", "replace")) for line in lines if line.strip()]


def _lines(uri: str, encoding: str, seen: Seen) -> Iterator[Found]:
    """Yields the lines that are not blank."""
    with open_bytes(uri, encoding) as file:
        end = 0
        for number, line in enumerate(read_lines(file, uri, MAX_OBJECT_BYTES), 1):
            start, end = end, end + len(line)
            text, is_replaced = decoded(line, encoding)
            if is_replaced:
                seen.tell(f"rows {NOT_ENCODED}", place(uri, number))
            if text and not text.isspace():
                yield _value(text.removeprefix("\ufeff") if number == 1 else text), start, end
