"""Nothing but its pixels decides whether a PNG is an image, and its orientation is found wherever it stands."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from react_ray import schema
from react_ray.pairs.image import decode_rgb, inspect
from react_ray.pairs.png_chunks import without_ancillary
from react_ray.pairs.store import prepare
from react_ray.pairs.store_config import StoreConfig
from tests.support.field.images import (
    chunk,
    colour_png,
    encode,
    gradient,
    grey_png,
    orientation_exif,
    raw_profile,
    with_chunks,
)

LARGE = 3_000_000
PLAIN = encode(gradient())
EXIF = orientation_exif(6)


def pixels(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3], as it is stored without a loss."""
    config = StoreConfig(resize_mode="no", skip_reencode=False, encode_format="png", encode_quality=1)
    stored = prepare(data, config)
    assert (stored.status, inspect(data).status) == (schema.OK, schema.OK), stored.error
    assert stored.image is not None
    side = max(stored.width or 0, stored.height or 0)
    whole = decode_rgb(stored.image, side, "squash")
    assert np.array_equal(whole, decode_rgb(data, side, "squash"))
    return np.asarray(Image.open(io.BytesIO(stored.image)))


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"tEXt", b"Comment\0hello", good=False),
        chunk(b"gAMA", b"\0\0\xb1\x8f", good=False),
        chunk(b"gAMA", b"\0\0"),
        chunk(b"cHRM", b"\0"),
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"\0" * LARGE)),
        chunk(b"iCCP", b"icc\0\1junk"),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * LARGE)),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"a" * LARGE)),
        chunk(b"tEXt", b"Comment\0" + b"a" * LARGE),
        chunk(b"iTXt", b"\xff\xfe"),
        chunk(b"acTL", b"\0"),
        chunk(b"vpAg", b"\0" * 9, good=False),
        chunk(b"eXIf", b"nonsense"),
        chunk(b"eXIf", EXIF, good=False),
        chunk(b"tRNS", b"\0\1\0\2\0\3", good=False),
        chunk(b"tRNS", b""),
        chunk(b"tRNS", b"\0\0"),
        chunk(b"tRNS", b"\0" * 7),
    ],
    ids=lambda extra: extra[4:8].decode(),
)
def test_an_ancillary_chunk_loses_no_image(extra: bytes) -> None:
    for data in (with_chunks(PLAIN, before=extra), with_chunks(PLAIN, behind=extra)):
        assert np.array_equal(pixels(data), np.asarray(gradient()))


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"eXIf", EXIF),
        chunk(b"eXIf", b"Exif\0\0" + orientation_exif(6, "<")),
        chunk(b"tEXt", b"Raw profile type exif\0" + raw_profile(EXIF)),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile(EXIF))),
        chunk(b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(raw_profile(EXIF, "APP1"))),
        chunk(b"iTXt", b"Raw profile type exif\0\0\0\0\0" + raw_profile(EXIF)),
        chunk(b"iTXt", b"Raw profile type exif\0\1\0\0\0" + zlib.compress(raw_profile(EXIF))),
    ],
    ids=["eXIf", "eXIf with its mark", "tEXt", "zTXt", "APP1", "iTXt", "iTXt packed"],
)
def test_an_orientation_counts_wherever_it_stands(extra: bytes) -> None:
    upright = np.asarray(gradient().transpose(Image.Transpose.ROTATE_270))
    for data in (with_chunks(PLAIN, before=extra), with_chunks(PLAIN, behind=extra)):
        assert np.array_equal(pixels(data), upright)
        assert (inspect(data).width, inspect(data).height) == (16, 24)


@pytest.mark.parametrize("text", [b"", b"\nexif\n 9\nzz", b"\nexif", b"\xff" * 99, raw_profile(b"junk")])
def test_a_damaged_profile_leaves_the_image_as_it_is(text: bytes) -> None:
    data = with_chunks(PLAIN, before=chunk(b"tEXt", b"Raw profile type exif\0" + text))
    assert np.array_equal(pixels(data), np.asarray(gradient()))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_is_white_in_every_depth(depth: int) -> None:
    values = np.random.default_rng(depth).integers(0, 1 << depth, (9, 13))
    clear = int(values[0, 0])
    shown = np.where(values == clear, 255, (values * 255 + ((1 << depth) - 1) // 2) // ((1 << depth) - 1))
    assert np.array_equal(pixels(grey_png(values, depth, clear)), np.stack([shown] * 3, axis=-1))
    opaque = (values * 255 + ((1 << depth) - 1) // 2) // ((1 << depth) - 1)
    assert np.array_equal(np.atleast_3d(pixels(grey_png(values, depth)))[..., 0], opaque)


@pytest.mark.parametrize(("length", "counts"), [(0, False), (1, True), (8, True), (9, False), (300, False)])
def test_a_palette_is_transparent_where_a_value_says_so_unless_there_are_more_than_colours(
    length: int, counts: bool
) -> None:
    palette = encode(gradient().quantize(8))
    at = palette.index(b"IDAT") - 4
    data = palette[:at] + chunk(b"tRNS", b"\0" * length) + palette[at:]
    opaque = pixels(palette)
    assert np.array_equal(pixels(data), opaque) != counts
    assert length != 8 or (pixels(data) == 255).all()


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_transparent_colour_of_16_bits_is_compared_in_all_of_them(interlaced: bool) -> None:
    values = np.random.default_rng(0).integers(0, 3, (9, 13, 3)) * 0x0101 + 0xC801
    values[0, 0] = values[3, 5] = 0xC801, 0x1E02, 0x1E03
    values[4, 4] = 0xC801, 0x1E02, 0x1E04
    shown = values >> 8
    shown[0, 0] = shown[3, 5] = 255
    assert np.array_equal(pixels(colour_png(values, (0xC801, 0x1E02, 0x1E03), interlaced)), shown)
    assert np.array_equal(pixels(colour_png(values, (0xC8FF, 0x1E02, 0x1E03), interlaced)), values >> 8)
    assert np.array_equal(pixels(colour_png(values & 0xFF, (1, 2, 3), interlaced))[0, 0], [255] * 3)
    exif = chunk(b"eXIf", EXIF)
    turned = pixels(with_chunks(colour_png(values, (0xC801, 0x1E02, 0x1E03), interlaced), behind=exif))
    assert np.array_equal(turned, np.rot90(shown, -1))


def test_an_ordinary_png_is_not_copied_and_a_cut_one_is_still_cut() -> None:
    assert without_ancillary(PLAIN) is PLAIN
    with_text = with_chunks(PLAIN, before=chunk(b"tEXt", b"a\0b"))
    assert without_ancillary(with_text) == PLAIN
    for data in (PLAIN, with_text):
        assert inspect(data[:-60]).status == schema.UNDECODABLE
    animated = encode(gradient(), save_all=True, append_images=[gradient().rotate(90)])
    for end in range(len(PLAIN) + 60, len(animated), 7):
        assert np.array_equal(pixels(animated[:end]), np.asarray(gradient()))


def test_a_palette_image_without_a_palette_is_undecodable_everywhere() -> None:
    palette = encode(gradient().quantize(8))
    start = palette.index(b"PLTE") - 4
    (length,) = np.frombuffer(palette[start : start + 4], ">u4")
    data = palette[:start] + palette[start + 12 + int(length) :]
    assert inspect(data).status == prepare(data, StoreConfig()).status == schema.UNDECODABLE
