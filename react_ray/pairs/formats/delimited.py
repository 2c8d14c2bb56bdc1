"""Reads csv and tsv, plain or .gz: a first line of column names, then rows. Every column is text.

Python's csv module both finds and parses the rows, so that quoted newlines and commas are handled alike. Planning reads
a file once; reading a part reads only its own bytes. A row with more fields than names
becomes a row of nulls, since nobody can tell which comma belongs to a text; missing last fields are null. A quote that
is not closed is an error, as it would swallow the rows behind it; a tsv whose quotes do not enclose fields is read
without quoting. A csv may have another delimiter, as spreadsheets write it where the comma is that of decimals: the
line of names tells. A first row that holds a URL or a path is no line of names: columns are then named by position.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.column_types import check_width
from react_ray.pairs.formats.chunk import Chunk, cut
from react_ray.pairs.formats.seen import Seen, place
from react_ray.pairs.formats.spans import (
    BOM,
    NOT_ENCODED,
    NULS,
    decoded,
    encoding_of,
    open_bytes,
    read_lines,
    read_span,
)
from react_ray.pairs.formats.suffixes import is_image

MAX_FIELD_BYTES = MAX_LINE_BYTES = 16 << 20  # a longer field is a quote that was never closed, and an error
MAX_NAMES_BYTES = 1 << 20
MAX_ROW_LINES = 100  # that a quoted text may have: longer than any caption, and short for a quote that is not closed
QUOTES_BYTES = 4 << 20  # of a tsv, by which is told whether its quotes enclose fields
OTHER_DELIMITERS = ";\t|"  # of a csv whose line of names has no comma
PADDED = "|"  # around which people write blanks
SEPARATOR = re.compile(r"""sep=([^"\r\n ])\s*""")  # a first line that Excel reads and writes
csv.field_size_limit(MAX_FIELD_BYTES)
Note = Callable[[str, int], None]  # told what, and the number of the line
Row = tuple[list[str], int, int, int]  # fields; first byte, byte after the last, and number of the first line


class Head(NamedTuple):
    names: tuple[str, ...]
    delimiter: str
    is_quoted: bool  # False if quotes are characters like any others
    num_rows: int = 1  # before the first: the names, and a line such as `sep=;`
    has_names: bool = True


@dataclass(frozen=True)
class Delimited:
    delimiter: str
    encoding: str = ""  # that the recipe names
    every_column: bool = True
    by_position: bool = False  # the recipe names columns by their numbers, if there is no line of names

    def plan(self, uri: str, row_start: int, rows_per_part: int, seen: Seen) -> tuple[pa.Schema, Iterator[Chunk]]:
        encoding = encoding_of(uri, self.encoding)
        head = self._head(uri, encoding)
        if not head.has_names:
            seen.tell("files without a line of names, whose columns are called by position, from 0", place(uri))
        if encoding:
            seen.tell(f"files that are read as {encoding.upper()}", place(uri))
        if not head.is_quoted:
            seen.tell("files that are read without quoting", place(uri))
        if head.delimiter != self.delimiter:
            seen.tell(f"files that are read with the delimiter {head.delimiter!r}", place(uri))
        chunks = cut(uri, _spans(uri, encoding, head, seen), row_start, rows_per_part, head.names)
        columns = pa.schema([(name, pa.string()) for name in head.names])
        return columns, (
            replace(chunk, encoding=encoding, delimiter=head.delimiter, is_quoted=head.is_quoted) for chunk in chunks
        )

    def read(self, uri: str, chunks: list[Chunk], columns: pa.Schema) -> pa.Table:
        names = chunks[0].names
        rows: list[list[str | None]] = []
        for chunk in chunks:
            lines = io.BytesIO(read_span(uri, chunk.start, chunk.num_bytes, chunk.encoding))
            head = Head(names, chunk.delimiter, chunk.is_quoted)
            found = _rows(lines, uri, "", head, lambda what, line: None)
            rows += [_fit(fields, len(names)) for fields, _, _, _ in found if fields or len(names) == 1]
        values = dict(zip(names, zip(*rows, strict=True), strict=True))
        return pa.table({name: pa.array(values[name], pa.string()) for name in columns.names if name in values})

    def _head(self, uri: str, encoding: str) -> Head:
        """Returns the names of the columns, which delimiter divides them, and whether quotes enclose fields."""
        is_tabs = self.delimiter == "\t"
        with open_bytes(uri, encoding) as file:
            data = file.read(QUOTES_BYTES if is_tabs else MAX_NAMES_BYTES)
        lines = [_clean(line.decode("utf-8", "replace")) for line in io.BytesIO(data.removeprefix(BOM))]
        is_quoted = not is_tabs or _are_quoted(lines, self.delimiter, is_whole=len(data) < QUOTES_BYTES)
        hint = SEPARATOR.fullmatch(next((line for line in lines if line.strip()), ""))
        delimiter = hint[1] if hint else self.delimiter
        names = _names(lines, delimiter, is_quoted, 1 if hint else 0)
        for other in OTHER_DELIMITERS if delimiter == "," and len(names) == 1 else "":
            if len(found := _names(lines, other, is_quoted, 0)) > 1:
                names, delimiter = found, other
                break
        if sum(map(len, names)) + len(names) >= MAX_NAMES_BYTES:
            raise StorageError(
                f"cannot read {uri}: the names of its columns take more than {MAX_NAMES_BYTES >> 20} MiB; "
                "is its first row a row of names? write one"
            )
        num_before = 1 if hint else 0
        if value := next((name for name in names if _is_data(name)), ""):
            if not self.by_position:
                raise ConfigError(
                    f"ingest.source: the first row of {uri} is data, such as {value[:80]!r}, and no names of columns; "
                    "write a row of names above it, or name columns by position, such as ingest.url_column=0 and "
                    "ingest.caption_column=1"
                )
            numbers = tuple(str(number) for number in range(len(names)))
            return Head(numbers, delimiter, is_quoted, num_before, has_names=False)
        return Head(tuple(_unique(names, uri)), delimiter, is_quoted, num_before + 1)


def _spans(uri: str, encoding: str, head: Head, seen: Seen) -> Iterator[tuple[int, int]]:
    """Yields the spans of all rows behind the names, and counts those that cannot be used."""
    width = len(head.names)
    required = head.names.index(seen.required) if seen.required in head.names else -1
    with open_bytes(uri, encoding) as file:
        lines = read_lines(file, uri, MAX_LINE_BYTES)
        rows = _rows(lines, uri, encoding, head, lambda what, line: seen.tell(what, place(uri, line)))
        filled = (row for row in rows if row[0] or width == 1)
        for fields, start, end, line in islice(filled, head.num_rows, None):
            if len(fields) > width and any(fields[width:]):
                reason = "rows with more fields than names (is a delimiter in a text not quoted?)"
                seen.bad_row(reason, place(uri, line))
            elif required >= 0 and not (value := fields[required].strip() if required < len(fields) else ""):
                seen.bad_row(f"rows without {seen.required}", place(uri, line))
            elif required >= 0 and value.removeprefix("\ufeff") == seen.required:
                seen.bad_row("rows that repeat the names of the columns", place(uri, line))
            elif len(fields) < width:
                seen.tell("rows with fewer fields than names, whose last columns are null", place(uri, line))
            yield start, end


def _rows(lines: Iterable[bytes], uri: str, encoding: str, head: Head, note: Note) -> Iterator[Row]:
    """Parses all records, including the names and those of no field."""
    end, number, first, text = 0, 0, 1, ""

    def texts() -> Iterator[str]:
        nonlocal end, number, text
        for line in lines:
            end, number = end + len(line), number + 1
            if number - first >= MAX_ROW_LINES:
                raise _unclosed(uri, first, f"{MAX_ROW_LINES} lines are in quotes")
            text, is_replaced = decoded(line, encoding)
            if is_replaced:
                note(f"rows {NOT_ENCODED}", number)
            if "\0" in text:
                note(NULS, number)
            text = _clean(text)
            yield text

    reader = csv.reader(texts(), **_dialect(head.delimiter, head.is_quoted), strict=True)
    start = 0
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if number > first or "expected after" not in str(error):
                raise _unclosed(uri, first, str(error)) from error
            note("rows with quotes inside of a field", number)
            fields = _lenient(text, head)
        if head.delimiter == PADDED:
            fields = [field.strip() for field in fields]
        yield fields, start, end, first
        start, first = end, number + 1


def _lenient(text: str, head: Head) -> list[str]:
    """Parses a line such as `1,"Bird" by the lake`: its quotes are text if that gives the right number of
    fields.
    """
    literal = next(csv.reader([text], **_dialect(head.delimiter, False)))
    return literal if len(literal) == len(head.names) else next(csv.reader([text], **_dialect(head.delimiter, True)))


def _names(lines: list[str], delimiter: str, is_quoted: bool, num_before: int) -> list[str]:
    rows = (row for row in csv.reader(lines, **_dialect(delimiter, is_quoted)) if row)
    return [name.strip() for name in next(islice(rows, num_before, None), [])]


def _is_data(name: str) -> bool:
    """True for a URL or the path of an image, which no column is called."""
    return "://" in name or is_image(name)


def _dialect(delimiter: str, is_quoted: bool) -> dict[str, Any]:
    quoting = csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE
    return {"delimiter": delimiter, "quoting": quoting, "skipinitialspace": delimiter == PADDED}


def _unclosed(uri: str, line: int, why: str) -> StorageError:
    return StorageError(
        f"cannot read {uri}: the row that begins in line {line}: {why}; is a quote not closed? correct that row"
    )


def _are_quoted(lines: list[str], delimiter: str, is_whole: bool) -> bool:
    """Returns True unless a quote that begins a field does not end it, or takes in more than a text."""
    if not any(line.startswith('"') or f'{delimiter}"' in line for line in lines):
        return True
    complete = lines if is_whole else lines[: -MAX_ROW_LINES or None]
    reader = csv.reader(complete, delimiter=delimiter, strict=True)
    behind, width = 0, 0
    try:
        for row in reader:
            width = width or len(row)
            if reader.line_num - behind > 1 and (len(row) != width or reader.line_num - behind > MAX_ROW_LINES):
                return False
            behind = reader.line_num
    except csv.Error as error:
        return not is_whole and str(error) == "unexpected end of data" and len(complete) - behind <= MAX_ROW_LINES
    return True


def _unique(names: list[str], uri: str) -> list[str]:
    """Drops empty names at the end, which are trailing delimiters; others, such as pandas' index, become
    `unnamed_0`.
    """
    while names and not names[-1] and len(names) > 1:
        names.pop()
    check_width(len(names), uri)
    names = [name or f"unnamed_{i}" for i, name in enumerate(names)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(f"ingest.source: {uri} has several columns named {', '.join(twice[:5])}; rename all but one")
    return names


def _clean(text: str) -> str:
    """Removes what the csv module rejects within a line: carriage returns and NULs."""
    if "\r" in text:
        text = text.rstrip("\r\n").replace("\r", " ") + "\n"
    return text.replace("\0", "") if "\0" in text else text


def _fit(row: list[str], num_columns: int) -> list[str | None]:
    if len(row) > num_columns and any(row[num_columns:]):
        return [None] * num_columns
    return [*row[:num_columns], *[None] * (num_columns - len(row))]
