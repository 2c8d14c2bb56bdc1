"""Writes the values of a stored table as short texts: an image as `webp 64x64, 1.2 kB`, a vector as `128 x float16`.

Captions and URLs come from the web, so no character of theirs reaches a terminal that is not printable.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from react_ray import schema
from react_ray.metadata import printable, shortened
from react_ray.pairs.image import read_header
from react_ray.pairs.image_kind import kind_of

VECTORS = ("image", "text", "embedding", "text_embedding")  # the columns that hold vectors where they are so typed
UNITS = ("B", "kB", "MB", "GB", "TB")


def type_name(field: pa.Field) -> str:
    """The type of a column; a stored vector has its dimension."""
    if pa.types.is_fixed_size_binary(field.type) and field.name in VECTORS:
        return f"{schema.dim_of(field.type)} x float16"
    if pa.types.is_list(field.type):
        return f"list of {type_name(field.type.value_field)}"
    if pa.types.is_struct(field.type):
        return f"({', '.join(inner.name for inner in field.type)})"
    return str(field.type)


def cell(value: Any, field: pa.Field) -> str:
    """One value on one line; callers shorten it to their width."""
    if value is None:
        return "null"
    if pa.types.is_fixed_size_binary(field.type) and field.name in VECTORS:
        return type_name(field)
    if isinstance(value, bytes):
        return _bytes(value)
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        first = f": {cell(value[0], field.type.value_field)}" if value else ""
        return f"{len(value)}{first}"
    if isinstance(value, dict):
        return " ".join(cell(value[inner.name], inner) for inner in field.type)
    return printable(str(value))


def size(num_bytes: float) -> str:
    """A number of bytes with its unit, in steps of 1,000."""
    unit = 0
    while num_bytes >= 1000 and unit < len(UNITS) - 1:
        num_bytes, unit = num_bytes / 1000, unit + 1
    return f"{num_bytes:.1f} {UNITS[unit]}" if unit and num_bytes < 100 else f"{num_bytes:,.0f} {UNITS[unit]}"


def short_value(value: Any, most: int) -> str:
    """A value of a configuration, as JSON on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shortened(printable(text), most)


def _bytes(value: bytes) -> str:
    kind = kind_of(value)
    if not kind:
        return f"{size(len(value))} of no image"
    try:
        width, height = read_header(value).size
    except ValueError:
        return f"{kind}, damaged, {size(len(value))}"
    return f"{kind} {width}x{height}, {size(len(value))}"
