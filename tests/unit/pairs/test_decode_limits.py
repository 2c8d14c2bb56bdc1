"""What would fill the memory or take minutes is refused before a pixel is decoded; what is ordinary never is."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from react_ray import schema
from react_ray.pairs.decode_limits import BLOCK_S, MAX_DECODE_S, MAX_PIXELS, check_time
from react_ray.pairs.image import inspect, read_header
from react_ray.pairs.store import prepare
from react_ray.pairs.store_config import StoreConfig
from tests.support.field.images import chunk, encode, gradient, hungry_tags, many_scans, tiff, tiled_tiff


def status(data: bytes, max_pixels: int = MAX_PIXELS) -> str:
    """The same for the images of a source and for downloads."""
    facts, stored = inspect(data, max_pixels), prepare(data, StoreConfig(max_pixels=max_pixels))
    assert facts.status == stored.status and facts.error == stored.error
    return facts.status


def ico(inner: bytes, count: int = 1, size: int = 16) -> bytes:
    start = 6 + 16 * count
    entry = struct.pack("<BBBBHHII", size, size, 0, 0, 1, 32, len(inner), start)
    return struct.pack("<HHH", 0, 1, count) + entry * count + inner


def png_claiming(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def dib_claiming(width: int, height: int) -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, width, 2 * height, 1, 32, 0, 0, 0, 0, 0, 0) + b"\0" * 64


@pytest.mark.parametrize(
    "data",
    [
        tiled_tiff(64, 20_480),
        tiled_tiff(64, 8_192, big=True),
        tiled_tiff(64, 60_000, channels=1),
        tiled_tiff(64, 7_000, channels=4, bits=64),
        ico(png_claiming(13_000, 13_000)),
        ico(dib_claiming(13_000, 13_000)),
        ico(dib_claiming(13_000, 13_000), count=5, size=0),
        png_claiming(9_000, 9_000),
    ],
    ids=["tile", "tile of a BigTIFF", "tile of grey", "tile of 64 bits", "ICO of PNG", "ICO of DIB", "five", "PNG"],
)
def test_sizes_beyond_the_limit_are_refused_wherever_they_stand(data: bytes) -> None:
    assert status(data) == schema.TOO_LARGE


@pytest.mark.parametrize("side", [300, 301])
@pytest.mark.parametrize("claimed", [8, 300, 4_000])
def test_an_avif_is_as_large_as_its_data_and_its_boxes_say(side: int, claimed: int) -> None:
    data = encode(gradient(side, 200), "AVIF")
    at = data.index(b"ispe") + 8
    lying = data[:at] + struct.pack(">II", claimed, claimed) + data[at + 8 :]
    assert status(lying, max_pixels=side * 200 - 1) == schema.TOO_LARGE
    assert status(data, max_pixels=side * 200) == schema.OK
    assert (status(lying, max_pixels=3_999 * 4_000) == schema.TOO_LARGE) == (claimed == 4_000)


def test_an_avif_sequence_is_as_large_as_its_frames() -> None:
    frames = [gradient(300, 200), gradient(300, 200).rotate(180)]
    data = encode(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    lying = data.replace(struct.pack(">II", 300, 200), struct.pack(">II", 8, 8))
    assert lying != data and status(data) == schema.OK
    assert status(lying, max_pixels=300 * 200 - 1) == schema.TOO_LARGE


@pytest.mark.parametrize(
    "image",
    [
        encode(gradient(), "TIFF", compression="tiff_lzw"),
        encode(gradient(300, 200), "ICO", sizes=[(16, 16), (256, 170)]),
        encode(gradient(), "ICO", bitmap_format="bmp"),
        encode(gradient(), "AVIF"),
        encode(gradient().convert("L"), "AVIF", quality=100),
    ],
    ids=["TIFF", "ICO", "ICO of BMP", "AVIF", "grey AVIF"],
)
def test_ordinary_images_are_within_the_limits(image: bytes) -> None:
    assert status(image) == schema.OK


def test_tags_that_share_their_bytes_are_not_read() -> None:
    hungry = hungry_tags(60_000, 5_000)
    assert status(hungry) == schema.UNDECODABLE
    plain = encode(gradient(), "JPEG", quality=95)
    segment = b"Exif\0\0" + hungry
    jpeg = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    assert status(jpeg) == schema.OK and inspect(jpeg).phash == inspect(plain).phash
    assert "exif" not in read_header(jpeg).info
    avif = encode(gradient(), "AVIF", exif=b"Exif\0\0" + hungry_tags(300, 5))
    assert status(avif) == schema.UNDECODABLE


def test_a_jpeg_of_too_many_scans_is_refused_and_ordinary_ones_of_any_kind_are_not() -> None:
    for mode in ("L", "RGB", "CMYK"):
        image = gradient(640, 480).convert(mode)
        for options in ({}, {"progressive": True}, {"progressive": True, "subsampling": 0}):
            assert status(encode(image, "JPEG", **options)) == schema.OK
        progressive = encode(image, "JPEG", progressive=True)
        assert status(many_scans(progressive, 10_000)) == schema.TOO_SLOW
        several = many_scans(progressive, 30)
        assert status(several) == schema.OK
        assert inspect(several, max_decode_s=1e-3).status == schema.TOO_SLOW
        assert prepare(several, StoreConfig(max_decode_s=1e-3)).status == schema.TOO_SLOW


def test_headers_of_too_many_parts_are_refused() -> None:
    strips = {256: (4, [1]), 257: (4, [300_000]), 258: (3, [8]), 259: (3, [1]), 262: (3, [1]), 273: (4, [8] * 300_000)}
    assert status(tiff(strips | {277: (3, [1]), 278: (4, [1]), 279: (4, [1] * 300_000)}, b"\0" * 8)) == schema.TOO_SLOW
    plain = encode(gradient(), "JPEG")
    for part in (b"\xff", b"\xff\xfe\0\2"):
        assert status(plain[:2] + part * 50 + plain[2:]) == schema.OK
        many = plain[:2] + part * 50_000 + plain[2:]
        assert inspect(many, max_decode_s=0.05).status == schema.TOO_SLOW


def test_the_largest_progressive_image_within_max_pixels_is_not_too_slow() -> None:
    scans = many_scans(encode(gradient(640, 480), "JPEG", progressive=True, subsampling=0), 0)
    components = [data[4] for data in scans.split(b"\xff\xda")[1:] for data in [b"\0" * 2 + data + b"\0" * 4]]
    assert len(components) == 10
    header = Image.open(io.BytesIO(scans))
    header._size = (10_000, 5_000)
    check_time(header, scans, MAX_DECODE_S)
    with pytest.raises(ValueError, match=r"longer than 0\.1 s"):
        check_time(header, scans, 0.1)
    assert BLOCK_S * MAX_PIXELS / 64 * 3 * len(components) < MAX_DECODE_S


def test_baseline_jpegs_are_not_searched_for_scans() -> None:
    for mode in ("L", "RGB", "CMYK"):
        data = encode(gradient().convert(mode), "JPEG")
        check_time(Image.open(io.BytesIO(data)), data[:-2] + b"\xff\xda\0\0\1" * 100_000, 1e-9)


def test_the_memory_of_a_grey_image_of_16_bits_is_a_few_bytes_per_pixel(tmp_path: Path) -> None:
    """Counted in a process of its own, whose peak is that of this image."""
    import subprocess
    import sys

    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(np.zeros((3_000, 4_000), np.uint16)), compress_level=1))
    code = (
        "import resource, sys; from react_ray.pairs.image import inspect\n"
        "data = open(sys.argv[1], 'rb').read(); inspect(data[:1000])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert inspect(data).status == 'ok'\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    told = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True).stdout
    assert int(told) * 1024 < 16 * 12_000_000
