from __future__ import annotations

from datetime import date, datetime

import pyarrow as pa
import pytest

from react_ray.errors import ConfigError
from react_ray.selection.filters import check_columns, parse

TABLE = pa.table(
    {
        "width": pa.array([100, 200, None, 300], pa.int32()),
        "punsafe": pa.array([0.1, None, float("nan"), 0.9], pa.float32()),
        "NSFW": ["UNLIKELY", "UNSURE", None, "NSFW"],
        "caption": ["A red fox", "blue Fox den", "", None],
        "watermarked": [True, False, None, False],
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("width >= 200", [False, True, False, True]),
        ("width<200", [True, False, False, False]),
        ("width == 300", [False, False, False, True]),
        ("width != 300", [True, True, False, False]),
        ("width in 100, 300", [True, False, False, True]),
        ("punsafe <= 0.5", [True, False, False, False]),
        ("NSFW in UNLIKELY, UNSURE", [True, True, False, False]),
        ("NSFW not in [NSFW]", [True, True, False, False]),
        ("NSFW == 'UNSURE'", [False, True, False, False]),
        ("caption contains fox", [True, True, False, False]),
        ("caption not contains red fox", [False, True, False, False]),
        ("watermarked == false", [False, True, False, True]),
    ],
)
def test_a_condition_keeps_the_rows_that_it_says_and_none_without_a_value(text: str, expected: list[bool]) -> None:
    (condition,) = parse([text])
    assert condition.judge(TABLE[condition.column])[0].tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width", "is no condition"),
        (">= 3", "is no condition"),
        ("width >= wide", "write a number"),
        ("", "is no condition"),
    ],
)
def test_a_text_that_is_no_condition_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse([text])


def test_a_column_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean width"):
        check_columns(parse(["widht >= 3"]), ["width", "height"])


def test_a_comparison_that_a_type_does_not_have_is_refused() -> None:
    for text, column in (
        ("width in wide", TABLE["width"]),
        ("watermarked == maybe", TABLE["watermarked"]),
        ("width >= 2024-05-01", TABLE["width"]),
        ("tags == fox", pa.chunked_array([[["fox"]]])),
    ):
        (condition,) = parse([text])
        with pytest.raises(ConfigError, match=r"cannot be asked of a column of .*; write a value of that type"):
            condition.judge(column)


# Values that hold 0.3 or more, values that hold less, and values that say nothing.
TEXTS = ["0.30", " 0.3 ", "3e-1", "1", "0.29", "-1", "", "  ", None, "None", "nan", "NaN", "N/A", "unknown", "1,200"]


@pytest.mark.parametrize(
    ("text", "passes", "known"),
    [
        ("sim >= 0.3", 4, 6),
        ("sim < 0.3", 2, 6),
        ("sim == 0.3", 3, 8),
        ("sim != 0.3", 5, 8),
        ("sim in 0.3, unknown", 4, 8),
        ("sim == nan", 1, 9),
    ],
)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_text_of_numbers_is_compared_as_numbers_and_what_says_nothing_passes_no_condition(
    text: str, passes: int, known: int, kind: pa.DataType
) -> None:
    (condition,) = parse([text])
    column = pa.chunked_array([pa.array(TEXTS[:5], pa.string()), pa.array(TEXTS[5:], pa.string())]).cast(kind)
    passed, comparable = condition.judge(column)
    assert (passed.sum(), comparable.sum()) == (passes, known)
    assert passed[: passes if ">=" in text else 0].all()


@pytest.mark.parametrize(
    ("text", "passes", "known"),
    [
        ("sim not contains 0.3", 6, 8),
        ("sim contains n", 1, 8),  # only `unknown`
        ("sim contains NONE", 1, 9),
        ("sim not contains none", 8, 9),
    ],
)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_what_says_nothing_contains_nothing_and_does_not_lack_it_either(
    text: str, passes: int, known: int, kind: pa.DataType
) -> None:
    column = pa.chunked_array([pa.array(TEXTS[:5], pa.string()), pa.array(TEXTS[5:], pa.string())]).cast(kind)
    passed, comparable = parse([text])[0].judge(column)
    assert (passed.sum(), comparable.sum()) == (passes, known)


def test_a_number_can_contain_digits_unless_it_is_none() -> None:
    column = pa.chunked_array([[2024.5, float("nan"), None, 1.0]])
    assert parse(["x contains 24"])[0].judge(column)[0].tolist() == [True, False, False, False]
    assert parse(["x not contains 24"])[0].judge(column)[0].tolist() == [False, False, False, True]


BIG = 2**53


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.string(), pa.decimal128(38, 0)])
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (f"uid == {BIG + 1}", [False, True, False]),
        (f"uid != {BIG + 1}", [True, False, True]),
        (f"uid > {BIG}", [False, True, True]),
        (f"uid <= {BIG}.5", [True, False, False]),
        (f"uid in {BIG}, {BIG + 2}", [True, False, True]),
        ("uid < 1e30", [True, True, True]),
        ("uid >= -1e30", [True, True, True]),
        ("uid == 0.5", [False, False, False]),
    ],
)
def test_integers_are_compared_exactly(kind: pa.DataType, condition: str, expected: list[bool]) -> None:
    texts = pa.chunked_array([[str(BIG), str(BIG + 1), str(BIG + 2)]])
    assert parse([condition])[0].judge(texts.cast(kind))[0].tolist() == expected


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.float16()])
def test_a_number_that_is_none_passes_no_condition_whatever_it_asks(kind: pa.DataType) -> None:
    column = pa.chunked_array([pa.array([float("nan"), None, 0.1, 3.0], pa.float64()).cast(kind)])
    assert parse(["x != 3"])[0].judge(column)[0].tolist() == [False, False, True, False]
    assert parse(["x <= 0.1"])[0].judge(column)[0].tolist() == [False, False, True, False]
    assert parse(["x not in 7, 8"])[0].judge(column)[1].tolist() == [False, False, True, True]


DAYS = [datetime(2024, 4, 30), None, datetime(2024, 5, 1), datetime(2024, 5, 1, 12)]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(DAYS, pa.timestamp("s")),
        pa.array(DAYS, pa.timestamp("ns", "Europe/Paris")),
        pa.array([day and day.isoformat() for day in DAYS]),
        pa.array([day and f"{day.isoformat()}Z" for day in DAYS]),
    ],
)
def test_dates_are_compared_as_dates(column: pa.Array) -> None:
    chunked = pa.chunked_array([column])
    assert parse(["day >= 2024-05-01"])[0].judge(chunked)[0].tolist() == [False, False, True, True]
    assert parse(["day < 2024-05-01T12:00:00+00:00"])[0].judge(chunked)[0].tolist() == [True, False, True, False]
    assert parse(["day != 2024-05-01"])[0].judge(chunked)[0].tolist() == [True, False, False, True]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_a_column_of_days_is_compared_with_a_day(kind: pa.DataType) -> None:
    days = pa.chunked_array([pa.array([date(1969, 12, 31), date(2024, 5, 1), None], kind)])
    assert parse(["day < 1970-01-01"])[0].judge(days)[0].tolist() == [True, False, False]
    assert parse(["day in 2024-05-01, 2024-05-02"])[0].judge(days)[0].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("values", "value"),
    [([True, False, None], "true"), ([True, False, None], "1"), (["True", "False", ""], "true"), ([1, 0, None], "1")],
)
def test_truth_has_several_spellings(values: list[object], value: str) -> None:
    column = pa.chunked_array([pa.array(values)])
    assert parse([f"flag == {value}"])[0].judge(column)[0].tolist() == [True, False, False]
    assert parse([f"flag != {value}"])[0].judge(column)[0].tolist() == [False, True, False]


def test_names_and_values_with_spaces_and_commas_are_written_in_quotes() -> None:
    (condition,) = parse(["'my col' not in \"it's, ok\", b"])
    assert (condition.column, condition.op, condition.values) == ("my col", "not in", ("it's, ok", "b"))
    column = pa.chunked_array([["it's, ok", "a", "b"]])
    assert condition.judge(column)[0].tolist() == [False, True, False]


def test_a_column_without_any_value_passes_nothing_and_an_empty_value_is_refused() -> None:
    passed, known = parse(["x != 3"])[0].judge(pa.chunked_array([pa.nulls(2)]))
    assert passed.tolist() == known.tolist() == [False, False]
    with pytest.raises(ConfigError, match="names no value"):
        parse(["license == ''"])
