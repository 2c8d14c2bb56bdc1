"""Writes how many there are of a thing, in the number of its noun."""

from __future__ import annotations


def counted(num: int, noun: str, plural: str = "") -> str:
    """`1 image`, `1,204 images`. plural: of a noun that does not take an s, such as `classes`."""
    return f"{num:,} {noun if num == 1 else plural or f'{noun}s'}"
