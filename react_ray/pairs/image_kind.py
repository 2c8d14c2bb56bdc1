"""Tells the kind of an encoded image by its first bytes."""

from __future__ import annotations

NUM_BYTES = 32  # that are needed
SIGNATURES = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
    (b"II+\0", "tif"),  # BigTIFF
    (b"MM\0+", "tif"),
    (b"\0\0\1\0", "ico"),
    (b"(\0\0\0", "dib"),
)
AVIF_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")


def kind_of(data: bytes) -> str:
    """Returns the usual suffix of an image's file, without its dot; "" for bytes that do not begin like an image."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp" and data[8:12] in AVIF_BRANDS:
        return "avif"
    return next((kind for signature, kind in SIGNATURES if data.startswith(signature)), "")
