"""What react_ray.pairs.store promises: img2dataset's sizes and pixels of good bytes, a status of bad ones.

references/ was made by img2dataset 1.47.0 itself: tests/support/make_resize_references.py.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from react_ray import schema
from react_ray.pairs.image import inspect
from react_ray.pairs.store import prepare
from react_ray.pairs.store_config import StoreConfig

REFERENCES = Path(__file__).parent / "references"
TABLES = json.loads((REFERENCES / "resizer.json").read_text())
MODES = ("no", "border", "keep_ratio", "keep_ratio_largest", "center_crop")
SIDE = 64  # image_size of the tables
PNG = {"encode_format": "png", "encode_quality": 1}  # stored without loss: what comes back are the pixels
ALWAYS = {"resize_only_if_bigger": False, "skip_reencode": False}  # img2dataset's defaults


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def pixels(image: bytes | None) -> np.ndarray:
    assert image is not None
    return np.asarray(Image.open(io.BytesIO(image))).astype(int)


def stored_pixels(data: bytes, **options: Any) -> np.ndarray:
    stored = prepare(data, StoreConfig(**{"resize_mode": "no", **PNG, **ALWAYS, **options}))
    assert stored.status == schema.OK and stored.error is None, stored
    return pixels(stored.image)


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG: enough to tell its size, nothing to decode."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1000) + b"IDAT"


@pytest.mark.parametrize("path", sorted(REFERENCES.glob("*-*.png")), ids=lambda path: path.stem)
def test_pixels_differ_from_those_of_img2dataset_by_two_levels_at_most(path: Path) -> None:
    source, mode, side = path.stem.split("-")
    data = next(REFERENCES.glob(f"{source}.*")).read_bytes()
    got, expected = stored_pixels(data, resize_mode=mode, image_size=int(side)), pixels(path.read_bytes())
    assert got.shape == expected.shape
    assert np.abs(got - expected).mean() <= 2


def test_an_enlarged_image_and_a_small_png_equal_those_of_img2dataset_bit_for_bit() -> None:
    for name, source in (("small-keep_ratio-80", "small.jpg"), ("page-keep_ratio_largest-72", "page.png")):
        _, mode, side = name.split("-")
        got = stored_pixels((REFERENCES / source).read_bytes(), resize_mode=mode, image_size=int(side))
        assert np.array_equal(got, pixels((REFERENCES / f"{name}.png").read_bytes()))


def test_every_mode_and_size_gives_the_size_that_img2dataset_gives() -> None:
    for (width, height), mode, only_if_bigger, expected in TABLES["sizes"]:
        config = StoreConfig(image_size=SIDE, resize_mode=mode, resize_only_if_bigger=only_if_bigger)
        stored = prepare(encode(Image.new("RGB", (width, height), "teal")), config)
        assert [stored.width, stored.height] == expected, (width, height, mode, only_if_bigger)
        assert pixels(stored.image).shape == (expected[1], expected[0], 3)
        assert (stored.original_width, stored.original_height) == (width, height)


def test_filters_refuse_what_those_of_img2dataset_refuse_before_anything_is_decoded() -> None:
    options = ("min_image_size", "max_image_area", "max_aspect_ratio")
    statuses = dict(zip(options, (schema.TOO_SMALL, schema.TOO_LARGE_AREA, schema.ASPECT), strict=True))
    for (width, height), option, value, error in TABLES["refusals"]:
        config = StoreConfig(image_size=SIDE).model_copy(update={option: value})
        stored = prepare(encode(Image.new("RGB", (width, height))), config)
        assert (stored.status, stored.error) == ((statuses[option] if error else schema.OK), error)
        assert (stored.original_width, stored.original_height) == (width, height)
        assert (stored.image is None) == bool(error)
    assert prepare(png_header(30, 300), StoreConfig(min_image_size=31)).status == schema.TOO_SMALL


def test_skip_reencode_keeps_the_bytes_that_img2dataset_keeps() -> None:
    for size, format, mode, resize_mode, target, kept in TABLES["kept"]:
        data = encode(Image.new(mode, tuple(size), (0, 128, 128, 90)[: len(mode)]), format)
        config = StoreConfig(
            image_size=SIDE,
            resize_mode=resize_mode,
            resize_only_if_bigger=True,
            skip_reencode=True,
            encode_format=target,
            encode_quality=6 if target == "png" else 95,
        )
        assert (prepare(data, config).image == data) is kept, (size, format, mode, resize_mode, target)


def test_skip_reencode_also_keeps_what_has_the_size_already() -> None:
    data = encode(smooth(SIDE, 80), "JPEG")
    config = StoreConfig(image_size=SIDE, resize_mode="keep_ratio", resize_only_if_bigger=False)
    assert prepare(data, config).image == data
    assert prepare(data, config.model_copy(update={"skip_reencode": False})).image != data


def test_without_reencoding_the_bytes_stay_and_still_have_to_be_an_image() -> None:
    config = StoreConfig(disable_all_reencoding=True)
    for format in ("JPEG", "PNG", "WEBP", "GIF"):
        data = encode(smooth(300, 200), format)
        stored = prepare(data, config)
        assert (stored.image, stored.width, stored.height) == (data, 300, 200)
        assert prepare(data[: len(data) // 2], config).status == schema.UNDECODABLE


@pytest.mark.parametrize("encode_format,quality,pillow", [("jpg", 95, "JPEG"), ("png", 6, "PNG"), ("webp", 95, "WEBP")])
def test_stored_bytes_have_the_format_that_was_asked_for(encode_format: Any, quality: int, pillow: str) -> None:
    config = StoreConfig(encode_format=encode_format, encode_quality=quality, image_size=SIDE)
    for mode in ("RGB", "L"):
        stored = prepare(encode(smooth(100, 90).convert(mode)), config)
        image = Image.open(io.BytesIO(stored.image or b""))
        assert (image.format, image.size) == (pillow, (stored.width, stored.height))


def test_quality_is_a_compression_level_for_png_and_the_message_says_so() -> None:
    with pytest.raises(ValidationError, match="for png set a number from 0 to 9"):
        StoreConfig(encode_format="png")
    noise = encode(smooth(200, 200), "BMP")
    fine, coarse = (prepare(noise, StoreConfig(encode_quality=quality)).image for quality in (95, 30))
    assert fine and coarse and len(fine) > len(coarse)


def test_border_puts_the_odd_pixel_last_and_center_crop_takes_the_middle() -> None:
    wide = encode(Image.new("RGB", (80, 35), "black"))
    bordered = stored_pixels(wide, resize_mode="border", image_size=80)
    assert (bordered[22:57] == 0).all() and (bordered[:22] == 255).all() and (bordered[57:] == 255).all()
    stripes = Image.new("RGB", (31, 10), "white")
    stripes.paste("black", (10, 0, 20, 10))
    assert (stored_pixels(encode(stripes), resize_mode="center_crop", image_size=10) == 0).all()


def test_a_sideways_photo_is_stored_upright_and_its_sizes_are_upright() -> None:
    image = Image.new("RGB", (400, 200), "red")
    image.paste("blue", (0, 0, 200, 200))
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        data = encode(image, "JPEG", exif=exif.tobytes(), quality=95)
        stored = prepare(data, StoreConfig(resize_mode="keep_ratio", image_size=40, **PNG))
        width, height = (40, 80) if turn >= 5 else (80, 40)
        assert (stored.width, stored.height) == (width, height)
        assert (stored.original_width, stored.original_height) == (width * 5, height * 5)
        got = pixels(stored.image)
        assert (got[2, 2, 2] > got[2, 2, 0]) == (turn in (1, 4, 5, 6))  # blue is at the top, or at the left
        kept = prepare(data, StoreConfig(disable_all_reencoding=True))
        assert kept.image == data and (kept.width, kept.height) == (width * 5, height * 5)


def test_exif_that_cannot_be_read_costs_no_image() -> None:
    data = encode(smooth(90, 60), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff broken")
    stored = prepare(data, StoreConfig(resize_mode="no"))
    assert (stored.status, stored.width, stored.height) == (schema.OK, 90, 60)
    assert inspect(data).status == schema.OK


def test_transparency_lies_on_white_in_every_mode_and_format() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, 90, 0, 0])
    for data in (
        encode(clear),
        encode(clear, "WEBP", lossless=True),
        encode(clear.convert("LA")),
        encode(palette, transparency=1),
        encode(palette, "GIF", transparency=1),
    ):
        assert (stored_pixels(data) == 255).all()
    half = stored_pixels(encode(Image.new("RGBA", (8, 8), (0, 0, 0, 51))))
    assert np.abs(half - 204).max() <= 1


def test_colors_come_through_every_way_to_store_them() -> None:
    orange = Image.new("RGB", (64, 48), (250, 120, 20))
    for data in (
        encode(orange, "JPEG", quality=95),
        encode(orange.convert("CMYK"), "JPEG", quality=95),
        encode(orange.convert("CMYK"), "TIFF"),
        encode(orange.convert("P", palette=Image.Palette.ADAPTIVE)),
        encode(orange, "WEBP", lossless=True),
        encode(orange, "BMP"),
    ):
        for mode in ("no", "keep_ratio"):
            assert np.abs(stored_pixels(data, resize_mode=mode, image_size=20) - (250, 120, 20)).max() <= 4


def test_grey_stays_grey_also_from_sixteen_bits() -> None:
    sixteen_bits = Image.fromarray(np.full((48, 64), 100 * 257, dtype=np.uint16))
    grey = Image.new("L", (64, 48), 100)
    for data in (encode(sixteen_bits), encode(grey), encode(grey, "JPEG", quality=95), encode(grey.convert("P"))):
        assert (stored_pixels(data, resize_mode="keep_ratio", image_size=20) == 100).all()
    assert stored_pixels(encode(grey, "JPEG")).ndim == 2


def test_one_pixel_is_an_image() -> None:
    for mode in MODES:
        assert (stored_pixels(encode(Image.new("RGB", (1, 1), "red")), resize_mode=mode)[..., 0] == 255).all()


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_the_first_frame_of_an_animation_counts(format: str) -> None:
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:])
    assert np.abs(stored_pixels(data) - (255, 0, 0)).max() <= 4


def test_no_bytes_are_empty() -> None:
    for data in (None, b""):
        stored = prepare(data, StoreConfig())
        assert stored.status == schema.EMPTY and stored.image is stored.sha256 is stored.phash is None


def test_something_else_than_an_image_says_so() -> None:
    for data in (b"\n<!DOCTYPE html><p>404", b'{"error": 404}', b"%PDF-1.7", b"\0\0\0 ftypmp42", b"RIFF1234AVI "):
        stored = prepare(data, StoreConfig())
        assert stored.status == schema.NOT_AN_IMAGE and stored.error and stored.image is None
        assert stored.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_truncated_image_is_undecodable_wherever_it_ends(format: str) -> None:
    whole = encode(Image.effect_noise((200, 150), 60).convert("RGB"), format)
    for config in (StoreConfig(image_size=SIDE), StoreConfig(disable_all_reencoding=True)):
        assert prepare(whole, config).status == schema.OK
        for length in (16, len(whole) // 4, len(whole) // 2, len(whole) - 200):
            stored = prepare(whole[:length], config)
            assert (stored.status, stored.image) == (schema.UNDECODABLE, None) and stored.error, length


def test_harmless_oddities_of_a_jpeg_are_forgiven() -> None:
    data = encode(smooth(120, 80), "JPEG", quality=90)
    odd = data[:-2] + b"\1\2\3" + data[-2:] + b"behind the end"
    assert np.array_equal(stored_pixels(odd), stored_pixels(data))


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = prepare(png_header(9000, 7000), StoreConfig())
    assert (bomb.status, bomb.original_width, bomb.original_height) == (schema.TOO_LARGE, 9000, 7000)
    assert prepare(png_header(30_000, 30_000), StoreConfig()).status == schema.TOO_LARGE
    assert prepare(encode(smooth(32, 32)), StoreConfig(max_pixels=32 * 32 - 1)).status == schema.TOO_LARGE


def test_a_strip_that_would_grow_into_a_bomb_is_refused() -> None:
    strip = encode(Image.new("RGB", (1, 10_000)))
    stored = prepare(strip, StoreConfig(resize_mode="keep_ratio", resize_only_if_bigger=False))
    assert (stored.status, stored.original_height) == (schema.TOO_LARGE, 10_000)
    assert prepare(strip, StoreConfig(resize_mode="border")).status == schema.OK
    tall = encode(Image.new("RGB", (1, 20_000)))
    assert prepare(tall, StoreConfig(resize_mode="no", encode_format="webp")).status == schema.TOO_LARGE


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "ICO"])
def test_no_damage_raises(format: str) -> None:
    whole = encode(smooth(48, 48), format)
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 12)):
            damaged[place] = random.integers(256)
        stored = prepare(bytes(damaged), StoreConfig(image_size=SIDE))
        assert (stored.image is not None) == (stored.status == schema.OK) == (stored.error is None)


def test_the_hash_is_of_the_picture_whatever_is_stored_of_it() -> None:
    data = (REFERENCES / "photo.jpg").read_bytes()
    hashes = [prepare(data, StoreConfig(disable_all_reencoding=True)).phash, inspect(data).phash]
    for mode in MODES:
        hashes.append(prepare(data, StoreConfig(resize_mode=mode, image_size=100)).phash)
    assert all(value is not None and 0 <= value < 2**64 for value in hashes)
    assert all(((value or 0) ^ (hashes[0] or 0)).bit_count() <= 4 for value in hashes)


def test_threads_change_nothing() -> None:
    config, images = StoreConfig(image_size=SIDE), [encode(smooth(150 + seed, 100, seed), "JPEG") for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda data: prepare(data, config), images)) == [prepare(data, config) for data in images]
