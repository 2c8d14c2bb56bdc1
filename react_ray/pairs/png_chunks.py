"""Reduces a PNG to the chunks that make its pixels and its orientation, so that no other chunk can lose the image.

As libpng does for browsers: an ancillary chunk with a wrong checksum, a profile or a text of any size is no reason to
refuse an image. What remains are the critical chunks, tRNS and eXIf. EXIF data may stand behind the pixels, or as text
in hexadecimal digits, as ImageMagick writes them ("Raw profile type exif"); either becomes an eXIf before the pixels.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
PROFILES = (b"Raw profile type exif", b"Raw profile type APP1")
EXIF = b"Exif\0\0"
LONGEST_PROFILE = 1 << 18  # characters once inflated: twice what one EXIF segment of a JPEG can hold
GREY, COLOUR, PALETTE = 0, 2, 3  # colour types
TRANSPARENT_BYTES = {GREY: 2, COLOUR: 6}
TO_8_BITS = {2: 85, 4: 17, 8: 1}  # depth -> what grey values are multiplied by when they are spread over 8 bits


class _Chunk(NamedTuple):
    kind: bytes
    start: int  # of its length
    end: int  # behind its checksum

    def body(self, data: bytes) -> bytes:
        return data[self.start + 8 : self.end - 4]

    def is_whole(self, data: bytes) -> bool:
        checksum = zlib.crc32(data[self.start + 4 : self.end - 4])
        return checksum.to_bytes(4, "big") == data[self.end - 4 : self.end]


def without_ancillary(data: bytes) -> bytes:
    """Returns the PNG as it is if it has no ancillary chunk; what follows a damaged or cut critical chunk is kept."""
    chunks, behind = _chunks(data)
    if all(_is_critical(chunk) for chunk in chunks):
        return data
    bodies = {chunk.kind: chunk.body(data) for chunk in chunks if chunk.kind in (b"IHDR", b"PLTE")}
    head, num_colours = bodies.get(b"IHDR", b""), len(bodies.get(b"PLTE", b"")) // 3
    exif = _exif(data, chunks)
    seen = set()
    out = [SIGNATURE]
    for chunk in chunks:
        if chunk.kind == b"IDAT" and exif:
            out.append(_chunk(b"eXIf", exif))
            exif = b""
        if chunk.kind == b"tRNS" and chunk.kind not in seen and chunk.is_whole(data):
            out.append(_transparency(chunk.body(data), head, num_colours))
        elif _is_critical(chunk):
            out.append(data[chunk.start : chunk.end])
        seen.add(chunk.kind)
    if not data[behind + 4 : behind + 5].islower():  # an ancillary chunk that is cut
        out.append(data[behind:])
    return b"".join(out)


def _chunks(data: bytes) -> tuple[list[_Chunk], int]:
    """Returns the chunks up to IEND, and where what cannot be read as a chunk begins."""
    chunks = []
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or not kind.isalpha():
            break
        chunks.append(_Chunk(kind, at, end))
        at = end
        if kind == b"IEND":
            break
    return chunks, at


def _is_critical(chunk: _Chunk) -> bool:
    return chunk.kind[:1].isupper()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _transparency(body: bytes, head: bytes, num_colours: int) -> bytes:
    """Returns a tRNS whose value has the 8 bits that Pillow gives the pixels; a value of 16 bits stays as it is.

    A body of another length than its colours ask for is left out, as by libpng.
    """
    depth, colour = head[8:10] if len(head) >= 10 else (0, GREY)
    if not (0 < len(body) <= num_colours if colour == PALETTE else len(body) == TRANSPARENT_BYTES.get(colour)):
        return b""
    if colour == GREY and depth in TO_8_BITS:
        value = int.from_bytes(body, "big") & ((1 << depth) - 1)
        body = struct.pack(">H", value * TO_8_BITS[depth])
    elif colour == COLOUR and depth == 8:
        body = struct.pack(">HHH", *body[1::2])
    return _chunk(b"tRNS", body)


def _exif(data: bytes, chunks: list[_Chunk]) -> bytes:
    """Returns the EXIF data of the first good eXIf, or else of a text; empty if there are none."""
    for chunk in chunks:
        if chunk.kind == b"eXIf" and chunk.is_whole(data):
            return chunk.body(data)
    for chunk in chunks:
        if chunk.kind in TEXTS:
            keyword = data[chunk.start + 8 : chunk.start + 8 + 80].partition(b"\0")[0]
            if keyword in PROFILES and chunk.is_whole(data):
                return _raw_profile(chunk.kind, chunk.body(data)[len(keyword) + 1 :])
    return b""


def _raw_profile(kind: bytes, text: bytes) -> bytes:
    """text: behind the keyword. It holds the name of the profile, its length and hexadecimal digits."""
    try:
        packed = kind == b"zTXt" or (kind == b"iTXt" and text[:1] == b"\1")
        if kind == b"zTXt":
            text = text[1:]
        elif kind == b"iTXt":
            text = text[2:].split(b"\0", 2)[2]
        if packed:
            text = zlib.decompressobj().decompress(text, LONGEST_PROFILE)
        digits = b"".join(text[:LONGEST_PROFILE].split()[2:])
        exif = bytes.fromhex(digits.decode("ascii"))
    except (ValueError, IndexError, zlib.error):
        return b""
    return exif.removeprefix(EXIF)
