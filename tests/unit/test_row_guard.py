"""What goes wrong with one row stays in this row, and is said in one line."""

from __future__ import annotations

import pyarrow as pa
import pytest

from react_ray.errors import StorageError
from react_ray.row_guard import LONGEST, one_line, texts, unforeseen


@pytest.mark.parametrize(
    "error, line",
    [
        (OverflowError("too\n  large"), "OverflowError: too large"),
        (RecursionError(), "RecursionError"),
        (
            ValueError(f"{object}: <io.BytesIO object at 0x7f3A00>"),
            f"ValueError: {object}: <io.BytesIO object at 0x..>",
        ),
        (KeyError("é\0"), "KeyError: 'é\\x00'"),
    ],
)
def test_a_reason_names_the_exception_in_one_line_that_is_the_same_in_every_run(error: Exception, line: str) -> None:
    assert unforeseen(error) == one_line(error) == line


def test_a_reason_is_not_long() -> None:
    assert len(one_line(ValueError("x" * 10_000))) == LONGEST


def test_an_error_of_ours_does_not_belong_to_a_row() -> None:
    with pytest.raises(StorageError, match="is away"):
        unforeseen(StorageError("the storage is away; try again"))


def test_bytes_that_are_not_text_change_their_own_row_only() -> None:
    raw = pa.array([b"a", None, b"\xff\xfeb", "é".encode()], pa.binary())
    wrong = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    assert texts(pa.chunked_array([wrong]), "replace") == ["a", None, "��b", "é"]
