"""Reduces Arrow's many types to the plain ones that pairs are stored with, and gives the columns of several files one
type each.

Text is `string` or `large_string` however it is encoded (views, dictionaries, run ends). Types follow pyarrow's
promotion: null becomes anything, integers widen, integers and floats become floats; text beside lists of texts becomes
a list of one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from react_ray.errors import ConfigError, StorageError

MAX_COLUMNS = 4096  # of a source: planning, and the table of each part, hold all of them
MAX_TEXT_BYTES = 256 << 20  # of a dictionary's column: a value of 500 kB that 2,000 rows share takes 4 kB in a file
MAX_BYTES_PER_ROW = 4096  # which a larger column of a dictionary may have on average


def plain(kind: pa.DataType) -> pa.DataType:
    """Returns the type that values of `kind` are stored with, which is `kind` itself for ordinary types."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain(kind.value_type)
    if types.is_string_view(kind) or types.is_interval(kind) or types.is_union(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.binary()
    if types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return pa.struct([_plain_field(field) for field in fields]) if fields else pa.string()
    if types.is_fixed_size_list(kind):
        field = _plain_field(kind.value_field)
        return pa.list_(field, kind.list_size) if types.is_floating(field.type) else pa.list_(field)
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if types.is_list(kind) or types.is_list_view(kind):
        return pa.list_(_plain_field(kind.value_field))
    return kind


def plain_schema(columns: pa.Schema, uri: str) -> pa.Schema:
    """Raises ConfigError if there are too many columns, or two of one name, within a struct too."""
    check_width(len(columns.names), uri)
    if twice := [name for name, count in Counter(columns.names).items() if count > 1]:
        raise ConfigError(
            f"ingest.source: {uri} has several columns named {', '.join(twice[:5])}; rename all but one of each"
        )
    fields = [_plain_field(field) for field in columns]
    for field in fields:
        if twice := _twice_in(field.type):
            raise ConfigError(
                f"ingest.source: {uri} has several fields named {', '.join(twice[:5])} in the structs of column "
                f"{field.name!r}; rename all but one of each"
            )
    return pa.schema(fields)


def check_width(num_columns: int, uri: str) -> None:
    if num_columns > MAX_COLUMNS:
        raise StorageError(
            f"cannot read {uri}: it has more than {MAX_COLUMNS:,} columns; "
            "put those that belong together into one, such as an object or a list"
        )


def unify(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """Returns the type that holds the values of both plain types, or None if there is none."""
    if first == second:
        return first
    if is_text(first) and is_list(second) and is_text(second.value_type):
        return second
    if is_text(second) and is_list(first) and is_text(first.value_type):
        return first
    if {is_text(first), is_text(second)} == {True, False} and not (types.is_null(first) or types.is_null(second)):
        return None  # pyarrow would make bytes of text, so that names of files became images
    try:
        both = [pa.schema([("", kind)]) for kind in (first, second)]
        return pa.unify_schemas(both, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def conform(table: pa.Table, columns: pa.Schema, uri: str) -> pa.Table:
    """Returns exactly these columns with these types, of valid UTF-8; a column that the file lacks is null.

    Raises StorageError if a value does not fit, such as an integer beyond 2^53 in a column that is a float elsewhere.
    """
    made = []
    for field in columns:
        if field.name not in table.column_names:
            made.append(pa.chunked_array([pa.nulls(len(table), field.type)]))
            continue
        column = table[field.name]
        _check_dictionary(column, field.name, uri)
        try:
            made.append(_valid_text(_convert(column, field.type)))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            why = str(error).partition("\n")[0]
            raise StorageError(
                f"cannot read {uri}: column {field.name!r} is {column.type} here and {field.type} in the whole source: "
                f"{why}; write that column with one type in all files"
            ) from error
    return pa.table(made, schema=columns)


def with_bytes(kind: pa.DataType) -> pa.DataType:
    """Returns the type with bytes for text, which has the same layout: its values are not checked to be UTF-8."""
    if types.is_string(kind):
        return pa.binary()
    if types.is_large_string(kind):
        return pa.large_binary()
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(with_bytes(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(with_bytes(kind.value_type)))
    if types.is_map(kind):
        return pa.map_(*(field.with_type(with_bytes(field.type)) for field in (kind.key_field, kind.item_field)))
    if types.is_struct(kind):
        return pa.struct([field.with_type(with_bytes(field.type)) for field in _children(kind)])
    return kind


def is_list(kind: pa.DataType) -> bool:
    return types.is_list(kind) or types.is_large_list(kind)


def is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)


def _children(kind: pa.DataType) -> list[pa.Field]:
    if types.is_dictionary(kind):
        return [pa.field("", kind.value_type)]
    return [kind.field(i) for i in range(kind.num_fields)]


def _twice_in(kind: pa.DataType) -> list[str]:
    """Returns the names that several fields of a struct have, at any depth."""
    children = _children(kind)
    names = Counter(child.name for child in children) if types.is_struct(kind) else Counter()
    twice = [name for name, count in names.items() if count > 1]
    return twice or next((found for child in children if (found := _twice_in(child.type))), [])


def _plain_field(field: pa.Field) -> pa.Field:
    kind = plain(field.type)
    return field if kind == field.type else field.with_type(kind)


def _convert(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if column.type == kind:
        return column
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_list(kind) and is_text(plain(column.type)):
        values = [None if value is None else [value] for value in column.to_pylist()]
        return pa.chunked_array([pa.array(values, kind)])
    if "list_view" in str(column.type):  # at any depth: pyarrow's cast leaves out the last offset
        return pa.chunked_array([pa.array(column.to_pylist(), kind)])
    try:
        return column.cast(kind)
    except pa.ArrowNotImplementedError:
        values = column.to_pylist()
        texts = [None if value is None else str(value) for value in values]
        return pa.chunked_array([pa.array(texts if is_text(kind) else values, kind)])


def _check_dictionary(column: pa.ChunkedArray, name: str, uri: str) -> None:
    """Raises StorageError if the values of a dictionary's column would take far more memory than the file."""
    if not (types.is_dictionary(column.type) and is_text(plain(column.type))):
        return
    lengths = (pc.take(pc.binary_length(chunk.dictionary), chunk.indices) for chunk in column.chunks)
    num_bytes = sum(pc.sum(length).as_py() or 0 for length in lengths)
    if num_bytes > max(MAX_TEXT_BYTES, MAX_BYTES_PER_ROW * len(column)):
        raise StorageError(
            f"cannot read {uri}: the {len(column):,} rows read at once hold {num_bytes:,} bytes in column {name!r}, "
            "which repeats few long texts; leave that column out, or write smaller row groups"
        )


def _valid_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replaces what is not UTF-8 in a text by U+FFFD, as in the other formats: it must not fail other rows."""
    if not _has_text(column.type):
        return column
    try:
        column.validate(full=True)
        return column
    except pa.ArrowInvalid:
        return pa.chunked_array([_repaired(chunk) for chunk in column.chunks], column.type)


def _has_text(kind: pa.DataType) -> bool:
    return is_text(kind) or any(_has_text(child.type) for child in _children(kind))


def _repaired(array: pa.Array) -> pa.Array:
    values = array.view(with_bytes(array.type)).to_pylist()
    return pa.array([_text_in(value, array.type) for value in values], array.type)


def _text_in(value: Any, kind: pa.DataType) -> Any:
    """Decodes the texts of a value of the type `with_bytes(kind)`."""
    if value is None:
        return None
    if is_text(kind):
        return value.decode("utf-8", "replace")
    if types.is_struct(kind):
        return {name: _text_in(one, kind.field(name).type) for name, one in value.items()}
    if types.is_map(kind):
        return [(_text_in(key, kind.key_type), _text_in(one, kind.item_type)) for key, one in value]
    return [_text_in(one, kind.value_type) for one in value] if is_list(kind) else value
