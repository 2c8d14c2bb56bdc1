from __future__ import annotations

import pyarrow as pa
import pytest

from react_ray.errors import StorageError
from react_ray.pairs.column_types import conform, plain, unify

TEXT, TEXTS = pa.string(), pa.list_(pa.string())


@pytest.mark.parametrize(
    "kind",
    [
        TEXT,
        pa.large_string(),
        pa.binary(),
        pa.list_(pa.field("element", TEXT)),
        pa.list_(pa.float32(), 4),
        pa.struct([("bytes", pa.binary()), ("path", TEXT)]),
        pa.timestamp("ns", "UTC"),
        pa.null(),
        pa.binary(4),
        pa.map_(TEXT, TEXT),
    ],
)
def test_ordinary_types_stay_as_they_are(kind: pa.DataType) -> None:
    assert plain(kind) == kind


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.dictionary(pa.int8(), pa.large_string()), pa.large_string()),
        (pa.dictionary(pa.int8(), pa.int64()), pa.int64()),
        (pa.run_end_encoded(pa.int32(), pa.string_view()), TEXT),
        (pa.list_(pa.string_view(), 2), TEXTS),
        (pa.large_list_view(pa.binary_view()), pa.large_list(pa.binary())),
        (pa.struct([("a", pa.list_view(TEXT))]), pa.struct([("a", TEXTS)])),
        (pa.struct([]), TEXT),
        (pa.uuid(), pa.binary(16)),
    ],
)
def test_other_types_are_stored_as_what_they_hold(kind: pa.DataType, expected: pa.DataType) -> None:
    assert plain(kind) == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (pa.null(), TEXT, TEXT),
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.int64(), pa.float64(), pa.float64()),
        (TEXT, pa.large_string(), pa.large_string()),
        (TEXT, TEXTS, TEXTS),
        (TEXTS, pa.large_list(TEXT), pa.large_list(TEXT)),
        (pa.list_(pa.null()), TEXTS, TEXTS),
        (
            pa.struct([("a", pa.int32())]),
            pa.struct([("a", pa.int64()), ("b", TEXT)]),
            pa.struct([("a", pa.int64()), ("b", TEXT)]),
        ),
        (pa.list_(pa.float32(), 4), pa.list_(pa.float64(), 4), pa.list_(pa.float64(), 4)),
        (TEXT, pa.int64(), None),
        (TEXT, pa.binary(), None),
        (pa.bool_(), pa.int64(), None),
        (TEXTS, pa.list_(pa.int64()), None),
    ],
)
def test_two_types_are_one_in_either_order(
    first: pa.DataType, second: pa.DataType, expected: pa.DataType | None
) -> None:
    assert unify(first, second) == unify(second, first) == expected
    if expected is not None:
        table = pa.table({"x": pa.nulls(3, first)})
        assert conform(table, pa.schema([("x", expected), ("y", second)]), "a").schema.types == [expected, second]


def test_a_value_that_the_common_type_does_not_have_is_an_error_and_not_another_value() -> None:
    for value, kind in ((2**53 + 1, pa.float64()), (2**63, pa.int64())):
        table = pa.table({"uid": pa.array([1, value], pa.uint64())})
        with pytest.raises(StorageError, match=r"^cannot read b: column 'uid' is uint64 here .*; write that"):
            conform(table, pa.schema([("uid", kind)]), "b")
