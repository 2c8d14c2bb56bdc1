"""What a question and an answer hold comes back as it was, and nothing else can be said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from react_ray.index.class_hits import Classes, ClassHits
from react_ray.index.config import SearchParams
from react_ray.index.merge import Hits
from react_ray.index.search_shards import Proposed
from react_ray.serving.groups import Asked
from react_ray.serving.message import HEAD, pack, unpack
from react_ray.serving.stamp import Stamp

GENERATOR = np.random.default_rng(0)
FLOATS = GENERATOR.normal(size=(3, 5)).astype(np.float32)
IDS = GENERATOR.integers(-1, 2**62, (3, 5))
NOTHING = np.empty((3, 0), np.int64)
ASKED = Asked(
    Stamp("vectors", "deleted"),
    "text",
    ("width > 10", 'caption contains "é"'),
    "propose",
    FLOATS,
    (7, 3, True, {"quantizer": IDS, "": NOTHING}),
    np.array([5, 2**60]).tobytes(),
)
VALUES = [
    ASKED,
    Asked(Stamp("a", "b"), "image", (), "search", FLOATS[:, ::2], (10, SearchParams(3, 4.5), None), b""),
    Asked(Stamp("a", "b"), "image", (), "rerank", FLOATS.T, (IDS.T[:0], 1, Classes(IDS[0], IDS[1])), b"1"),
    Hits(np.array([[1, -np.inf, np.nan]], np.float32), np.array([[3, -1, -1]])),
    ClassHits(*(np.empty(0, np.int64),) * 3, np.empty(0, np.float32)),
    Proposed(FLOATS.astype(np.float16), IDS, IDS > 0, FLOATS[:, :0]),
    (None, "ü\n", 1.5, -3, np.int64(2**60), b"\x00\xff", np.array(2.0), {}),
]


def sent(value: Any) -> Any:
    head, text, *arrays = pack(value)
    data = b"".join(arrays)
    assert HEAD.unpack(head) == (len(text), len(data))
    return unpack(bytes(text), data)


def leaves(value: Any) -> Iterator[Any]:
    """What a value holds, with the types on the way."""
    if is_dataclass(value):
        yield type(value)
        for field in fields(value):
            yield from leaves(getattr(value, field.name))
    elif isinstance(value, tuple):
        yield len(value)
        for one in value:
            yield from leaves(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from leaves(one)
    elif isinstance(value, np.ndarray):
        yield value.dtype, value.shape, value.tobytes()
    else:
        yield value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_said_is_what_is_heard(value: Any) -> None:
    assert list(leaves(sent(value))) == list(leaves(value))


@pytest.mark.parametrize("value", [object(), np.array([{}]), np.array(["text"]), {1, 2}, np.datetime64("2020")])
def test_nothing_else_is_said(value: Any) -> None:
    with pytest.raises(TypeError):
        pack((value,))


@pytest.mark.parametrize("name", ["Refused", "object", "__class__"])
def test_no_other_class_is_made(name: str) -> None:
    with pytest.raises(KeyError):
        unpack(b'{"is": "%b", "message": "x"}' % name.encode(), b"")
