"""Defines FetchResult, the outcome of one URL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class FetchResult:
    """`status` is one of status.py; `error` is one line, equal in every run; `data` is None unless the status is ok."""

    status: str
    error: str | None
    data: bytes | None
    seconds: float  # from the first request to the last byte of the last one, pauses included
    tries: int  # requests without those of redirects; 0 = refused before any request
    http_status: int | None  # of the last response


OnDone = Callable[[int, FetchResult], None]  # row, result
