"""The kind of an image is what its bytes say."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from react_ray.pairs.image_kind import NUM_BYTES, kind_of

FORMATS = {
    "jpg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "gif": "GIF",
    "bmp": "BMP",
    "dib": "DIB",
    "tif": "TIFF",
    "ico": "ICO",
    "avif": "AVIF",
}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_first_bytes_tell_the_kind(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(buffer, FORMATS[kind])
    assert kind_of(buffer.getvalue()[:NUM_BYTES]) == kind


def test_orders_of_bytes_and_big_tiffs_are_told_and_other_bytes_are_not() -> None:
    assert {kind_of(data + b"\0" * 28) for data in (b"MM\0*", b"II+\0", b"MM\0+")} == {"tif"}
    for data in (b"", b"\xff\xd8", b"<html>", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x20ftypisom"):
        assert kind_of(data) == ""
