"""Makes the small pictures of a page: an image that is small enough stays as it is, a larger one becomes a small WebP.

The bytes come from the web. They are decoded within the limits of pairs/decode_limits.py, and a page gets only bytes
of the formats that pictures.mime_type knows.
"""

from __future__ import annotations

import io

from PIL import Image

from react_ray.pairs.image import as_rgb, decode_upright, read_header
from react_ray.report.pictures import mime_type

SIDE = 96  # pixels of the longer side, as the page shows them
KEPT_BYTES = 3_000  # an image of at most so many bytes is not encoded again
QUALITY = 62  # of WebP: a photo of 96 pixels has about 2 kB


def thumbnail(data: bytes | None) -> bytes | None:
    """Returns the bytes to show; None if these are no image, or one that cannot be decoded."""
    if not data:
        return None
    if len(data) <= KEPT_BYTES and mime_type(data):
        return data
    try:
        image = as_rgb(decode_upright(read_header(data), (SIDE, SIDE)))
    except ValueError:
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX if max(image.size) > 8 * SIDE else Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=3)
    return buffer.getvalue()
