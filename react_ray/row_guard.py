"""Keeps what goes wrong with one row within this row: an exception that nobody foresaw is its status, not its part's.

Whoever works on rows one by one catches Exception around one row, and gives the row the status schema.INTERNAL_ERROR
with the reason that `unforeseen` returns. A MemoryError belongs to its row too: what one image asked for is free again.
"""

from __future__ import annotations

import logging
import re

import pyarrow as pa

from react_ray.errors import ReactRayError

logger = logging.getLogger(__name__)

LONGEST = 200  # characters of a reason
_logged: set[tuple[type[Exception], str]] = set()


def unforeseen(error: Exception) -> str:
    """Returns the name of the exception and its message in one line, which is the same in every run.

    Its traceback is logged, once per process and reason. A ReactRayError does not belong to a row: it is raised again.
    """
    if isinstance(error, ReactRayError):
        raise error
    reason = one_line(error)
    if (kind := (type(error), reason[:60])) not in _logged and len(_logged) < 100:
        _logged.add(kind)
        logger.warning("a row failed: %s", reason, exc_info=error)
    return reason


def one_line(error: BaseException, longest: int = LONGEST) -> str:
    """Returns `OverflowError: date value out of range`, without line ends and addresses of memory, and not long."""
    message = " ".join(re.sub(r"\b0x[0-9a-fA-F]+", "0x..", str(error)).split())
    line = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def texts(column: pa.ChunkedArray, errors: str) -> list[str | None]:
    """Returns a column of strings as a list. Files may hold bytes that are not UTF-8 where they promise text.

    errors: how those are decoded, as in bytes.decode; other rows do not depend on it.
    """
    try:
        found: list[str | None] = column.to_pylist()
    except UnicodeDecodeError:
        return [data if data is None else data.decode(errors=errors) for data in column.cast(pa.binary()).to_pylist()]
    return found
