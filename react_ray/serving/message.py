"""Questions and answers as bytes, without pickle: whoever reaches the port of a group must not run code there.

A message is a head of fixed size, JSON, and the arrays that the JSON names, in their order. Arrays come back without a
copy, and cannot be written to.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from react_ray.index.class_hits import Classes, ClassHits
from react_ray.index.config import SearchParams
from react_ray.index.merge import Hits
from react_ray.index.search_shards import Proposed
from react_ray.serving.groups import Asked
from react_ray.serving.stamp import Stamp

KINDS = {kind.__name__: kind for kind in (Asked, Stamp, SearchParams, Classes, Hits, ClassHits, Proposed)}
ARRAY, BYTES, MAPPING = "array", "bytes", "mapping"  # other kinds of objects than these classes
HEAD = struct.Struct("<QQ")  # bytes of the JSON, and of the arrays
ALIGNED = 16  # bytes, to a multiple of which everything is filled up


def pack(value: Any) -> list[bytes | memoryview]:
    """value: of numbers, texts, None, bytes, arrays, tuples, mappings by texts, and KINDS. TypeError for anything else.

    Returns the pieces of the message.
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_plain(value, arrays)).encode()
    text += b" " * (-len(text) % ALIGNED)
    pieces: list[bytes | memoryview] = []
    for array in arrays:
        pieces.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b"")
        pieces.append(bytes(-array.nbytes % ALIGNED))
    return [HEAD.pack(len(text), sum(map(len, pieces))), text, *pieces]


def _plain(value: Any, arrays: list[np.ndarray]) -> Any:
    """As JSON knows it; appends its arrays."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list)):
        return [_plain(one, arrays) for one in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays.append(value)
        return {"is": ARRAY, "dtype": value.dtype.str, "shape": value.shape}
    if isinstance(value, bytes):
        arrays.append(np.frombuffer(value, np.uint8))
        return {"is": BYTES, "size": len(value)}
    if isinstance(value, Mapping):
        return {"is": MAPPING, "of": [[name, _plain(one, arrays)] for name, one in value.items()]}
    name = type(value).__name__
    if KINDS.get(name) is not type(value):
        raise TypeError(f"no message says a {type(value).__qualname__}")
    fields = {field.name: _plain(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
    return {"is": name, **fields}


def unpack(text: bytes, data: bytes) -> Any:
    """The two parts behind the head of a message. Lists come back as tuples."""
    at = 0

    def taken(dtype: np.dtype[Any], count: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(data, dtype, count, at) if count else np.empty(0, dtype)
        at += found.nbytes + -found.nbytes % ALIGNED
        return found

    def made(found: dict[str, Any]) -> Any:  # the innermost first, so arrays come in the order in which they were said
        kind = found.pop("is")
        if kind == ARRAY:
            shape = found["shape"]
            return taken(np.dtype(found["dtype"]), int(np.prod(shape, dtype=np.int64))).reshape(shape)
        if kind == BYTES:
            return taken(np.dtype(np.uint8), found["size"]).tobytes()
        if kind == MAPPING:
            return dict(found["of"])
        return KINDS[kind](**{name: _tuples(one) for name, one in found.items()})

    return _tuples(json.loads(text, object_hook=made))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
