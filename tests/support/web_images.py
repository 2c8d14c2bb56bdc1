"""Images that the misbehaving web serves: good ones by seed, and some to choke on. See web_pages.py."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from functools import lru_cache

import numpy as np
from PIL import Image

HUGE_SIDE = 30_000
BOMB_BYTES = 50_000_000


@lru_cache(maxsize=1000)
def image(seed: int, kind: str = "jpg", side: int = 300) -> bytes:
    """A smooth picture with some noise: 300 pixels make a JPEG of about 18 kB."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    picture = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
    picture = np.clip(picture + rng.integers(-9, 9, picture.shape), 0, 255).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[kind], quality=80)
    return sink.getvalue()


@lru_cache(maxsize=1)
def huge_png() -> bytes:
    """30,000 x 30,000 pixels of black and white in about 100 kB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(6)
    row = bytes(1 + HUGE_SIDE // 8)
    rows = b"".join(packer.compress(row) for _ in range(HUGE_SIDE)) + packer.flush()
    header = struct.pack(">IIBBBBB", HUGE_SIDE, HUGE_SIDE, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@lru_cache(maxsize=1)
def gzip_bomb() -> bytes:
    return gzip.compress(bytes(BOMB_BYTES), 6)


def prepare() -> None:
    """What takes a second to make: no other request shall wait for it."""
    huge_png()
    gzip_bomb()
