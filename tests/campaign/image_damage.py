"""Changes images by their structure: sizes, depths, scans, chunks, tags and offsets, with checksums made right again.

`harmless` gives another file that shows the same picture.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

from tests.campaign.image_seeds import png_bytes, png_chunks

SIDES = (0, 1, 7, 3000, 20_000, 65_535, 2**31 - 1, 2**32 - 1)
PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


def harmless(name: str, data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Returns bytes that every viewer shows as it shows `data`."""
    if name in ("png", "pillow_png"):
        chunks = png_chunks(data)
        how = rng.choice(("text", "late text", "bad checksum of text", "trailing bytes", "split data"))
        if how == "text":
            chunks.insert(1, (b"tEXt", b"Comment\0" + b"a heron " * rng.choice((1, 200_000))))
        elif how == "late text":
            chunks.insert(-1, (b"zTXt", b"Comment\0\0" + zlib.compress(b"a heron " * 10)))
        elif how == "bad checksum of text":
            with_text = png_bytes([*chunks[:1], (b"tEXt", b"Comment\0a heron"), *chunks[1:]])
            at = with_text.index(b"\0a heron") + len(b"\0a heron")
            return with_text[:at] + b"\1\2\3\4" + with_text[at + 4 :], how
        elif how == "trailing bytes":
            return data + rng.randbytes(50), how
        elif sum(kind == b"IDAT" for kind, _ in chunks) == 1 and not any(kind == b"fdAT" for kind, _ in chunks):
            at = next(number for number, (kind, _) in enumerate(chunks) if kind == b"IDAT")
            body = chunks[at][1]
            chunks[at : at + 1] = [(b"IDAT", body[:1]), (b"IDAT", b""), (b"IDAT", body[1:])]
        return png_bytes(chunks), how
    if name == "jpeg":
        how = rng.choice(("comment", "unknown segment", "trailing bytes", "no end", "fill bytes"))
        segment = struct.pack(">H", 102) + rng.randbytes(100)
        if how == "comment":
            return data[:2] + b"\xff\xfe" + segment + data[2:], how
        if how == "unknown segment":
            return data[:2] + b"\xff\xec" + segment + data[2:], how
        if how == "no end":
            return data.removesuffix(b"\xff\xd9"), how
        if how == "fill bytes":
            return data[:2] + b"\xff\xff\xff" + data[2:], how
        return data + rng.randbytes(50), how
    if name in ("gif", "bmp", "mpo", "ico"):
        return data + bytes(50), "trailing zeros"
    return data, "as it is"


def structural(name: str, data: bytes, rng: random.Random) -> tuple[bytes, str]:
    change = STRUCTURAL.get(name, _numbers)
    return change(data, rng)


def _png(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    chunks = png_chunks(data)
    how = rng.choice(("header", "header", "drop", "double", "swap", "empty", "bomb", "profile", "text bomb", "order"))
    at = rng.randrange(len(chunks))
    if how == "header":
        width, height, depth, colour, packing, filtering, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
        width, height = rng.choice((width, rng.choice(SIDES))), rng.choice((height, rng.choice(SIDES)))
        depth, colour = rng.choice((depth, 1, 2, 4, 8, 16, 3)), rng.choice((colour, 0, 2, 3, 4, 6, 5))
        fields = (width, height, depth, colour, packing, filtering, rng.choice((interlaced, 0, 1, 2)))
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *fields))
        how = f"header {fields}"
    elif how == "drop":
        del chunks[at]
    elif how == "double":
        chunks.insert(at, chunks[at])
    elif how == "swap":
        other = rng.randrange(len(chunks))
        chunks[at], chunks[other] = chunks[other], chunks[at]
    elif how == "empty":
        chunks[at] = (chunks[at][0], b"")
    elif how == "bomb":
        chunks[1:] = [(b"IDAT", zlib.compress(bytes(30_000_000), 9)), (b"IEND", b"")]
    elif how == "profile":
        chunks.insert(1, (b"iCCP", b"profile\0\0" + zlib.compress(bytes(5_000_000))))
    elif how == "text bomb":
        chunks.insert(1, (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9)))
    else:
        rng.shuffle(chunks)
    return png_bytes(chunks), how


def _jpeg(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    segments = _segments(data)
    how = rng.choice(("size", "size", "drop", "double", "swap", "scans", "length", "tables", "marker"))
    at = rng.randrange(1, len(segments))
    if how == "size":
        frames = [number for number, each in enumerate(segments) if each[1:2] in (b"\xc0", b"\xc1", b"\xc2")]
        frame = rng.choice(frames)
        sides = struct.pack(">HH", *(rng.choice(SIDES) & 0xFFFF for _ in range(2)))
        segments[frame] = segments[frame][:5] + sides + segments[frame][9:]
    elif how == "drop":
        del segments[at]
    elif how == "double":
        segments.insert(at, segments[at])
    elif how == "swap":
        other = rng.randrange(1, len(segments))
        segments[at], segments[other] = segments[other], segments[at]
    elif how == "scans":
        scans = [each for each in segments if each[1:2] == b"\xda"]
        segments[-1:-1] = [rng.choice(scans)] * rng.choice((10, 300))
    elif how == "length":
        segments[at] = segments[at][:2] + struct.pack(">H", rng.choice((0, 1, 2, 65535))) + segments[at][4:]
    elif how == "tables":
        segments = [each for each in segments if each[1:2] not in (b"\xdb", b"\xc4") or rng.random() < 0.5]
    else:
        segments[at] = segments[at][:1] + bytes([rng.randrange(0xC0, 0x100)]) + segments[at][2:]
    return b"".join(segments), how


def _segments(data: bytes) -> list[bytes]:
    """Splits a JPEG at its markers; entropy-coded data stays with the scan before it."""
    starts = [0]
    at = 2
    while at + 4 <= len(data):
        if data[at] == 0xFF and data[at + 1] not in (0, 0xFF, *range(0xD0, 0xD9)):
            starts.append(at)
            is_end = data[at + 1] == 0xD9
            at += 2 if is_end else 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        else:
            at += 1
    return [data[begin:end] for begin, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def _tiff(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Changes the value, type, count or number of one to three tags of the first directory."""
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack_from(order + "H", data, 2)[0] != 42:
        return _numbers(data, rng)
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (num_tags,) = struct.unpack_from(order + "H", data, directory)
    made, said = bytearray(data), []
    for _ in range(rng.randrange(1, 4)):
        at = directory + 2 + 12 * rng.randrange(num_tags)
        tag, kind, count, value = struct.unpack_from(order + "HHII", made, at)
        what = rng.choice(("value", "value", "value", "count", "kind", "tag"))
        if what == "value":
            value = rng.choice((0, 1, 2, 8, 16, 32, 255, 4096, *SIDES[3:], value ^ (1 << rng.randrange(32))))
        elif what == "count":
            count = rng.choice((0, 1, 2, 65_535, 2**28, 2**32 - 1))
        elif what == "kind":
            kind = rng.choice(list(TIFF_SIZES))
        else:
            tag = rng.choice((256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339, 700))
        struct.pack_into(order + "HHII", made, at, tag, kind, count, value & 0xFFFFFFFF)
        said.append(f"{what} of tag {tag}")
    return bytes(made), ", ".join(said)


def _boxes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """AVIF: the claimed size, an item's place, or the length of a box."""
    made = bytearray(data)
    name = rng.choice((b"ispe", b"ispe", b"iloc", b"pixi", b"av1C", b"iprp", b"irot", b"mdat", b"meta", b"ipma"))
    at = data.find(name)
    if at < 4:
        return _numbers(data, rng)
    if name == b"ispe":
        struct.pack_into(">II", made, at + 8, rng.choice(SIDES), rng.choice(SIDES))
    elif rng.random() < 0.5:
        struct.pack_into(">I", made, at - 4, rng.choice(SIDES))
    else:
        made[min(len(made) - 1, at + rng.randrange(4, 30))] = rng.randrange(256)
    return bytes(made), f"box {name.decode()}"


def _numbers(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Writes an extreme size over one or two numbers of the first 64 bytes."""
    made = bytearray(data)
    for _ in range(rng.randrange(1, 3)):
        at, form = rng.randrange(min(64, max(1, len(data) - 4))), rng.choice(("<I", ">I", "<H", ">H"))
        limit = 0xFFFFFFFF if form[1] == "I" else 0xFFFF
        if at + 4 <= len(made):
            struct.pack_into(form, made, at, rng.choice(SIDES) & limit)
    return bytes(made), "numbers of the header"


STRUCTURAL: dict[str, Callable[[bytes, random.Random], tuple[bytes, str]]] = {
    "png": _png,
    "pillow_png": _png,
    "jpeg": _jpeg,
    "mpo": _jpeg,
    "tiff": _tiff,
    "avif": _boxes,
}
