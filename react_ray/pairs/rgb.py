"""Converts decoded images of any mode to 8-bit RGB, with transparency on a white ground.

Large images are converted in bands, so that the copies of a conversion are small beside the image.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

BAND_PIXELS = 1 << 22
WHITE_IS_ZERO = "white_is_zero"  # in `info`; Pillow itself inverts grey of 8 bits, and no other


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns an RGB image of the same size.

    Grey of 16 bits is divided by 257, and inverted where a TIFF says that white is 0. Floating point numbers are taken
    as 0 to 1, 0 to 255 or 0 to 65,535, the least of these ranges that holds them all.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    most = _range(image)
    if image.width * image.height <= BAND_PIXELS:
        return _to_rgb(image, most)
    out = Image.new("RGB", image.size)
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        out.paste(_to_rgb(band, most), (0, top))
    return out


def _to_rgb(image: Image.Image, most: float) -> Image.Image:
    if image.mode == "F":
        share = np.clip(np.nan_to_num(np.asarray(image), nan=0.0, posinf=most, neginf=0.0), 0, most) * (255 / most)
        grey = share if most == 255 else np.rint(share)  # Pillow's conversion cuts fractions
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


def _range(image: Image.Image) -> float:
    if image.mode != "F":
        return 255.0
    _, high = image.getextrema()
    return white_of(float(high))  # type: ignore[arg-type]


def white_of(most: float) -> float:
    """Returns what stands for white among floating point numbers of which `most` is the greatest."""
    return 1.0 if most <= 1 else 255.0 if most <= 255 else 65535.0
