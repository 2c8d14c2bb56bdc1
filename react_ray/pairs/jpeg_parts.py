"""Mends two faults of JPEGs that browsers do not mind: a missing end, and EXIF data that would fill any memory."""

from __future__ import annotations

import simplejpeg

from react_ray.pairs.decode_limits import TooSlow
from react_ray.pairs.tiff_tags import EXIF, points_beyond

END = b"\xff\xd9"
START_OF_SCAN, APP1, FILL = 0xDA, 0xE1, 0xFF
SEGMENT_S = 2e-6  # Pillow takes as long for a segment of the header, and half of it for a byte that fills
SMALL_EXIF = 16_384  # bytes; all entries of so small a directory can point to 22 MB at most


def with_end(data: bytes, mode: str) -> bytes | None:
    """Returns a JPEG that lacks only its end marker with it; None if it lacks pixels, too, or is damaged otherwise.

    mode: the image's in Pillow. The padding of zeros that some disks leave is removed, but for one zero behind 0xFF,
    with which that byte is one of pixels; without it, it would be half of the end marker.
    """
    kept = data.rstrip(b"\0")
    of_pixels = [kept + b"\0"] if len(kept) < len(data) and kept.endswith(b"\xff") else []
    for found in (*of_pixels, kept):
        try:
            color = "CMYK" if mode == "CMYK" else "GRAY"
            simplejpeg.decode_jpeg(found + END, color, min_height=1, min_width=1, min_factor=8)
        except ValueError:  # strict: what libjpeg only warns of is an error
            continue
        return found + END
    return None


def without_hostile_exif(data: bytes, max_decode_s: float) -> bytes:
    """Returns the JPEG as it is, unless its EXIF directory points to more bytes than there are, which Pillow would
    read. Raises TooSlow for a header of millions of segments.
    """
    if EXIF not in data and len(data) * SEGMENT_S <= max_decode_s:
        return data
    segments = _exif_segments(data, max_decode_s)
    if sum(end - start for start, end in segments) <= SMALL_EXIF:
        return data
    if not points_beyond(b"".join(data[start + 10 : end] for start, end in segments)):
        return data
    kept, at = [], 0
    for start, end in segments:
        kept.append(data[at:start])
        at = end
    return b"".join([*kept, data[at:]])


def _exif_segments(data: bytes, max_decode_s: float) -> list[tuple[int, int]]:
    """Returns where the segments with EXIF data before the first scan begin and end."""
    found = []
    at, seconds = 2, 0.0
    while at + 4 <= len(data) and data[at] == FILL and data[at + 1] != START_OF_SCAN:
        seconds += SEGMENT_S
        if seconds > max_decode_s:
            raise TooSlow(max_decode_s)
        if data[at + 1] == FILL:
            at += 1
            continue
        end = at + 2 + (data[at + 2] << 8 | data[at + 3])
        if data[at + 1] == APP1 and data.startswith(EXIF, at + 4):
            found.append((at, min(end, len(data))))
        at = end
    return found
