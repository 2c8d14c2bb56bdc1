"""Converts decoded images of any mode to 8-bit RGB, with transparency on a white ground.

Large images are converted in bands, so that the copies of a conversion are small beside the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

BAND_PIXELS = 1 << 22
OVERSHOOT = 2
WHITE_IS_ZERO = "white_is_zero"  # in `info`; Pillow itself inverts grey of 8 bits, and no other


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns an RGB image of the same size.

    Grey of 16 bits is divided by 257, and inverted where a TIFF says that white is 0. Floating point numbers are taken
    as 0 to 1, 0 to 255 or 0 to 65,535: see white_of.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    white = white_of(np.asarray(image.crop(box)) for box in bands(image)) if image.mode == "F" else 255.0
    if image.width * image.height <= BAND_PIXELS:
        return _to_rgb(image, white)
    out = Image.new("RGB", image.size)
    for box in bands(image):
        out.paste(_to_rgb(image.crop(box), white), box)
    return out


def bands(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Yields the boxes of bands from left to right, of BAND_PIXELS pixels or one row each."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def _to_rgb(image: Image.Image, white: float) -> Image.Image:
    if image.mode == "F":
        share = shares(np.asarray(image), white)
        grey = share if white == 255 else np.rint(share)  # Pillow's conversion cuts fractions
        return _of_grey(255 - grey if image.info.get(WHITE_IS_ZERO) else grey)
    if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow's own conversion would clip instead of scaling
        found = np.asarray(image)
        grey = (np.clip(found, 0, 65535).astype(np.uint32) + 128) // 257
        if image.info.get(WHITE_IS_ZERO):
            grey = 255 - grey
        if "transparency" in image.info:
            grey[found == image.info["transparency"]] = 255
        return _of_grey(grey)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def _of_grey(grey: np.ndarray) -> Image.Image:
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def white_of(parts: Iterable[np.ndarray]) -> float:
    """Returns what stands for white among floating point numbers: 1, 255 or 65,535.

    It is the least of these of which no finite number is more than OVERSHOOT times: resizing a photo leaves numbers
    beyond its white, and a picture that is darker than the other ranges allow would be black in 8 bits.
    """
    most = max(float(part.max(where=np.isfinite(part), initial=0)) for part in parts)
    return next((white for white in (1.0, 255.0) if most <= OVERSHOOT * white), 65535.0)


def shares(values: np.ndarray, white: float) -> np.ndarray:
    """Returns the values as 0 to 255; what is no number is black."""
    return np.clip(np.nan_to_num(values, nan=0.0, posinf=white, neginf=0.0), 0, white) * (255 / white)
