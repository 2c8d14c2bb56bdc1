"""Finds the sizes of the pictures in an AVIF: those that its boxes claim, and those that its AV1 data really have.

Boxes are ISO/IEC 23008-12's, sequence headers are those of the AV1 specification, section 5.5.1. The decoder allocates
what a sequence header says, whatever the boxes around it say.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

SEQUENCE_HEADER = 1  # obu_type
MOST_ITEMS = 4096
ISPE = b"\0\0\0\x14ispe"
Size = tuple[int, int]


def avif_sizes(data: bytes) -> Iterator[Size]:
    """Yields width and height of each; damaged boxes yield nothing."""
    at = data.find(ISPE)
    while at >= 0:
        if at + 20 <= len(data):
            yield struct.unpack_from(">II", data, at + 12)
        at = data.find(ISPE, at + 4)
    for coded in [*_items(data), *_samples(data)]:
        yield from _sequence_sizes(coded)


def avif_exif(data: bytes) -> Iterator[bytes]:
    """Yields each item that can be EXIF data: behind four bytes that say where these begin."""
    for item in _items(data):
        start = 4 + int.from_bytes(item[:4], "big")
        if item[start : start + 2] in (b"II", b"MM"):
            yield item[start:]


def _items(data: bytes) -> list[bytes]:
    """Returns the data of all items: the extents that the box `iloc` lists."""
    at = data.find(b"iloc") + 4
    if at < 4:
        return []
    found = []
    try:
        version = data[at]
        offset_size, length_size = data[at + 4] >> 4, data[at + 4] & 15
        base_size, index_size = data[at + 5] >> 4, data[at + 5] & 15 if version else 0
        wide = 4 if version == 2 else 2
        at += 6
        count, at = _integer(data, at, wide)
        for _ in range(min(count, MOST_ITEMS)):
            at += wide
            in_idat = version > 0 and data[at + 1] & 15 == 1
            at += 2 if version else 0
            base, at = _integer(data, at + 2, base_size)
            if in_idat:
                base += data.find(b"idat") + 4
            extents, at = _integer(data, at, 2)
            parts = []
            for _ in range(extents):
                offset, at = _integer(data, at + index_size, offset_size)
                length, at = _integer(data, at, length_size)
                start = base + offset
                parts.append(data[start : start + length] if length else data[start:])
            found.append(b"".join(parts))
    except IndexError:
        pass  # the decoder will refuse the file
    return found


def _samples(data: bytes) -> list[bytes]:
    """Returns what follows each chunk offset of an image sequence."""
    found = []
    for box, size in ((b"stco", 4), (b"co64", 8)):
        at = data.find(box) + 4
        if at < 4:
            continue
        try:
            count, at = _integer(data, at + 4, 4)
            for _ in range(min(count, MOST_ITEMS)):
                start, at = _integer(data, at, size)
                found.append(data[start:])
        except IndexError:
            continue
    return found


def _integer(data: bytes, at: int, size: int) -> tuple[int, int]:
    """Returns an integer of `size` bytes (0 = none), and where it ends. IndexError behind the end of the data."""
    if at + size > len(data):
        raise IndexError(at)
    return int.from_bytes(data[at : at + size], "big"), at + size


def _sequence_sizes(coded: bytes) -> Iterator[Size]:
    """Yields the sizes in all sequence headers of a stream of OBUs."""
    at = 0
    while at < len(coded):
        head = coded[at]
        if head & 0x80 or not head & 0x02:  # forbidden bit; without a size the OBU is the last
            if not head & 0x80 and head >> 3 & 15 == SEQUENCE_HEADER:
                yield from _size_of(coded[at + 1 + (head >> 2 & 1) :])
            return
        at += 2 if head & 0x04 else 1
        length = shift = 0
        while True:  # leb128
            if at >= len(coded) or shift > 49:
                return
            length |= (coded[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not coded[at - 1] & 0x80:
                break
        if head >> 3 & 15 == SEQUENCE_HEADER:
            yield from _size_of(coded[at : at + length])
        at += length


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.left = len(data) * 8
        self.value = int.from_bytes(data, "big")

    def take(self, count: int) -> int:
        if count > self.left:
            raise IndexError(count)
        self.left -= count
        return self.value >> self.left & ((1 << count) - 1)


def _size_of(header: bytes) -> Iterator[Size]:
    try:
        bits = _Bits(header[:256])
        bits.take(4)  # profile, still picture
        if bits.take(1):  # the reduced header of a still picture
            bits.take(5)
        else:
            _skip_operating_points(bits)
        width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
        yield bits.take(width_bits) + 1, bits.take(height_bits) + 1
    except IndexError:
        return


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):  # equal intervals, whose length is an exponential Golomb code
            zeros = 0
            while not bits.take(1):
                zeros += 1
            bits.take(zeros if zeros < 32 else 0)
        if bits.take(1):  # decoder model
            delay_bits = bits.take(5) + 1
            bits.take(42)
    has_delays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_delays and bits.take(1):
            bits.take(4)
