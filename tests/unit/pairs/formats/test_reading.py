from __future__ import annotations

import struct

import pytest

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.formats.reading import reading


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError("no such bytes\n\tthere"), "no such bytes there"),
        (ValueError(), "ValueError"),
        (RecursionError("maximum recursion depth"), "RecursionError: maximum recursion depth"),
        (NotImplementedError("method 99"), "NotImplementedError: method 99"),
        (struct.error("unpack requires 4 bytes"), "error: unpack requires 4 bytes"),
        (MemoryError(), "MemoryError"),
        (KeyError("x" * 1000), f"KeyError: '{'x' * 299}"),
    ],
)
def test_whatever_a_library_raises_is_one_line_that_names_the_file(error: Exception, shown: str) -> None:
    with pytest.raises(StorageError) as raised, reading("s3://bucket/a.npz"):
        raise error
    assert str(raised.value) == (
        f"cannot read s3://bucket/a.npz: {shown}; the file is damaged or has changed: write it again"
    )
    assert raised.value.__cause__ is error


def test_errors_of_ours_are_left_alone() -> None:
    with pytest.raises(ConfigError, match=r"^a; b$"), reading("x"):
        raise ConfigError("a; b")
