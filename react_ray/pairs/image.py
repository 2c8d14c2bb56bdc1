"""Encoded image bytes in; facts about them, or small RGB arrays, out.

Bytes come from the web: any of them may be truncated, huge, or no image at all. A bad image is a status (`inspect`) or
an error per row (`decode_batch`), never the end of a part. Next: clip/embedder.py, which takes the arrays.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from react_ray import schema

MAX_PIXELS = 50_000_000  # 150 MB once decoded; a phone's photo has 12 to 50 million
MAX_ASPECT = 8  # beyond this the ends are cut before resizing: a strip of 1 x 10,000 would grow to 500 million pixels
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "ICO")  # no EPS: Pillow hands it to Ghostscript
HASH_SIDE = 32

CropMode = Literal["center_crop", "squash"]


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image without keeping its pixels; sizes are upright, that is after EXIF orientation."""

    width: int | None
    height: int | None
    sha256: str | None  # of the encoded bytes; None if there are none
    phash: int | None  # 64 bits, unsigned; None if the image could not be decoded
    status: str
    error: str | None


class TooLarge(ValueError):
    """Refused by the size in its header, before any pixel was decoded."""

    def __init__(self, message: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.size = size


def inspect(data: bytes | None, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Decode once, to see that it can be done. Never raises for bad bytes."""
    if not data:
        return ImageFacts(None, None, None, None, schema.EMPTY, "no bytes")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        image, (width, height) = _open(data, max_pixels, shrink_to=2 * HASH_SIDE)
        return ImageFacts(width, height, sha256, phash(image), schema.OK, None)
    except TooLarge as error:
        claimed = error.size or (None, None)
        return ImageFacts(claimed[0], claimed[1], sha256, None, schema.TOO_LARGE, str(error))
    except ValueError as error:
        return ImageFacts(None, None, sha256, None, schema.UNDECODABLE, str(error))


def decode_rgb(
    data: bytes | None, size: int, mode: CropMode = "center_crop", max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """uint8 [3, size, size]. ValueError says why bytes are no image.

    `center_crop` is the evaluation transform of CLIP: bicubic to the shorter side, then the middle; `squash` ignores the
    aspect ratio. Equal to torchvision's bit for bit, except where a big JPEG is decoded at a reduced scale.
    """
    if not data:
        raise ValueError("no bytes")
    image, _ = _open(data, max_pixels, shrink_to=2 * size)
    if image.size != (size, size):
        image = _squash(image, size) if mode == "squash" else _center_crop(image, size)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def decode_batch(
    images: Sequence[bytes | None], size: int, num_threads: int = 1, mode: CropMode = "center_crop"
) -> tuple[np.ndarray, list[str | None]]:
    """uint8 [N, 3, size, size] and one error or None per row. A row that failed is black: read the errors first."""
    images_NCHW = np.zeros((len(images), 3, size, size), dtype=np.uint8)

    def decode(row: int) -> str | None:
        try:
            images_NCHW[row] = decode_rgb(images[row], size, mode)
        except ValueError as error:
            return str(error)
        return None

    if num_threads <= 1:
        return images_NCHW, [decode(row) for row in range(len(images))]
    with ThreadPoolExecutor(num_threads) as pool:  # Pillow frees the GIL while it decodes and resizes
        return images_NCHW, list(pool.map(decode, range(len(images))))


def phash(image: Image.Image) -> int:
    """64-bit perceptual hash: signs of the 8 x 8 lowest cosine frequencies of the 32 x 32 grey image.

    A bit is set where the coefficient lies above the median of the 63 that are not the mean; the mean's own bit says
    whether the image is light. Computed in integers, so that every machine gets the same bits.
    """
    grey = np.asarray(image.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX), dtype=np.int64)
    cosines = _cosines()
    product = cosines @ grey @ cosines.T
    frequencies = ((product + (1 << 23)) >> 24).ravel()  # back from fixed point; a flat image has exact zeros
    bits = frequencies > np.sort(frequencies[1:])[31]  # the median of 63
    bits[0] = grey.mean() >= 128
    return int(np.packbits(bits).view(">u8")[0])


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """The first 8 rows of the 32-point DCT-II, int64 [8, 32] in units of 2**-12."""
    k, n = np.arange(8)[:, None], np.arange(HASH_SIDE)[None, :]
    return np.rint(4096 * np.cos(np.pi * k * (2 * n + 1) / (2 * HASH_SIDE))).astype(np.int64)


def _open(data: bytes, max_pixels: int, shrink_to: int) -> tuple[Image.Image, tuple[int, int]]:
    """The decoded first frame, upright and RGB, and its size before any shrinking. ValueError for whatever fails."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_formats())
        size = image.size
        if size[0] * size[1] > max_pixels:
            raise TooLarge(f"{size[0]} x {size[1]} pixels, more than {max_pixels} are allowed", size)
        image.draft(None, (shrink_to, shrink_to))  # JPEG only: decodes at 1/2, 1/4 or 1/8, never below shrink_to
        image.load()
        orientation = image.getexif().get(0x0112, 1) if "exif" in image.info else 1
        if orientation != 1:
            image = ImageOps.exif_transpose(image)
            size = size[::-1] if orientation >= 5 else size
        return _to_rgb(image), size
    except (TooLarge, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, met before the size can be read
        raise TooLarge(str(error)) from error
    except Exception as error:  # decoders of hostile bytes raise anything: OSError, SyntaxError, struct.error, KeyError
        raise ValueError(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    """Pillow's text without the address of the buffer, so that a second run stores the same error."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    return f"{type(error).__name__}: {error}"


@lru_cache(maxsize=1)
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16 bits per pixel; Pillow's own conversion would clip instead of scale
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def _center_crop(image: Image.Image, size: int) -> Image.Image:
    image = _cut_ends(image)
    width, height = image.size
    shorter = min(width, height)
    width, height = int(size * width / shorter), int(size * height / shorter)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _cut_ends(image: Image.Image) -> Image.Image:
    """The middle of a strip, at most MAX_ASPECT times as long as it is wide."""
    width, height = image.size
    longest = MAX_ASPECT * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))


def _squash(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BICUBIC)
