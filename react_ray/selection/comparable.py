"""Reads numbers, times and truth values of texts, exactly, and compares them with the values of a column."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import numpy as np

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,4})?|[+-]?inf(inity)?", re.IGNORECASE)
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].+)?")
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
BEYOND = Decimal(1 << 70)  # no column of integers reaches it
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq,
}  # fmt: skip


def number(text: str) -> Decimal | None:
    """Returns None if the text is no number; NaN is none either."""
    return Decimal(text) if NUMBER.fullmatch(text) else None


def time(text: str) -> Decimal | None:
    """Returns the microseconds since 1970 of an ISO date, with or without a time of day (UTC if it names no zone)."""
    if not TIME.fullmatch(text):
        return None
    try:
        when = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return Decimal((when - EPOCH) // timedelta(microseconds=1))


def truth(text: str) -> bool | None:
    return TRUTH.get(text.lower())


def are_equal(first: str, second: str) -> bool:
    """Returns True for one text in two spellings: 0.3 and 0.30, True and true, 2024-05-01 and 2024-05-01T00:00:00."""
    if first == second:
        return True
    for read in (number, time):
        value = read(first)
        if value is not None and value == read(second):
            return True
    words = {first.lower(), second.lower()}
    return len(words) == 1 and words <= TRUTH.keys()


def compare_integers(values: np.ndarray, op: str, wanted: Decimal) -> np.ndarray:
    """Compares exactly, also beyond 2^53 and with fractions."""
    wanted = max(-BEYOND, min(BEYOND, wanted))
    if op == "==" and wanted != wanted.to_integral_value():
        return np.zeros(len(values), bool)
    whole = int(wanted.to_integral_value(ROUND_CEILING if op in (">=", "<") else ROUND_FLOOR))
    limits = np.iinfo(values.dtype)
    if not limits.min <= whole <= limits.max:
        return np.full(len(values), COMPARE[op](0, whole))
    return np.asarray(COMPARE[op](values, values.dtype.type(whole)))


def compare_floats(values: np.ndarray, op: str, wanted: Decimal) -> np.ndarray:
    """Compares in the type of the column: 0.1 in a float32 is the float32 0.1."""
    with np.errstate(over="ignore"):
        return np.asarray(COMPARE[op](values, values.dtype.type(float(wanted))))
