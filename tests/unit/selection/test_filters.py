from __future__ import annotations

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
        ("caption not contains red fox", [False, True, True, False]),
        ("watermarked == false", [False, True, False, True]),
    ],
)
def test_a_condition_keeps_the_rows_that_it_says_and_none_without_a_value(text: str, expected: list[bool]) -> None:
    (condition,) = parse([text])
    assert condition.mask(TABLE[condition.column]).tolist() == expected


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
    (condition,) = parse(["NSFW >= 0.5"])
    with pytest.raises(ConfigError, match="cannot be asked of a column of string"):
        condition.mask(TABLE["NSFW"])
    (condition,) = parse(["width in wide"])
    with pytest.raises(ConfigError, match="cannot be asked"):
        condition.mask(TABLE["width"])
