"""What became of one URL. Next: fetch.py, which says so for many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class FetchResult:
    """`status` is of status.py; `error` is one line, the same in every run; `data` is None unless the status is ok."""

    status: str
    error: str | None
    data: bytes | None
    seconds: float  # from the first request to the last byte of the last one, with the pauses between
    tries: int  # requests that were made, redirects not counted; 0 = refused before
    http_status: int | None  # of the last answer


OnDone = Callable[[int, FetchResult], None]  # row, result
