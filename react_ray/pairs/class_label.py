"""Reads Hugging Face's feature ClassLabel: integers whose names are in the metadata of a Parquet or Arrow file.

A column of captions of this kind becomes one of names while its source is planned; its field carries the names, so that
every part is read alike.
"""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

NAMES = b"react_ray.class_names"  # in the metadata of a field


def class_label_names(columns: pa.Schema, column: str) -> list[str]:
    """Returns the name of each integer of a column; empty if the metadata of the file do not tell."""
    try:
        told = json.loads((columns.metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    if isinstance(told, dict):  # an old form: {"0": name}
        told = [told.get(str(number)) for number in range(len(told))]
    return told if isinstance(told, list) and all(isinstance(name, str) for name in told) else []


def with_names(columns: pa.Schema, column: str) -> pa.Schema:
    """Returns the columns of a file, of which `column` becomes text if its integers have names."""
    at = columns.get_field_index(column)
    if at < 0 or not pa.types.is_integer(columns.field(at).type) or not (names := class_label_names(columns, column)):
        return columns
    return columns.set(at, pa.field(column, pa.string(), metadata={NAMES: json.dumps(names)}))


def names_in(field: pa.Field) -> list[str]:
    """Returns the names that `with_names` gave to a field; empty for any other."""
    told = (field.metadata or {}).get(NAMES)
    return json.loads(told) if told else []


def name_integers(table: pa.Table, columns: pa.Schema) -> pa.Table:
    """Replaces the integers of a file by the names that `columns` carry; one without a name becomes null."""
    for at, column in enumerate(table.schema):
        names = names_in(columns.field(column.name)) if column.name in columns.names else []
        if names and pa.types.is_integer(column.type):
            number = table[column.name].cast(pa.int64())
            known = pc.and_(pc.greater_equal(number, 0), pc.less(number, len(names)))
            number = pc.if_else(known, number, pa.scalar(None, pa.int64()))
            table = table.set_column(at, column.name, pc.take(pa.array(names, pa.string()), number))
    return table
