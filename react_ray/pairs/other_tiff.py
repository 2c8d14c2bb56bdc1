"""Decodes TIFFs in forms that Pillow does not know, such as colours as floating point numbers, with OpenCV."""

from __future__ import annotations

import numpy as np
from PIL import Image

from react_ray.pairs.rgb import shares, white_of


def decode_other_tiff(data: bytes) -> Image.Image:
    """Returns the image, RGB or RGBA of 8 bits; OpenCV turns it upright. Raises ValueError for unknown forms."""
    import cv2  # only these files need it here, and not all that decodes images has loaded it

    picture: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or not (picture.dtype in (np.uint8, np.uint16) or np.issubdtype(picture.dtype, np.floating)):
        raise ValueError("a TIFF of an unknown form")
    if picture.dtype != np.uint8:
        white = 65535.0 if picture.dtype == np.uint16 else white_of(picture)
        out = np.empty(picture.shape, np.uint8)
        for row, values in enumerate(picture):  # row by row, because a copy in floating point takes 12 bytes per pixel
            out[row] = np.rint(shares(values.astype(np.float64), white))
        picture = out
    to = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    channels = picture.shape[2] if picture.ndim == 3 else 1
    if channels not in to:
        raise ValueError(f"a TIFF of {channels} channels")
    return Image.fromarray(cv2.cvtColor(picture, to[channels]))
