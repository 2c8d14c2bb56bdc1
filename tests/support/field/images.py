"""Makes images in forms that people meet and that no encoder of ours writes: bit by bit, from numbers."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def gradient(width: int = 24, height: int = 16) -> Image.Image:
    """No two corners alike, so that every turn shows."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray(np.uint8(255 * np.stack([x, y, (1 - x) * (1 - y)], axis=-1)))


def chunk(kind: bytes, body: bytes, good: bool = True) -> bytes:
    checksum = zlib.crc32(kind + body) ^ (0 if good else 1)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def with_chunks(png: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
    """Puts chunks behind IHDR, and behind the pixels."""
    end = chunk(b"IEND", b"")
    assert png.endswith(end)
    return png[:33] + before + png[33 : -len(end)] + behind + end


def grey_png(values: np.ndarray, depth: int, transparent: int | None = None) -> bytes:
    """values: int [H, W], below 2**depth."""
    height, width = values.shape
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    else:
        bits = (values[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = [np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in bits]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    clear = b"" if transparent is None else chunk(b"tRNS", struct.pack(">H", transparent))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return PNG + head + clear + pixels + chunk(b"IEND", b"")


PASSES = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]  # x, y, steps


def colour_png(values: np.ndarray, transparent: tuple[int, int, int], interlaced: bool = False) -> bytes:
    """values: int [H, W, 3] of 16 bits."""
    height, width, _ = values.shape
    parts = [values[y::down, x::right] for x, y, right, down in PASSES] if interlaced else [values]
    rows = [row.astype(">u2").tobytes() for part in parts if part.size for row in part]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, interlaced))
    clear = chunk(b"tRNS", struct.pack(">HHH", *transparent))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return PNG + head + clear + pixels + chunk(b"IEND", b"")


def orientation_exif(value: int, order: str = ">", kind: int = 3) -> bytes:
    """EXIF data with nothing but an orientation, without the `Exif` before them."""
    mark = b"MM\0*" if order == ">" else b"II*\0"
    packed = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
    return mark + struct.pack(f"{order}IHHHI", 8, 1, 0x0112, kind, 1) + packed + b"\0\0\0\0"


def raw_profile(exif: bytes, name: str = "exif") -> bytes:
    """As ImageMagick writes a profile into a text: its name, its length, hexadecimal digits."""
    digits = (b"Exif\0\0" + exif).hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\n{name}\n{len(exif) + 6:8d}\n{lines}\n".encode()


def tiff(tags: dict[int, tuple[int, Sequence[int]]], pixels: bytes, order: str = "<", big: bool = False) -> bytes:
    """tags: number -> (type, values). The offset of the pixels is filled in where a value is -1."""
    codes = {1: "B", 3: "H", 4: "I", 12: "d", 16: "Q"}
    start = 16 if big else 8
    pointer, room = ("Q", 8) if big else ("I", 4)
    entry_size = 20 if big else 12
    directory = start + len(pixels) + len(pixels) % 2
    behind = directory + (8 if big else 2) + entry_size * len(tags) + (8 if big else 4)
    entries, data = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(
            f"{order}{len(values)}{codes[kind]}", *(start if value == -1 else value for value in values)
        )
        if len(packed) > room:
            inside = struct.pack(order + pointer, behind + len(data))
            data += packed + b"\0" * (len(packed) % 2)
        else:
            inside = packed.ljust(room, b"\0")
        entries += struct.pack(f"{order}HH{pointer}", tag, kind, len(values)) + inside
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HHHQ" if big else f"{order}HI", *((43, 8, 0) if big else (42,)), directory)
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    return head + pixels + b"\0" * (len(pixels) % 2) + count + entries + b"\0" * room + data


def plain_tiff(values: np.ndarray, photometric: int, order: str = "<", orientation: int = 1) -> bytes:
    """values: uint8, uint16, float32 or float64 [H, W] or [H, W, C], uncompressed in one strip."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    bits, is_float = values.dtype.itemsize * 8, values.dtype.kind == "f"
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * channels),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, [-1]),
        274: (3, [orientation]),
        277: (3, [channels]),
        278: (4, [height]),
        279: (4, [values.nbytes]),
    }
    if is_float:
        tags[339] = (3, [3] * channels)
    return tiff(tags, values.astype(values.dtype.newbyteorder(order)).tobytes(), order)


def tiled_tiff(size: int, tile: int, channels: int = 3, bits: int = 8, big: bool = False) -> bytes:
    """Claims one tile, and holds a few bytes of it."""
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (4, [size]),
        257: (4, [size]),
        258: (3, [bits] * channels),
        259: (3, [8]),
        262: (3, [2 if channels >= 3 else 1]),
        277: (3, [channels]),
        322: (4, [tile]),
        323: (4, [tile]),
        324: (4, [-1]),
        325: (4, [100]),
    }
    return tiff(tags, zlib.compress(b"\0" * 10_000), big=big)


def many_scans(jpeg: bytes, count: int) -> bytes:
    """Repeats the last scan of a progressive JPEG until there are `count` more."""
    last = jpeg.rfind(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * count + b"\xff\xd9"


def hungry_tags(num_bytes: int, entries: int) -> bytes:
    """A directory each of whose entries points to all of `num_bytes` bytes."""
    body = struct.pack("<H", entries)
    for number in range(entries):
        body += struct.pack("<HHII", 1000 + number, 7, num_bytes - 8, 8)
    return (b"II*\0" + struct.pack("<I", 8) + body + b"\0\0\0\0").ljust(num_bytes, b"\0")
