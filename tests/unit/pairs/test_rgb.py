"""Every depth and form of grey and colour becomes what it means in 8 bits, in bands as in one piece."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from react_ray import schema
from react_ray.pairs import rgb
from react_ray.pairs.image import decode_rgb, inspect
from react_ray.pairs.rgb import to_rgb
from react_ray.pairs.store import prepare
from react_ray.pairs.store_config import StoreConfig
from tests.support.field.images import gradient, plain_tiff

GREY = np.asarray(gradient().convert("L"))
COLOUR = np.asarray(gradient())


def shown(data: bytes) -> np.ndarray:
    assert inspect(data).status == prepare(data, StoreConfig()).status == schema.OK
    return decode_rgb(data, 24, "squash")


def as_seen(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((24, 24), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "values",
    [
        GREY,
        GREY.astype(np.uint16) * 257,
        GREY.astype(np.float32) / 255,
        GREY.astype(np.float32),
        GREY.astype(np.float32) * 257,
        GREY.astype(np.float64) / 255,
    ],
    ids=["8 bits", "16 bits", "0 to 1", "0 to 255", "0 to 65,535", "64 bits"],
)
def test_grey_is_what_its_numbers_mean(values: np.ndarray, order: str) -> None:
    assert np.array_equal(shown(plain_tiff(values, 1, order)), as_seen(Image.fromarray(GREY)))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "values", [GREY, GREY.astype(np.uint16) * 257, GREY.astype(np.float32) / 255], ids=["8", "16", "float"]
)
def test_white_can_be_zero(values: np.ndarray, order: str) -> None:
    assert np.array_equal(shown(plain_tiff(values, 0, order)), as_seen(Image.fromarray(255 - GREY)))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "values",
    [COLOUR, COLOUR.astype(np.uint16) * 257, COLOUR.astype(np.float32) / 255, COLOUR.astype(np.float32)],
    ids=["8", "16", "0 to 1", "0 to 255"],
)
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_colours_are_what_their_numbers_mean(values: np.ndarray, order: str, orientation: int) -> None:
    turn = {1: None, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}[orientation]
    upright = gradient() if turn is None else gradient().transpose(turn)
    assert np.array_equal(shown(plain_tiff(values, 2, order, orientation)), as_seen(upright))


@pytest.mark.parametrize("white", [1, 255, 65535])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, -5.0, 1.2])
@pytest.mark.parametrize("whole", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("place", [0, 200])
def test_numbers_that_are_not_finite_or_beyond_white_change_no_other(
    whole: np.ndarray, white: int, odd: float, place: int
) -> None:
    values = (whole.astype(np.float32) / 255 * white).astype(np.float32)
    values[-1, -1] = white
    expected = whole.copy()
    expected[-1, -1] = 255
    row, column = divmod(place, whole.shape[1])
    values[row, column] = odd * white if odd == 1.2 else odd
    expected[row, column] = 255 if odd > 1 else 0
    data = plain_tiff(values, 1 if whole.ndim == 2 else 2)
    assert np.array_equal(shown(data), as_seen(Image.fromarray(expected)))


def test_without_any_number_all_is_black() -> None:
    assert not shown(plain_tiff(np.full_like(GREY, np.nan, np.float32), 1)).any()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16", "F", "I"])
def test_bands_give_the_pixels_of_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = Image.fromarray(np.random.default_rng(0).integers(0, 256, GREY.shape, dtype=np.uint8))
    image = gradient()
    if mode in ("LA", "RGBA"):
        image.putalpha(alpha)
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    if mode in ("I;16", "I", "L"):
        image.info["transparency"] = int(np.asarray(image)[3, 3])
    whole = np.asarray(to_rgb(image))
    for pixels in (1, 24, 100):
        monkeypatch.setattr(rgb, "BAND_PIXELS", pixels)
        assert np.array_equal(np.asarray(to_rgb(image)), whole)
