"""Parses the conditions of `retrieve.filters` and applies them to the columns of a table.

Takes 'COLUMN OP VALUE' with OP one of >= <= > < == != in, not in, contains, not contains; gives conditions whose
`judge` says for each row whether it passes and whether its value is known. A row without a value passes no condition,
because a pair that is not known to be safe is not kept: null, NaN, blank text, words such as `None`, and text that is
no number where numbers are compared. Names and values with spaces or commas are written in quotes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from react_ray.errors import ConfigError
from react_ray.pairs.column_types import is_text, plain
from react_ray.selection.comparable import COMPARE, are_equal, compare_floats, compare_integers, number, time, truth

FORM = re.compile(
    r"""\s*("[^"]+"|'[^']+'|[^\s<>=!]+)\s*"""
    r"(>=|<=|==|!=|>|<|\bnot in\b|\bin\b|\bnot contains\b|\bcontains\b)\s*(.+?)\s*",
    re.DOTALL,
)
VALUES = re.compile(r""""[^"]*"|'[^']*'|[^,]+""")
NO_VALUE = frozenset(("", "none", "null", "nan", "nat", "na", "n/a", "<na>"))  # as pandas and others write them
PLAIN_OP = {"!=": "==", "not in": "==", "in": "==", "not contains": "contains"}
NEGATED = frozenset(("!=", "not in", "not contains"))
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class Condition:
    text: str
    column: str
    op: str
    values: tuple[str, ...]  # several for `in` and `not in`, otherwise one

    def judge(self, column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """Returns two arrays, bool [N]: which rows pass, and which have a value that can be compared.

        Raises ConfigError if the column's type does not support the comparison.
        """
        try:
            kind = plain(column.type)
            column = column if column.type == kind else column.cast(kind)
            passed, comparable = self._compare(column, PLAIN_OP.get(self.op, self.op))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            raise ConfigError(
                f"retrieve.filters: {self.text!r} cannot be asked of a column of {column.type} ({error}); write a "
                "value of that type"
            ) from error
        known = pc.is_valid(column).to_numpy() & comparable
        return known & (~passed if self.op in NEGATED else passed), known

    def _compare(self, column: pa.ChunkedArray, op: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns which rows pass `op`, and which can be compared; null rows are either."""
        kind, every = column.type, np.ones(len(column), bool)
        if types.is_null(kind):
            return ~every, ~every
        if op == "contains":
            return self._contain(column.cast(pa.string()))
        if is_text(kind) or types.is_decimal(kind):
            return self._compare_texts(column.cast(pa.string()), op)
        if types.is_floating(kind):
            floats = column.fill_null(pa.scalar(float("nan"), kind)).to_numpy()
            wanted = [self._as(number, text) for text in self.values]
            return np.logical_or.reduce([compare_floats(floats, op, w) for w in wanted]), ~np.isnan(floats)
        if types.is_boolean(kind):
            integers = column.cast(pa.int8())
            wanted = [Decimal(self._as(truth, text)) for text in self.values]
        elif types.is_integer(kind):
            integers = column
            wanted = [self._as(number, text) for text in self.values]
        elif types.is_date(kind) or types.is_timestamp(kind):
            times = column if types.is_timestamp(kind) else column.cast(pa.timestamp("ms"))
            integers = times.cast(pa.int64())
            scale = Decimal(PER_SECOND[times.type.unit]) / PER_SECOND["us"]
            wanted = [self._as(time, text) * scale for text in self.values]
        else:
            raise ValueError("only numbers, texts, dates and truth values are compared")
        filled = integers.fill_null(0).to_numpy()
        return np.logical_or.reduce([compare_integers(filled, op, w) for w in wanted]), every

    def _contain(self, column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """Judges all texts at once, because captions are long and rarely equal."""
        found = pc.match_substring(column, self.values[0], ignore_case=True)
        trimmed = pc.utf8_trim_whitespace(column)
        short = np.flatnonzero(pc.binary_length(trimmed).fill_null(0).to_numpy() <= max(map(len, NO_VALUE)))
        none = pa.array(NO_VALUE - {self.values[0].lower()})
        known = np.ones(len(column), bool)
        known[short] = ~pc.is_in(pc.utf8_lower(trimmed.take(short)), none).to_numpy()
        return found.fill_null(False).to_numpy(), known

    def _compare_texts(self, column: pa.ChunkedArray, op: str) -> tuple[np.ndarray, np.ndarray]:
        """Judges each distinct text once."""
        distinct = column.combine_chunks().dictionary_encode()
        verdicts = [*(self._judge(text.strip(), op) for text in distinct.dictionary.to_pylist()), None]
        at = distinct.indices.fill_null(len(verdicts) - 1).to_numpy()
        passed, known = ([verdict is True for verdict in verdicts], [verdict is not None for verdict in verdicts])
        return np.array(passed)[at], np.array(known)[at]

    def _judge(self, text: str, op: str) -> bool | None:
        """Returns None if the text has no value that can be compared."""
        if text.lower() in NO_VALUE and text not in self.values:
            return None
        if op == "==":
            return any(are_equal(text, value) for value in self.values)
        read = time if number(self.values[0]) is None else number
        value = read(text)
        return None if value is None else bool(COMPARE[op](value, read(self.values[0])))

    @staticmethod
    def _as(read: Callable[[str], Any], text: str) -> Any:
        value = read(text)
        if value is None:
            raise ValueError(f"{text!r} is none")
        return value


def parse(texts: list[str]) -> list[Condition]:
    """Raises ConfigError for a text that is not a condition."""
    return [_parse(text) for text in texts]


def check_columns(conditions: list[Condition], known: list[str]) -> None:
    """Raises ConfigError for the first condition on an unknown column, and suggests the most similar name."""
    for condition in conditions:
        if condition.column not in known:
            near = difflib.get_close_matches(condition.column, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
            raise ConfigError(
                f"retrieve.filters: {condition.text!r}: pairs and images have no column {condition.column!r}; {hint}"
            )


def _parse(text: str) -> Condition:
    form = FORM.fullmatch(text)
    if form is None:
        raise ConfigError(
            f"retrieve.filters: {text!r} is no condition; write for example 'width >= 200' or 'language in en, de'"
        )
    column, op, value = form.groups()
    several = VALUES.findall(value.strip("[]()")) if op.endswith("in") else [value]
    values = tuple(v for v in map(_unquoted, several) if v)
    if not values:
        raise ConfigError(f"retrieve.filters: {text!r} names no value; a pair without a value passes no condition")
    if op in COMPARE and op != "==" and number(values[0]) is None and time(values[0]) is None:
        raise ConfigError(
            f"retrieve.filters: {text!r} compares with {values[0]!r}; write a number there, or a date as 2024-05-01"
        )
    return Condition(text, _unquoted(column), op, values)


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
