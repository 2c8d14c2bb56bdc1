"""Resizes and encodes downloaded images for storage.

The five resize modes and the resulting sizes are img2dataset's. Two things differ: images are stored upright, and a
JPEG that will be reduced is decoded at a reduced scale. Filters are applied to the size in the header, before any pixel
is decoded. simplejpeg decodes the common JPEGs, and OpenCV resizes and encodes, because they are faster than Pillow
(tests/benchmark/bench_store.py measures by how much). Pillow decodes other formats and what simplejpeg rejects.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from math import ceil

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from react_ray import schema
from react_ray.pairs.decode_limits import TooLarge, TooSlow
from react_ray.pairs.image import (
    HASH_SIDE,
    NotAnImage,
    as_rgb,
    decode_upright,
    orientation,
    phash,
    read_header,
    upright_size,
)
from react_ray.pairs.store_config import StoreConfig

Size = tuple[int, int]  # width, height

# A JPEG is decoded at 1/scale if it will be reduced by at least the second number. Area interpolation (the mean over
# what a pixel covers) takes five times as long as linear and is worth it from AREA_FROM on; below, the two are nearly
# equal. With these choices nine sharp photographs differ from img2dataset's by 1.2 grey levels over reductions by 1.1
# to 19, and by 2.1 grey levels at the worst reduction, 2.1.
DCT_SCALES = ((8, 16.0), (4, 6.0), (2, 2.0))
AREA_FROM = 1.75
JPEG_SPACES = {"RGB": "BGR", "L": "GRAY"}  # mode in the header -> color space to decode to, in OpenCV's channel order
FORMATS = {"jpg": ("JPEG", "MPO"), "png": ("PNG",), "webp": ("WEBP",)}  # Pillow's names; an MPO begins with a JPEG
QUALITY = {"jpg": cv2.IMWRITE_JPEG_QUALITY, "png": cv2.IMWRITE_PNG_COMPRESSION, "webp": cv2.IMWRITE_WEBP_QUALITY}
LONGEST_SIDE = {"jpg": 65_500, "png": 1_000_000, "webp": 16_383}  # that the encoder accepts, pixels

cv2.setNumThreads(1)  # Ray assigns cores to workers, and small images gain nothing from more threads


@dataclass(frozen=True)
class Stored:
    """A row of `images`. Sizes are upright; `image` is None unless the status is ok; other facts are set as far as
    known.
    """

    image: bytes | None = None
    width: int | None = None
    height: int | None = None
    original_width: int | None = None
    original_height: int | None = None
    sha256: str | None = None  # of the downloaded bytes, so that it can be compared with a published checksum
    phash: int | None = None  # of the whole image, before it is cropped or padded
    status: str = schema.OK
    error: str | None = None


def prepare(data: bytes | None, config: StoreConfig) -> Stored:
    """Filters, resizes and encodes one image. Never raises for bad bytes; the status says what is wrong with them."""
    if not data:
        return Stored(status=schema.EMPTY, error="no bytes")
    stored = Stored(sha256=hashlib.sha256(data).hexdigest())
    try:
        header = read_header(data, config.max_pixels, config.max_decode_s)
        size = upright_size(header)
        stored = replace(stored, original_width=size[0], original_height=size[1])
        return _refused(stored, size, config) or _store(stored, data, header, config)
    except TooLarge as error:
        width, height = error.size or (stored.original_width, stored.original_height)
        return replace(stored, original_width=width, original_height=height, status=schema.TOO_LARGE, error=str(error))
    except TooSlow as error:
        return replace(stored, status=schema.TOO_SLOW, error=str(error))
    except NotAnImage as error:
        page = data.lstrip()[:1] in (b"<", b"{")
        return replace(
            stored, status=schema.NOT_AN_IMAGE, error="HTML, XML or JSON, not an image" if page else str(error)
        )
    except (ValueError, cv2.error) as error:
        return replace(stored, status=schema.UNDECODABLE, error=str(error))


def fit(size: Size, config: StoreConfig) -> tuple[Size, Size]:
    """Returns the size that the image is scaled to, and the size that is stored, which is the same or a square."""
    mode = config.resize_mode
    deciding = min(size) if mode in ("keep_ratio", "center_crop") else max(size)
    if mode == "no" or (config.resize_only_if_bigger and deciding <= config.image_size):
        return size, size
    scale = config.image_size / deciding
    scaled = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    square = config.image_size, config.image_size
    return scaled, square if mode in ("border", "center_crop") else scaled


def _refused(stored: Stored, size: Size, config: StoreConfig) -> Stored | None:
    """Applies the filters in the order of img2dataset and with its messages."""
    if min(size) < config.min_image_size:
        return replace(stored, status=schema.TOO_SMALL, error="image too small")
    if 0 < config.max_image_area < size[0] * size[1]:
        return replace(stored, status=schema.TOO_LARGE_AREA, error="image area too large")
    if 0 < config.max_aspect_ratio < max(size) / min(size):
        return replace(stored, status=schema.ASPECT, error="aspect ratio too large")
    return None


def _store(stored: Stored, data: bytes, header: Image.Image, config: StoreConfig) -> Stored:
    size = upright_size(header)
    scaled, final = fit(size, config)
    as_it_is = size == scaled == final and header.format in FORMATS[config.encode_format]
    if config.disable_all_reencoding or (config.skip_reencode and as_it_is and not header.has_transparency_data):
        picture, _ = _decode(data, header, _reduced(size, 2 * HASH_SIDE))  # proves that it is an image
        return replace(stored, image=data, width=size[0], height=size[1], phash=_phash(picture))
    _check_result(scaled, final, config)
    picture = _resize(*_decode(data, header, scaled), size, scaled)
    encoded = _encode(_crop_or_pad(picture, final), config)
    return replace(stored, image=encoded, width=final[0], height=final[1], phash=_phash(picture))


def _check_result(scaled: Size, final: Size, config: StoreConfig) -> None:
    """Raises TooLarge for a result above the limits: a strip of 1 x 10,000 pixels is large once its shorter side is
    256.
    """
    if scaled[0] * scaled[1] > config.max_pixels or max(final) > LONGEST_SIDE[config.encode_format]:
        raise TooLarge(f"it would be stored as {scaled[0]} x {scaled[1]} pixels")


def _reduced(size: Size, shorter: int) -> Size:
    scale = min(1.0, shorter / min(size))
    return ceil(size[0] * scale), ceil(size[1] * scale)


def _decode(data: bytes, header: Image.Image, wanted: Size) -> tuple[np.ndarray, int]:
    """Returns uint8 [H, W, 3] in BGR or [H, W] grey, upright, and the scale: it is 1/scale of the original, >=
    `wanted`.
    """
    stored, turn = header.size, orientation(header)
    if turn >= 5:
        wanted = wanted[::-1]
    reduction = min(stored[0] / wanted[0], stored[1] / wanted[1])
    scale = next((scale for scale, least in DCT_SCALES if reduction >= least), 1)
    if header.format in FORMATS["jpg"] and header.mode in JPEG_SPACES and turn == 1:
        width, height = ceil(stored[0] / scale), ceil(stored[1] / scale)
        try:
            picture = simplejpeg.decode_jpeg(
                data, JPEG_SPACES[header.mode], min_width=width, min_height=height, min_factor=scale
            )
            return (picture[:, :, 0] if header.mode == "L" else picture), scale
        except ValueError:  # simplejpeg is strict; Pillow distinguishes damage from harmless oddities
            pass
    upright = decode_upright(header, (stored[0] // scale, stored[1] // scale))
    scale = 1 if max(upright.size) == max(stored) else scale
    if upright.mode == "L" and not upright.has_transparency_data:
        return np.asarray(upright), scale
    return cv2.cvtColor(np.asarray(as_rgb(upright)), cv2.COLOR_RGB2BGR), scale


def _resize(picture: np.ndarray, scale: int, size: Size, scaled: Size) -> np.ndarray:
    """Resizes an image that was decoded at 1/scale of `size` to `scaled`.

    The decoder rounds up: of 427 rows at 1/2, which are 213.5, it returns 214. Resizing these as if they were the whole
    image would shift it, so OpenCV is given the exact factors and its last row or column is cut.
    """
    height, width = picture.shape[:2]
    if (width, height) == scaled:
        return picture
    factors = scaled[0] * scale / size[0], scaled[1] * scale / size[1]
    enlarged, much = max(factors) > 1, min(factors) <= 1 / AREA_FROM
    method = cv2.INTER_LANCZOS4 if enlarged else cv2.INTER_AREA if much else cv2.INTER_LINEAR
    resized = cv2.resize(picture, None, fx=factors[0], fy=factors[1], interpolation=method)
    return resized[: scaled[1], : scaled[0]]


def _phash(picture: np.ndarray) -> int:
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return phash(Image.fromarray(grey))


def _crop_or_pad(picture: np.ndarray, final: Size) -> np.ndarray:
    """Crops sides that are too long to their middle and pads short ones with white; an odd pixel goes right or down."""
    height, width = picture.shape[:2]
    left, top = max(0, (width - final[0]) // 2), max(0, (height - final[1]) // 2)
    picture = picture[top : top + final[1], left : left + final[0]]
    right, bottom = final[0] - picture.shape[1], final[1] - picture.shape[0]
    if right == bottom == 0:
        return picture
    left, top = right // 2, bottom // 2
    white = (255, 255, 255)
    return cv2.copyMakeBorder(picture, top, bottom - top, left, right - left, cv2.BORDER_CONSTANT, value=white)


def _encode(picture: np.ndarray, config: StoreConfig) -> bytes:
    quality = [QUALITY[config.encode_format], config.encode_quality]
    return cv2.imencode(f".{config.encode_format}", picture, quality)[1].tobytes()
