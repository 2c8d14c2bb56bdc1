"""Bounds the memory and the time of decoding by what the encoded bytes say, before any pixel is decoded.

The size in a header is not all that a decoder allocates. A TIFF of 64 x 64 pixels can have one tile of 20,480 x 20,480,
the frame in an AVIF and the images in an ICO can be larger than the sizes beside them, and a progressive JPEG can pass
over its pixels a thousand times. A decoder cannot be interrupted, so its time is estimated.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from PIL import Image

from react_ray.pairs.av1_sizes import avif_exif, avif_sizes
from react_ray.pairs.image_kind import kind_of
from react_ray.pairs.tiff_tags import DamagedHeader, points_beyond, read_tags

MAX_PIXELS = 50_000_000  # a phone's photo has 12 to 50 million
MAX_DECODE_S = 2.0  # a progressive JPEG of MAX_PIXELS pixels and 10 scans is estimated at 0.5
BYTES_PER_PIXEL = 8  # of a TIFF, whose channels may have 64 bits; four channels of 16 bits have 8
BLOCK_S = 50e-9  # of a JPEG, per scan and component; libjpeg-turbo takes 10 ns for an empty block, 50 for a full one
STRIP_S = 8e-6  # of a TIFF; Pillow makes objects and a decoder for each
WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH, BITS, SAMPLES = 256, 257, 322, 323, 258, 277
STRIPS, TILES = 273, 324  # their offsets
START_OF_SCAN = b"\xff\xda"
PNG = b"\x89PNG\r\n\x1a\n"


class TooLarge(ValueError):
    """The size in the header is above the limit; no pixel has been decoded."""

    def __init__(self, message: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.size = size


class TooSlow(ValueError):
    """Decoding would take longer than the limit; no pixel has been decoded."""

    def __init__(self, max_decode_s: float) -> None:
        super().__init__(f"decoding would take longer than {max_decode_s:g} s")


def check_header(data: bytes, max_pixels: int, max_decode_s: float) -> None:
    """Raises TooLarge for sizes that Pillow's header does not tell, DamagedHeader for tags that would fill memory.

    Raises TooSlow for a TIFF of too many strips.
    """
    kind = kind_of(data)
    if kind == "tif":
        _check_tiff(data, max_pixels, max_decode_s)
    elif kind in ("ico", "avif"):
        for width, height in _ico_sizes(data) if kind == "ico" else avif_sizes(data):
            if width * height > max_pixels:
                raise TooLarge(f"{width} x {height} pixels, more than {max_pixels} are allowed", (width, height))
    if kind == "avif" and any(points_beyond(exif) for exif in avif_exif(data)):
        raise DamagedHeader("the directory of the EXIF data points to more bytes than there are")


def check_time(image: Image.Image, data: bytes, max_decode_s: float) -> None:
    """Raises TooSlow. image: opened from `data`, not decoded."""
    if image.format in ("JPEG", "MPO") and _scan_seconds(image, data, max_decode_s) > max_decode_s:
        raise TooSlow(max_decode_s)


def _check_tiff(data: bytes, max_pixels: int, max_decode_s: float) -> None:
    if points_beyond(data):
        raise DamagedHeader("the directory of the TIFF points to more bytes than there are")
    tags = read_tags(data)
    if STRIP_S * max(tags.counts.get(STRIPS, 0), tags.counts.get(TILES, 0)) > max_decode_s:
        raise TooSlow(max_decode_s)
    found = tags.values
    whole = found.get(WIDTH, 0), found.get(LENGTH, 0)
    tile = found.get(TILE_WIDTH, 0), found.get(TILE_LENGTH, 0)  # a strip is never larger than the image
    bits = found.get(BITS, 1) * found.get(SAMPLES, 1)
    for (width, height), what in ((whole, ""), (tile, "a tile of ")):
        pixels = width * height
        if pixels > max_pixels:
            raise TooLarge(f"{what}{width} x {height} pixels, more than {max_pixels} are allowed", whole)
        if pixels * bits > 8 * BYTES_PER_PIXEL * max_pixels:
            raise TooLarge(f"{what}{width} x {height} pixels of {bits} bits take too much memory", whole)


def _scan_seconds(image: Image.Image, data: bytes, limit: float) -> float:
    """Estimates the time of all scans of a JPEG; stops counting above `limit`. One scan takes a negligible time."""
    source = getattr(image, "fp", None)
    header = source.tell() if source else 0  # behind the first start of scan
    components = getattr(image, "layers", 1)
    interleaved = data[header - 2 * components - 4 : header - 2 * components - 3] == bytes([components])
    if interleaved and not image.info.get("progressive"):
        return 0.0  # all in one scan, after which libjpeg stops
    blocks = image.width * image.height / 64
    seconds, at = 0.0, data.find(START_OF_SCAN)
    while at >= 0 and seconds <= limit:
        of_scan = data[at + 4] if at + 4 < len(data) else 1
        seconds += BLOCK_S * blocks * min(of_scan, components)
        at = data.find(START_OF_SCAN, at + 2)
    return seconds


def _ico_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields the sizes that the images in an ICO have themselves."""
    (count,) = struct.unpack_from("<H", data.ljust(6, b"\0"), 4)
    for at in range(6, min(6 + 16 * count, len(data) - 15), 16):
        (start,) = struct.unpack_from("<I", data, at + 12)
        if data[start : start + 8] == PNG and start + 24 <= len(data):
            yield struct.unpack_from(">II", data, start + 16)
        elif start + 12 <= len(data):
            width, height = struct.unpack_from("<ii", data, start + 4)
            yield abs(width), abs(height) // 2  # the mask has the other half
