"""What is stored of an image unless the recipe says otherwise."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from react_ray.pairs.store import prepare
from react_ray.pairs.store_config import StoreConfig


def photo(width: int, height: int) -> bytes:
    """A JPEG that is dark everywhere."""
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).point(lambda value: value // 2).convert("RGB").save(out, "JPEG")
    return out.getvalue()


def test_the_default_is_react_s_download_and_pads_and_enlarges_nothing() -> None:
    small, large = photo(500, 375), photo(1600, 1200)
    assert prepare(small, StoreConfig()).image == small
    stored = prepare(large, StoreConfig())
    assert (stored.width, stored.height) == (512, 384)


def test_a_border_would_be_a_quarter_of_a_photo() -> None:
    stored = prepare(photo(500, 375), StoreConfig(resize_mode="border", image_size=256, resize_only_if_bigger=False))
    assert stored.image is not None
    pixels = np.asarray(Image.open(io.BytesIO(stored.image)))
    assert (pixels > 240).all(axis=(1, 2)).mean() == pytest.approx(0.25, abs=0.03)
