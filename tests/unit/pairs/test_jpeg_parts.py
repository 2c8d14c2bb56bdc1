"""A JPEG without its end marker is whole; one that lacks pixels is not. Orientation counts as in a browser."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from react_ray import schema
from react_ray.pairs.image import decode_rgb, inspect, orientation, read_header
from react_ray.pairs.store import prepare
from react_ray.pairs.store_config import StoreConfig
from react_ray.pairs.tiff_tags import exif_orientation
from tests.support.field.images import encode, gradient, orientation_exif


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("side", [24, 600])
@pytest.mark.parametrize("end", [b"", b"\xff", b"\0" * 300])
def test_a_missing_end_loses_no_image(mode: str, progressive: bool, side: int, end: bytes) -> None:
    whole = encode(gradient(side, 64).convert(mode), "JPEG", progressive=progressive, quality=90)
    data = whole[:-2] + end
    assert inspect(data).status == prepare(data, StoreConfig()).status == schema.OK
    assert np.array_equal(decode_rgb(data, 32), decode_rgb(whole, 32))
    assert inspect(data).phash == inspect(whole).phash
    assert prepare(data, StoreConfig()).phash == prepare(whole, StoreConfig()).phash


@pytest.mark.parametrize("end", [b"", b"\xff", b"\0" * 300, b"\xff" + b"\0" * 300])
def test_the_last_byte_of_pixels_may_look_like_half_an_end(end: bytes) -> None:
    found = 0
    for seed in range(400):
        noise = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))
        whole = encode(noise, "JPEG", progressive=bool(seed % 2))
        if whole.endswith(b"\xff\0\xff\xd9"):
            found += 1
            assert np.array_equal(decode_rgb(whole[:-2] + end, 8), decode_rgb(whole, 8))
    assert found


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_missing_pixels_lose_the_image(share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    for progressive in (False, True):
        whole = encode(noise, "JPEG", progressive=progressive)
        data = whole[: int(len(whole) * share)]
        assert inspect(data).status == prepare(data, StoreConfig()).status == schema.UNDECODABLE
        with pytest.raises(ValueError, match="truncated"):
            decode_rgb(data, 32)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(10))
def test_an_orientation_is_one_short_from_1_to_8(order: str, value: int) -> None:
    exif = orientation_exif(value, order)
    assert exif_orientation(exif) == (value if 1 <= value <= 8 else 1)
    assert exif_orientation(b"Exif\0\0" * 2 + exif) == exif_orientation(exif)
    for damaged in (exif[:9], exif[:20], b"", b"II", b"XX" + exif[2:], orientation_exif(value, order, kind=4)):
        assert exif_orientation(damaged) == 1


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_an_orientation_turns_every_format(format: str) -> None:
    data = encode(gradient(), format, exif=b"Exif\0\0" + orientation_exif(6), quality=95)
    assert (inspect(data).width, inspect(data).height) == (16, 24)
    expected = np.asarray(gradient().transpose(Image.Transpose.ROTATE_270).resize((16, 16))).astype(int)
    assert np.abs(decode_rgb(data, 16, "squash").transpose(1, 2, 0) - expected).mean() < 8


def test_xmp_turns_nothing_as_in_browsers() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    xmp += b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    other = Image.Exif()
    other[0x010F] = "maker"
    for exif in (b"", other.tobytes()):
        assert orientation(read_header(encode(gradient(), "JPEG", xmp=xmp, exif=exif))) == 1
