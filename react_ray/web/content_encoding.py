"""Undoes the Content-Encoding of a body that was sent against `Accept-Encoding: identity`.

Servers write much into this header that is no encoding (`utf-8`, `none`, `aws-chunked`, `image/jpeg`), or name one that
they have not applied. The bytes decide.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

GZIP = b"\x1f\x8b"
# JPEG, PNG, GIF, WebP, AVIF and HEIF, TIFF, BMP, JPEG XL, JPEG 2000
IMAGE = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP|....ftyp|II\*\0|MM\0\*|BM....\0\0\0\0|\xff\x0a|\0\0\0\x0c(?:JXL|jP) ",
    re.DOTALL,
)
UNKNOWN = frozenset({"br", "zstd", "dcb", "dcz", "compress", "x-compress"})  # compressions that are not undone here
WINDOW_BITS = {"gzip": 31, "zlib": 15, "deflate": -15}


def decoded(data: bytes, headers: Iterable[str], max_bytes: int) -> bytes:
    """Returns the plain bytes, of which more than `max_bytes` are cut off: at most max_bytes + 1.

    headers: the values of Content-Encoding. Raises ValueError for a compression that cannot be undone.
    """
    names = [name.strip().lower() for value in headers for name in value.split(",")]
    for name in reversed(names):
        if IMAGE.match(data):
            return data
        if data.startswith(GZIP):
            data = _inflated(data, "gzip", max_bytes)
        elif name == "deflate":
            data = _inflated(data, "zlib" if _is_zlib(data) else "deflate", max_bytes)
        elif name in UNKNOWN:
            raise ValueError("an encoding that was not asked for")
    return data


def _inflated(data: bytes, name: str, max_bytes: int) -> bytes:
    """Decompresses all members; a decompression bomb stops at max_bytes + 1."""
    blocks, left = [], max_bytes + 1
    while data and left:
        decoder = zlib.decompressobj(WINDOW_BITS[name])
        try:
            blocks.append(decoder.decompress(data, left))
        except zlib.error as error:
            raise ValueError(f"damaged {name}") from error
        left -= len(blocks[-1])
        if left and not decoder.eof:
            raise ValueError(f"{name} that ends too soon")
        data = decoder.unused_data if decoder.unused_data.startswith(GZIP) else b""
    return b"".join(blocks)


def _is_zlib(data: bytes) -> bool:
    return len(data) > 1 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
