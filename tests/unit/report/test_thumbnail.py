"""Pictures of a page are small, and come from bytes that may be anything."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from react_ray.report.pictures import mime_type
from react_ray.report.thumbnail import KEPT_BYTES, SIDE, thumbnail
from tests.support.report_example import picture
from tests.support.retrieved import photo


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
def test_a_large_image_becomes_a_small_webp_of_the_same_shape(kind: str) -> None:
    small = thumbnail(photo(1, 600, kind))
    assert small is not None and mime_type(small) == "image/webp" and len(small) < 6_000
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (SIDE, 64)


def test_a_small_image_stays_as_it_is() -> None:
    data = picture(3)
    assert len(data) <= KEPT_BYTES and thumbnail(data) is data


def test_an_image_with_few_bytes_that_no_browser_shows_is_encoded_again() -> None:
    data = photo(1, 12, "BMP")
    small = thumbnail(data)
    assert len(data) <= KEPT_BYTES and small is not None and mime_type(small) == "image/webp"


@pytest.mark.parametrize(
    "data", [None, b"", b"<svg onload=alert(1)>", b"\xff\xd8\xff" + bytes(9000), photo(1)[:2000] * 9]
)
def test_bytes_that_are_no_image_have_no_thumbnail(data: bytes | None) -> None:
    assert thumbnail(data) is None


def test_a_turned_photo_is_upright() -> None:
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(photo(1, 900)))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif, quality=98)
    small = thumbnail(buffer.getvalue())
    assert small is not None and Image.open(io.BytesIO(small)).size == (64, SIDE)
