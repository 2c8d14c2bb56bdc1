"""Finds the transparent pixels of a PNG whose colours have 16 bits, of which Pillow keeps only the higher 8."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from react_ray.pairs.rgb import bands

HIGHER, LOWER = "RGB;16B", "RGB;16L"  # PNGs are big-endian; read as if they were not, they give the lower bytes


def has_transparent_colour_of_16_bits(image: Image.Image) -> bool:
    """image: opened, not decoded."""
    tiles = getattr(image, "tile", [])
    return isinstance(image.info.get("transparency"), tuple) and [tile[3] for tile in tiles] == [HIGHER]


def with_alpha(image: Image.Image, data: bytes) -> Image.Image:
    """Returns the image with an alpha channel in place of its transparent colour; image: decoded from `data`."""
    higher, lower = np.array(image.info["transparency"], ">u2").view(np.uint8).reshape(3, 2).T
    low = Image.open(io.BytesIO(data), formats=["PNG"])
    low.tile = [tile._replace(args=LOWER) for tile in low.tile]  # type: ignore[attr-defined]
    low.load()
    alpha = Image.new("L", image.size, 255)
    for box in bands(image):
        clear = (np.asarray(image.crop(box)) == higher) & (np.asarray(low.crop(box)) == lower)
        alpha.paste(0, box, Image.fromarray(clear.all(axis=2)))
    image.putalpha(alpha)
    del image.info["transparency"]
    return image
