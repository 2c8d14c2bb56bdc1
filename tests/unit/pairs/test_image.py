"""What react_ray.pairs.image promises of good, bad and hostile bytes."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from react_ray import schema
from react_ray.pairs.image import decode_batch, decode_rgb, inspect


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def shapes(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray(np.uint8(255 * np.stack([x, y, (x - y) ** 2], axis=-1)))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("width,height", [(64, 64), (100, 64), (63, 200), (301, 97), (31, 17)])
def test_center_crop_is_bit_identical_to_the_evaluation_transform_of_clip(width: int, height: int) -> None:
    image = noise(width, height)
    expected = Compose([Resize(64, InterpolationMode.BICUBIC), CenterCrop(64)])(image)
    assert np.array_equal(decode_rgb(encode(image), 64), np.asarray(expected).transpose(2, 0, 1))


def test_an_image_that_has_the_size_keeps_its_pixels() -> None:
    image = noise(64, 64)
    for mode in ("center_crop", "squash"):
        got = decode_rgb(encode(image, "WEBP", lossless=True), 64, mode)
        assert got.dtype == np.uint8 and got.flags.c_contiguous
        assert np.array_equal(got, np.asarray(image).transpose(2, 0, 1))


def test_squash_keeps_both_ends_of_a_wide_image() -> None:
    image = Image.new("RGB", (96, 32), "red")
    image.paste("blue", (64, 0, 96, 32))
    squashed = decode_rgb(encode(image), 32, "squash")
    assert tuple(squashed[:, 16, 2]) == (255, 0, 0) and tuple(squashed[:, 16, 30]) == (0, 0, 255)


def test_transparency_lies_on_white_in_every_mode_that_has_it() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([0, 0, 0, 90, 0, 0, 0, 90, 0, 0, 0, 90])
    for data in (
        encode(clear),
        encode(clear.convert("LA")),
        encode(palette, transparency=3),
        encode(palette, "GIF", transparency=3),
        encode(Image.new("RGB", (8, 8), (1, 2, 3)), transparency=(1, 2, 3)),
    ):
        assert np.all(decode_rgb(data, 8) == 255)


def test_every_way_to_store_grey_gives_the_same_grey() -> None:
    sixteen_bits = Image.fromarray(np.full((8, 8), 100 * 257, dtype=np.uint16))
    grey = Image.new("L", (8, 8), 100)
    cmyk = encode(Image.new("CMYK", (8, 8), (0, 0, 0, 155)), "TIFF")
    for data in (encode(sixteen_bits), encode(grey), encode(grey.convert("P")), encode(grey, "TIFF"), cmyk):
        assert np.all(decode_rgb(data, 8) == 100)


def test_exif_orientation_turns_the_image_and_its_reported_size() -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise: left becomes top
    data = encode(image, exif=exif.tobytes())
    assert (inspect(data).width, inspect(data).height) == (20, 40)
    upright = decode_rgb(data, 20, "squash")
    assert tuple(upright[:, 2, 10]) == (0, 0, 255) and tuple(upright[:, 17, 10]) == (255, 0, 0)


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode_rgb(data, 8)[:, 0, 0], [255, 0, 0])


def test_a_big_jpeg_decoded_at_reduced_scale_stays_close() -> None:
    image = shapes(800, 600)
    expected = Compose([Resize(64, InterpolationMode.BICUBIC), CenterCrop(64)])(image)
    got = decode_rgb(encode(image, "JPEG", quality=95), 64)
    assert np.abs(got.astype(int) - np.asarray(expected).transpose(2, 0, 1)).mean() < 2
    assert (inspect(encode(image, "JPEG")).width, inspect(encode(image, "JPEG")).height) == (800, 600)


def test_a_very_long_strip_costs_no_more_memory_than_its_middle() -> None:
    strip = Image.new("RGB", (1, 40_000), "white")
    strip.paste("red", (0, 19_900, 1, 20_100))
    assert np.array_equal(decode_rgb(encode(strip), 64)[:, 32, 32], [255, 0, 0])


def test_statuses_say_why_bytes_are_no_image() -> None:
    whole = encode(noise(32, 32))
    assert inspect(whole).status == schema.OK and inspect(whole).error is None
    assert inspect(whole).sha256 == hashlib.sha256(whole).hexdigest()
    for empty in (None, b""):
        assert inspect(empty).status == schema.EMPTY and inspect(empty).sha256 is None
    jpeg = encode(noise(64, 64), "JPEG")
    for broken in (whole[:-200], jpeg[: len(jpeg) // 2], b"<html>404</html>", whole[:20], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        facts = inspect(broken)
        assert facts.status == schema.UNDECODABLE and facts.error and facts.phash is None
        assert inspect(broken) == facts
        with pytest.raises(ValueError):
            decode_rgb(broken, 32)


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = png_header(9000, 7000)
    facts = inspect(bomb)
    assert (facts.status, facts.width, facts.height) == (schema.TOO_LARGE, 9000, 7000)
    with pytest.raises(ValueError, match="9000 x 7000"):
        decode_rgb(bomb, 64)
    assert inspect(png_header(60_000, 60_000)).status == schema.TOO_LARGE
    assert inspect(encode(noise(32, 32)), max_pixels=32 * 32 - 1).status == schema.TOO_LARGE


def test_a_batch_keeps_every_row_in_its_place_with_any_number_of_threads() -> None:
    images = [encode(noise(40, 30, seed)) for seed in range(6)]
    rows: list[bytes | None] = [images[0], b"broken", images[1], None, *images[2:]]
    serial, errors = decode_batch(rows, 16)
    threaded, threaded_errors = decode_batch(rows, 16, num_threads=3)
    assert np.array_equal(serial, threaded) and errors == threaded_errors
    assert [row for row, error in enumerate(errors) if error] == [1, 3]
    assert not serial[1].any()
    assert np.array_equal(serial[2], decode_rgb(images[1], 16))


def test_phash_survives_scale_and_compression_and_tells_images_apart() -> None:
    def distance(a: bytes, b: bytes) -> int:
        first, second = inspect(a).phash, inspect(b).phash
        assert first is not None and second is not None and 0 <= first < 2**64
        return (first ^ second).bit_count()

    picture = noise(8, 8).resize((256, 256), Image.Resampling.BICUBIC)
    assert distance(encode(picture), encode(picture.resize((100, 100)), "JPEG", quality=60)) <= 6
    assert distance(encode(picture), encode(noise(64, 64))) >= 16
    assert distance(encode(noise(64, 64, 1)), encode(noise(64, 64, 2))) >= 16
    assert inspect(encode(Image.new("RGB", (50, 50), "white"))).phash == 1 << 63
    assert inspect(encode(Image.new("RGB", (50, 50), "black"))).phash == 0
