"""Hits as JSON text, written column by column in Arrow: as objects, ten thousand of them would take longer than their
search."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from json.encoder import encode_basestring_ascii

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import to_json

from react_ray.row_guard import texts
from react_ray.search.gather import int64_array
from react_ray.serving.ranked import Ranked
from react_ray.serving.records import as_list
from react_ray.serving.view import View

TEXT = pa.large_string()
FIRST_PRINTABLE = 0x20  # JSON escapes what is below
NULL = pa.scalar("null", TEXT)


def written_hits(view: View, found: Sequence[Ranked], columns: Sequence[str]) -> list[bytes]:
    """Returns a JSON array for each query, of objects as api.Hit describes them."""
    lengths = [len(hits.pair_ids) for hits in found]
    ids = np.concatenate([np.empty(0, np.int64), *(hits.pair_ids for hits in found)])
    values = view.records.arrays_of(ids, ["caption", "url", *columns])
    pair_id, folded = int64_array(ids).cast(TEXT), any(hits.same for hits in found)
    objects = _joined(
        '{"pair_id":',
        pair_id,
        ',"score":',
        _numbers([hits.scores for hits in found]),
        ',"z":',
        _numbers([hits.z.astype(np.float64).round(3) for hits in found]),
        ',"key":"',
        _keys(found),
        '","caption":',
        *quoted(values["caption"]),
        ',"url":',
        *quoted(values["url"]),
        ',"image":',
        _images(pair_id, view.records.stored(ids)),
        ',"columns":',
        _objects(columns, values) if columns else "{}",
        ',"folded":',
        _texts([str(hits.same.get(pair, [])) for hits in found for pair in hits.pair_ids.tolist()]) if folded else "[]",
        "}",
    )
    ends = int64_array(np.concatenate([[0], np.cumsum(lengths)]))
    arrays = _joined("[", pc.binary_join(pa.LargeListArray.from_arrays(ends, objects), pa.scalar(",", TEXT)), "]")
    return [one.as_buffer().to_pybytes() for one in arrays]


def _joined(*pieces: str | pa.Array) -> pa.Array:
    """Texts that are neighbours are joined first: each piece takes time for each hit."""
    merged: list[pa.Scalar | pa.Array] = []
    for is_text, group in groupby(pieces, lambda piece: isinstance(piece, str)):
        some = list(group)
        merged += [pa.scalar("".join(some), TEXT)] if is_text else some
    return pc.binary_join_element_wise(*merged, pa.scalar("", TEXT))


def _keys(found: Sequence[Ranked]) -> str | pa.Array:
    """The key of all hits, or of each."""
    every = {hits.key if isinstance(hits.key, str) else "" for hits in found}
    same = every.pop() if len(every) == 1 else ""
    return same or _texts([key for hits in found for key in hits.keys])


def _texts(values: list[str]) -> pa.Array:
    return pa.array(values, TEXT)


def _numbers(values: Sequence[np.ndarray]) -> pa.Array:
    """NaN becomes null."""
    every = np.concatenate([np.empty(0), *values])
    numbers = pa.Array.from_buffers(pa.float64(), len(every), [None, pa.py_buffer(every)])
    written = numbers.cast(TEXT)
    return pc.if_else(pc.is_nan(numbers), NULL, written) if np.isnan(every).any() else written


def quoted(column: pa.Array) -> list[str | pa.Array]:
    """Returns the pieces of strings of JSON, or of null. What is no text as most of it is goes through Python."""
    if column.type == pa.null():
        return ["null"]
    column = column.cast(TEXT, safe=False)
    if not _is_plain(column):
        found = texts(pa.chunked_array([column]), "replace")
        return [_texts(["null" if value is None else encode_basestring_ascii(value) for value in found])]
    for character in ("\\", '"'):
        if (_bytes_of(column) == ord(character)).any():
            column = pc.replace_substring(column, character, f"\\{character}")
    return [pc.fill_null(_joined('"', column, '"'), NULL)] if column.null_count else ['"', column, '"']


def _is_plain(column: pa.Array) -> bool:
    """UTF-8 without control characters."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return bool(_bytes_of(column).min(initial=FIRST_PRINTABLE) == FIRST_PRINTABLE)


def _bytes_of(column: pa.Array) -> np.ndarray:
    """uint8, at least those of its values."""
    return np.frombuffer(column.buffers()[2] or b"", np.uint8)


def _images(pair_id: pa.Array, stored: np.ndarray) -> str | pa.Array:
    if not stored.any():
        return "null"
    paths = _joined('"/v1/pairs/', pair_id, '/image"')
    return pc.if_else(pa.array(stored.tolist(), pa.bool_()), paths, NULL)


def _objects(columns: Sequence[str], values: dict[str, pa.Array]) -> pa.Array:
    rows = zip(*(as_list(values[name]) for name in columns), strict=True)
    return _texts([to_json(dict(zip(columns, row, strict=True)), inf_nan_mode="null").decode() for row in rows])
