"""Decodes, measures and hashes encoded images.

The bytes come from the web: they may be truncated, huge, or no image at all. A bad image gives a status (`inspect`) or
an error for its row (`decode_batch`); it never fails a part.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from react_ray import schema
from react_ray.pairs.decode_limits import MAX_DECODE_S, MAX_PIXELS, TooLarge, TooSlow, check_header, check_time
from react_ray.pairs.image_kind import kind_of
from react_ray.pairs.jpeg_parts import with_end, without_hostile_exif
from react_ray.pairs.other_tiff import decode_other_tiff
from react_ray.pairs.png_chunks import without_ancillary
from react_ray.pairs.png_transparency import has_transparent_colour_of_16_bits, with_alpha
from react_ray.pairs.rgb import WHITE_IS_ZERO, to_rgb
from react_ray.pairs.tiff_tags import DamagedHeader, exif_orientation, with_zero_as_black
from react_ray.row_guard import unforeseen

MAX_ASPECT = 8  # longer images lose their ends before resizing: a strip of 1 x 10,000 would grow to 500 million pixels
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "DIB", "TIFF", "ICO")  # no EPS: Pillow hands it to Ghostscript
HASH_SIDE = 32
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # key: the EXIF orientation that the turn makes upright

warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd metadata, one for each image; the rows have a status

CropMode = Literal["center_crop", "squash"]
Interpolation = Literal["bicubic", "bilinear"]
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class ImageFacts:
    """Facts about an image; sizes are those of the upright image, after its EXIF orientation is applied."""

    width: int | None
    height: int | None
    sha256: str | None  # of the encoded bytes; None if there are none
    phash: int | None  # 64 bits, unsigned; None if the image could not be decoded
    status: str
    error: str | None


class NotAnImage(ValueError):
    """The bytes are a web page, a video, or anything else that does not begin like an image."""


def inspect(data: bytes | None, max_pixels: int = MAX_PIXELS, max_decode_s: float = MAX_DECODE_S) -> ImageFacts:
    """Decodes an image once, to prove that it can be decoded. Never raises for bad bytes."""
    if not data:
        return ImageFacts(None, None, None, None, schema.EMPTY, "no bytes")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        image, (width, height) = _open(data, max_pixels, 2 * HASH_SIDE, max_decode_s)
        return ImageFacts(width, height, sha256, phash(image), schema.OK, None)
    except TooLarge as error:
        claimed = error.size or (None, None)
        return ImageFacts(claimed[0], claimed[1], sha256, None, schema.TOO_LARGE, str(error))
    except TooSlow as error:
        return ImageFacts(None, None, sha256, None, schema.TOO_SLOW, str(error))
    except ValueError as error:
        return ImageFacts(None, None, sha256, None, schema.UNDECODABLE, str(error))


def decode_rgb(
    data: bytes | None,
    size: int,
    mode: CropMode = "center_crop",
    max_pixels: int = MAX_PIXELS,
    interpolation: Interpolation = "bicubic",
) -> np.ndarray:
    """Returns uint8 [3, size, size]. Raises ValueError, with the reason, if the bytes cannot be decoded.

    `center_crop` is CLIP's evaluation transform: the shorter side is resized to `size`, then the middle is cropped.
    `squash` ignores the aspect ratio. Both equal torchvision's bit for bit, except where a large JPEG is decoded at a
    reduced scale.
    """
    if not data:
        raise ValueError("no bytes")
    image, _ = _open(data, max_pixels, shrink_to=2 * size)
    if image.size != (size, size):
        resampling = RESAMPLING[interpolation]
        image = image.resize((size, size), resampling) if mode == "squash" else _center_crop(image, size, resampling)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def decode_whole(data: bytes | None, shortest: int, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Returns the whole image, upright and RGB; a large JPEG at a reduced scale, with both sides still >= shortest.

    Raises ValueError like decode_rgb.
    """
    if not data:
        raise ValueError("no bytes")
    return _open(data, max_pixels, shrink_to=shortest)[0]


def decode_batch(
    images: Sequence[bytes | None],
    size: int,
    num_threads: int = 1,
    mode: CropMode = "center_crop",
    interpolation: Interpolation = "bicubic",
) -> tuple[np.ndarray, list[str | None]]:
    """Returns uint8 [N, 3, size, size], and an error or None per row. A row that failed is black."""
    images_NCHW = np.zeros((len(images), 3, size, size), dtype=np.uint8)

    def decode(row: int) -> str | None:
        try:
            images_NCHW[row] = decode_rgb(images[row], size, mode, interpolation=interpolation)
        except ValueError as error:
            return str(error)
        except Exception as error:
            return unforeseen(error)
        return None

    if num_threads <= 1:
        return images_NCHW, [decode(row) for row in range(len(images))]
    with ThreadPoolExecutor(num_threads) as pool:  # Pillow releases the GIL while it decodes and resizes
        return images_NCHW, list(pool.map(decode, range(len(images))))


def phash(image: Image.Image) -> int:
    """Computes a 64-bit perceptual hash from the 8 x 8 lowest frequencies of the DCT of the 32 x 32 grey image.

    A bit is set where its coefficient is above the median of the 63 coefficients other than the mean; the bit of the
    mean is set if the image is light. The computation is in integers, so that every machine gets the same bits.
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
    """Returns the first 8 rows of the 32-point DCT-II, int64 [8, 32] in units of 2**-12."""
    k, n = np.arange(8)[:, None], np.arange(HASH_SIDE)[None, :]
    return np.rint(4096 * np.cos(np.pi * k * (2 * n + 1) / (2 * HASH_SIDE))).astype(np.int64)


def read_header(data: bytes, max_pixels: int = MAX_PIXELS, max_decode_s: float = MAX_DECODE_S) -> Image.Image:
    """Opens an image without decoding any pixel. Raises NotAnImage, TooLarge, TooSlow or ValueError."""
    with _bad_bytes(data):
        kind = kind_of(data)
        white_is_zero = False
        if kind == "png":
            data = without_ancillary(data)
        elif kind == "jpg":
            data = without_hostile_exif(data, max_decode_s)
        elif kind in ("tif", "ico", "avif"):
            check_header(data, max_pixels, max_decode_s)
            data, white_is_zero = with_zero_as_black(data) if kind == "tif" else (data, False)
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=_formats())
        except UnidentifiedImageError:
            if kind != "tif":
                raise
            image = decode_other_tiff(data)
        if image.width * image.height > max_pixels:
            message = f"{image.width} x {image.height} pixels, more than {max_pixels} are allowed"
            raise TooLarge(message, upright_size(image))
        if image.mode == "P" and image.palette is None:
            raise DamagedHeader("an image of a palette without its palette")
        check_time(image, data, max_decode_s)
        if white_is_zero:
            image.info[WHITE_IS_ZERO] = True
        return image


def orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 (upright) also if the EXIF data cannot be read. XMP does not count."""
    exif = image.info.get("exif")
    return exif_orientation(exif) if isinstance(exif, bytes) else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Returns width and height after the EXIF orientation is applied."""
    width, height = image.size
    return (height, width) if orientation(image) >= 5 else (width, height)


def decode_upright(image: Image.Image, shrink_to: tuple[int, int]) -> Image.Image:
    """Decodes the first frame and applies its EXIF orientation; the mode stays as it is. Raises ValueError.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if the result is not smaller than `shrink_to`, a size before
    turning.
    """
    with _bad_bytes():
        turn = TURNS.get(orientation(image))
        image = _load(image, shrink_to)
        return image if turn is None else image.transpose(turn)


def _load(image: Image.Image, shrink_to: tuple[int, int]) -> Image.Image:
    """Decodes; a JPEG without its end marker is decoded with one, if that is all it lacks.

    A transparent colour of 16 bits becomes an alpha channel.
    """
    source, header = getattr(image, "fp", None), image
    is_deep = has_transparent_colour_of_16_bits(image)
    image.draft(None, shrink_to)
    try:
        image.load()
    except OSError:
        whole = None
        if header.format in ("JPEG", "MPO") and isinstance(source, io.BytesIO) and not source.closed:
            whole = with_end(source.getvalue(), header.mode)
        if whole is None:
            raise
        image = Image.open(io.BytesIO(whole), formats=["JPEG"])
        image.draft(None, shrink_to)
        image.load()
    return with_alpha(image, source.getvalue()) if is_deep and isinstance(source, io.BytesIO) else image


@contextmanager
def _bad_bytes(data: bytes = b"") -> Iterator[None]:
    """Converts whatever a decoder raises to a ValueError whose message is the same in every run."""
    try:
        yield
    except (TooLarge, TooSlow, DamagedHeader, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, which it checks before we can read the size
        raise TooLarge(str(error)) from error
    except UnidentifiedImageError as error:  # its message contains the address of the buffer
        if kind_of(data):
            raise ValueError("the header is damaged") from error
        raise NotAnImage("not an image of a known format") from error
    except Exception as error:  # decoders raise anything on hostile bytes: OSError, SyntaxError, struct.error, KeyError
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _open(
    data: bytes, max_pixels: int, shrink_to: int, max_decode_s: float = MAX_DECODE_S
) -> tuple[Image.Image, tuple[int, int]]:
    """Returns the first frame, upright and RGB, and its size before any reduction. Raises ValueError."""
    image = read_header(data, max_pixels, max_decode_s)
    size = upright_size(image)
    upright = decode_upright(image, (shrink_to, shrink_to))
    return as_rgb(upright), size


def as_rgb(image: Image.Image) -> Image.Image:
    """Converts a decoded image to RGB, with transparency on white. Raises ValueError."""
    with _bad_bytes():
        return to_rgb(image)


@lru_cache(maxsize=1)
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _center_crop(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    image = _cut_ends(image)
    width, height = image.size
    shorter = min(width, height)
    width, height = int(size * width / shorter), int(size * height / shorter)
    image = image.resize((width, height), resampling)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _cut_ends(image: Image.Image) -> Image.Image:
    """Cuts a strip to its middle, at most MAX_ASPECT times as long as it is wide."""
    width, height = image.size
    longest = MAX_ASPECT * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))
