"""Parses the conditions of `retrieve.filters` and applies them to the columns of a table.

Takes 'COLUMN OP VALUE' with OP one of >= <= > < == != in, not in, contains, not contains; gives conditions whose `mask`
is True where a row passes. A row without a value passes no condition, because a pair that is not known to be safe is
not kept.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray.errors import ConfigError

FORM = re.compile(
    r"\s*([^\s<>=!]+)\s*(>=|<=|==|!=|>|<|\bnot in\b|\bin\b|\bnot contains\b|\bcontains\b)\s*(.+?)\s*", re.DOTALL
)
ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    text: str
    column: str
    op: str
    values: tuple[str, ...]  # several for `in` and `not in`, otherwise one

    def mask(self, column: pa.ChunkedArray) -> np.ndarray:
        """Returns bool [N]. Raises ConfigError if the column's type does not support the comparison."""
        known = pc.is_valid(column).to_numpy()
        try:
            passed = self._compare(column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            raise ConfigError(
                f"retrieve.filters: {self.text!r} cannot be asked of a column of {column.type} ({error}); write a "
                "value of that type"
            ) from error
        return known & passed

    def _compare(self, column: pa.ChunkedArray) -> np.ndarray:
        if self.op in ORDERS:
            numbers = pc.cast(column, pa.float64()).fill_null(float("nan")).to_numpy()
            return ORDERS[self.op](numbers, float(self.values[0]))
        texts = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if self.op.endswith("contains"):
            found = pc.match_substring(
                column if texts else pc.cast(column, pa.string()), self.values[0], ignore_case=True
            )
        elif texts or pa.types.is_boolean(column.type):
            wanted = [v.lower() for v in self.values] if not texts else list(self.values)
            found = pc.is_in(column if texts else pc.cast(column, pa.string()), value_set=pa.array(wanted, pa.string()))
        else:
            numbers = pc.cast(column, pa.float64())
            found = pc.is_in(numbers, value_set=pa.array([float(v) for v in self.values], pa.float64()))
        found = found.fill_null(False).to_numpy().astype(bool)
        return ~found if self.op in ("!=", "not in", "not contains") else found


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
    values = [v.strip().strip("'\"") for v in (value.strip("[]()").split(",") if op.endswith("in") else [value])]
    if op in ORDERS:
        try:
            float(values[0])
        except ValueError:
            raise ConfigError(f"retrieve.filters: {text!r} compares with {values[0]!r}; write a number there") from None
    return Condition(text, column, op, tuple(v for v in values if v))
