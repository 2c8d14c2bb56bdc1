"""Makes the images that the misbehaving web serves: good ones by seed, and hostile ones."""

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
    """Makes a smooth image with some noise; with 300 pixels a side it is a JPEG of about 18 kB."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    picture = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
    picture = np.clip(picture + rng.integers(-9, 9, picture.shape), 0, 255).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[kind], quality=80)
    return sink.getvalue()


@lru_cache(maxsize=1)
def huge_png() -> bytes:
    """Makes a black and white image of 30,000 x 30,000 pixels in about 100 kB."""

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
    """Makes the images that take a second, so that no request waits for them."""
    huge_png()
    gzip_bomb()
