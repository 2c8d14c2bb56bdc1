"""Reads the first directory of tags of a TIFF, or of EXIF data, which are a TIFF of their own.

Only entries are read, never the data that they point to: a hostile directory of 65,535 entries can point each of them
at the whole file, and would fill any memory.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

EXIF = b"Exif\0\0"
NUM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
SHORT, LONG, LONG8 = 3, 4, 16
INTEGERS = {1: "B", SHORT: "H", LONG: "I", LONG8: "Q"}
ORIENTATION, BITS, PHOTOMETRIC = 0x0112, 258, 262
WHITE_IS_ZERO = 0


class DamagedHeader(ValueError):
    """The tags cannot be read, or are not to be read."""


class Tags(NamedTuple):
    """values: the first integer of each tag that holds some. places: where in the data it lies, and how long it is.

    counts: how many values a tag has. num_bytes: what all tags point to together.
    """

    values: dict[int, int]
    places: dict[int, slice]
    counts: dict[int, int]
    num_bytes: int


def read_tags(data: bytes) -> Tags:
    """Raises DamagedHeader for bytes that are no directory."""
    try:
        return _read_tags(data)
    except struct.error as error:
        raise DamagedHeader("the directory of the TIFF is cut") from error


def with_zero_as_black(data: bytes) -> tuple[bytes, bool]:
    """Returns a TIFF whose grey of 16 or 32 bits begins with white as if it began with black, and whether it did.

    Pillow knows few such forms and inverts none of them.
    """
    tags = read_tags(data)
    if tags.values.get(PHOTOMETRIC) != WHITE_IS_ZERO or tags.values.get(BITS, 1) < 16:
        return data, False
    place = tags.places[PHOTOMETRIC]
    one = (1).to_bytes(place.stop - place.start, "little" if data[:2] == b"II" else "big")
    return data[: place.start] + one + data[place.stop :], True


def points_beyond(data: bytes) -> bool:
    """True for a directory whose entries share their bytes so much that reading them would fill memory."""
    try:
        return _read_tags(data).num_bytes > 2 * len(data)
    except (ValueError, struct.error):
        return False  # nobody can read it


def exif_orientation(exif: bytes) -> int:
    """Returns the orientation, 1 to 8; 1 also if there is none. As in browsers, it must be one SHORT."""
    while exif.startswith(EXIF):
        exif = exif[len(EXIF) :]
    try:
        value = _read_tags(exif, only=(ORIENTATION, SHORT, 1)).values.get(ORIENTATION, 1)
    except (ValueError, struct.error):
        return 1
    return value if 1 <= value <= 8 else 1


def _read_tags(data: bytes, only: tuple[int, int, int] | None = None) -> Tags:
    """only: tag, type and count of the one entry that is wanted."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise DamagedHeader("not a TIFF")
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    pointer, entry, room = ("Q", "HHQ", 8) if is_big else ("I", "HHI", 4)
    (start,) = struct.unpack_from(order + pointer, data, 8 if is_big else 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", data, start)
    first = start + (8 if is_big else 2)
    size = struct.calcsize("<" + entry) + room
    values: dict[int, int] = {}
    places: dict[int, slice] = {}
    counts: dict[int, int] = {}
    num_bytes = 0
    for at in range(first, min(first + count * size, len(data) - size + 1), size):
        tag, kind, length = struct.unpack_from(order + entry, data, at)
        if only is not None and (tag, kind, length) != only:
            continue
        total = length * NUM_BYTES.get(kind, 0)
        num_bytes += total
        counts[tag] = length
        if kind in INTEGERS and length:
            inside = at + size - room
            value_at = inside if total <= room else struct.unpack_from(order + pointer, data, inside)[0]
            if value_at + NUM_BYTES[kind] <= len(data):
                (values[tag],) = struct.unpack_from(order + INTEGERS[kind], data, value_at)
                places[tag] = slice(value_at, value_at + NUM_BYTES[kind])
        if only is not None:
            break
    return Tags(values, places, counts, num_bytes)
