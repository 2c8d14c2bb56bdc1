"""Decoding ahead of the model: every row has its pixels or its status."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from react_ray.clip.pixels import decoded_batches

SIDE = 16


def drawing(side: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), 200, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_an_image_on_which_decoding_fails_unforeseen_is_an_internal_error_and_the_others_are_decoded() -> None:
    images = [drawing(SIDE), drawing(2 * SIDE), b"no image", None, drawing(SIDE)]
    odd: Any = "none"  # a KeyError, for images that are resized
    with ThreadPoolExecutor(2) as pool:
        batches = list(decoded_batches(images, 3, SIDE, "center_crop", odd, pool))
    assert [failure for _, failures in batches for failure in failures] == [
        None,
        "internal_error",
        "undecodable",
        "undecodable",
        None,
    ]
    assert [int(pixels.max()) for batch, _ in batches for pixels in batch] == [200, 0, 0, 0, 200]
