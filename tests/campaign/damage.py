"""Damages bytes as disks, networks and editors do: flips, cuts, insertions, repetitions, zeros and splices."""

from __future__ import annotations

import random
from collections.abc import Callable

HEAD = 200  # bytes in which most formats keep their sizes and offsets; half of all damage is done there
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF)


def damaged(data: bytes, rng: random.Random, other: bytes = b"") -> tuple[bytes, str]:
    """Returns the damaged bytes and what was done. other: a file of the same kind, for splices."""
    if not data:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(64))), "noise for nothing"
    name, damage = rng.choice(list(DAMAGES.items()))
    if name == "splice":
        at = _place(data, rng)
        return data[:at] + (other or data)[min(at, len(other or data)) // 2 :], f"splice at {at}"
    return damage(data, rng), name


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def noise(data: bytes, rng: random.Random) -> bytes:
    at, length = _place(data, rng), rng.choice((1, 4, 16, 200))
    return data[:at] + bytes(rng.randrange(256) for _ in range(length)) + data[at + length :]


def extreme(data: bytes, rng: random.Random) -> bytes:
    """Writes a number at the edge of its range, of 1 to 8 bytes and in either order."""
    size, order = rng.choice((1, 2, 4, 4, 8)), rng.choice(("little", "big"))
    at = _place(data, rng)
    value = rng.choice(EXTREMES) & ((1 << 8 * size) - 1)
    return (data[:at] + value.to_bytes(size, order) + data[at + size :])[: max(len(data), at + size)]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((rng.randrange(len(data)), _place(data, rng), len(data) - 1, 0))]


def behead(data: bytes, rng: random.Random) -> bytes:
    return data[_place(data, rng) :]


def drop(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 8, 100)) :]


def insert(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 8, 100)))) + data[at:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at : at + rng.choice((1, 16, 300))] * rng.choice((2, 3, 50)) + data[at:]


def zero(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    length = min(rng.choice((1, 16, 512, 5000)), len(data) - at)
    return data[:at] + bytes(length) + data[at + length :]


def twice(data: bytes, rng: random.Random) -> bytes:
    return data + data


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    each.__name__: each for each in (flip, flip, noise, extreme, cut, behead, drop, insert, repeat, zero, twice)
} | {"splice": flip}


def _place(data: bytes, rng: random.Random) -> int:
    return rng.randrange(min(len(data), HEAD) if rng.random() < 0.5 else len(data))
