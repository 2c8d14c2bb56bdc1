"""Settles the columns of a source over all of its files, while they are planned.

Each column gets one type that holds the values of all files; a column that a file lacks is null there. Files that were
added to a source later cannot change the columns, because the parts before them are written.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from react_ray.errors import ConfigError
from react_ray.pairs.class_label import names_in
from react_ray.pairs.column_types import check_width, plain_schema, unify
from react_ray.pairs.columns import find_columns
from react_ray.pairs.formats.chunk import Format
from react_ray.pairs.formats.parquet import Parquet, range_of
from react_ray.pairs.formats.seen import Seen, place
from react_ray.pairs.ingest_config import IngestConfig

# The largest integers that columns hold without loss into which integers of 64 bits may be promoted.
HOLDS = {pa.int64(): (1 << 63) - 1, pa.uint64(): (1 << 64) - 1, pa.float64(): 1 << 53}


class Settled:
    """A file without the column of captions is refused if the format has every column in all files."""

    def __init__(self, config: IngestConfig, format: Format) -> None:
        self.config, self.format, self.every_column = config, format, format.every_column
        self.kinds: dict[str, pa.Field] = {}
        self.origins: dict[str, str] = {}  # column -> the first file that has it
        self.files: dict[str, frozenset[str]] = {}  # file -> its columns
        self.wide: list[tuple[str, str, pa.DataType]] = []  # column, file and type of integers of 64 bits

    def begin(self, found: pa.Schema, seen: Seen) -> None:
        """Tells the format of a file, by `seen`, without which column a row has no use. found: from the file's head."""
        self.problem: ConfigError | None = None
        seen.required, seen.late, seen.filled = self._required(found), {}, Counter()

    def check(self) -> None:
        """Raises ConfigError if the first file that has rows lacks columns that it cannot get from others, before the
        rest of it is planned.
        """
        if self.problem and self.every_column and not self.files:
            raise self.problem

    def end(self, found: pa.Schema, seen: Seen, uri: str, num_rows: int, is_added: bool) -> None:
        """Adds the columns of a file, and those that came late; an empty file decides nothing.

        Raises ConfigError, with both files, if a column has two types that nothing unites.
        """
        late, filled, required = seen.late, seen.filled, seen.required
        seen.required, seen.late, seen.filled = "", {}, Counter()
        if not num_rows:
            return
        self._add(pa.schema([*found, *plain_schema(pa.schema(list(late.items())), uri)]), seen, uri, is_added)
        kinds = dict(zip(found.names, found.types, strict=True)) | late
        required = required or self._required(pa.schema(list(kinds.items())))
        missing = 0
        if required in late and required not in found.names:
            missing = num_rows - filled[required]
        elif required and pa.types.is_null(found.field(required).type):
            missing = num_rows
        if missing > 0:
            seen.bad_row(f"rows without {required}", place(uri), missing)

    def _required(self, found: pa.Schema) -> str:
        """Returns the column of a file without which a row of it has no use; "" for vectors."""
        try:
            used = find_columns(found, self.config)
        except ConfigError as error:
            self.problem = error
            return ""
        return "" if used.vectors else used.image or used.url

    def _add(self, found: pa.Schema, seen: Seen, uri: str, is_added: bool) -> None:
        for field in found:
            before = self.kinds.get(field.name)
            kind = unify(before.type, field.type) if before else field.type
            if kind is None or (before and is_added and kind != before.type):
                assert before is not None
                raise ConfigError(
                    f"ingest.source: column {field.name!r} is {before.type} in {self.origins[field.name]} and "
                    f"{field.type} in {uri}; "
                    + ("ingest into another `database`" if kind else "write it with one type in all files")
                )
            if before and names_in(before) and names_in(field) not in ([], names_in(before)):
                raise ConfigError(
                    f"ingest.source: the integers of column {field.name!r} have other names in "
                    f"{self.origins[field.name]} than in {uri}; ingest the files one by one, or write names"
                )
            if before is None and is_added:
                seen.pass_over("columns of files that were added later, which parts before lack", field.name)
                continue
            self.kinds[field.name] = field if before is None else before.with_type(kind)
            self.origins.setdefault(field.name, uri)
            if pa.types.is_integer(field.type) and field.type.bit_width == 64:
                self.wide.append((field.name, uri, field.type))
        check_width(len(self.kinds), uri)
        self.files[uri] = frozenset(found.names)

    def columns(self) -> pa.Schema | None:
        """Returns all columns, or None if there was no row. Raises ConfigError if the recipe's are not among them."""
        if not self.files:
            return None
        columns = pa.schema(list(self.kinds.values()))
        self._check_integers(columns)
        used = find_columns(columns, self.config)
        needed = {used.image or used.url, *used.vectors, used.caption if self.every_column else ""} - {""}
        for uri, names in self.files.items():
            if missing := sorted(needed - names):
                raise ConfigError(
                    f"ingest.source: {uri} lacks the column {missing[0]!r} that {self.origins[missing[0]]} has; "
                    "name files that all have it, or rename what is the same"
                )
        return columns

    def _check_integers(self, columns: pa.Schema) -> None:
        """Raises ConfigError for integers that the type of all files does not hold, where Parquet tells their range."""
        for name, uri, kind in self.wide:
            wanted = columns.field(name).type
            most = HOLDS.get(wanted)
            if wanted == kind or most is None or not isinstance(self.format, Parquet):
                continue
            least, largest = range_of(uri, name) or (0, 0)
            if max(-least, largest) > most:
                raise ConfigError(
                    f"ingest.source: column {name!r} is {kind} in {uri} and another number elsewhere, so that all "
                    f"become {wanted}, which does not hold {largest if largest > most else least}; write it with one "
                    "type in all files"
                )
