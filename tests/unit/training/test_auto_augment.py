from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from react_ray.errors import ConfigError
from react_ray.gated.augment_config import AugmentConfig
from react_ray.training.auto_augment import AutoAugment

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
REACT = {"auto": "rand-m9-mstd0.5-inc1", "crop_area": 0.08, "crop_ratio": 1.3333, "flip": 0.5, "erase": 0.25}


def augment(**changes: object) -> AutoAugment:
    return AutoAugment(AugmentConfig.model_validate(REACT | changes), 32, MEAN, STD)


def photo(width: int = 90, height: int = 60) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(data, "PNG")
    return data.getvalue()


def test_pixels_are_a_function_of_image_and_seed() -> None:
    ours = augment()
    first = [ours(photo(), seed) for seed in range(40)]
    assert all(image.shape == (3, 32, 32) and image.dtype == np.uint8 for image in first)
    again = pickle.loads(pickle.dumps(ours))
    for seed in reversed(range(40)):
        np.testing.assert_array_equal(again(photo(), seed), first[seed])
    assert len({image.tobytes() for image in first}) == 40


def test_no_draw_fails() -> None:
    ours, image = augment(auto="rand-m10-mstd2-inc1"), photo()  # often posterises to 0 bits
    assert all(ours(image, seed).shape == (3, 32, 32) for seed in range(300))


def test_erasing_is_noise_in_the_place_of_a_rectangle() -> None:
    never, always = augment(erase=0.0), augment(erase=1.0)
    shares = []
    for seed in range(60):
        changed = (never(photo(), seed) != always(photo(), seed)).any(axis=0)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.9
        shares.append(box.size / changed.size)
    assert min(shares) > 0.01 and 0.2 < max(shares) < 0.4


def test_what_timm_does_not_do_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"augment.rotate_deg is not done with augment.auto; take one of them out"):
        augment(rotate_deg=10)
    with pytest.raises(ConfigError, match=r"timm does not know it .*write rand-m9-mstd0.5-inc1"):
        augment(auto="nonsense")


def test_bytes_that_are_no_image_are_a_value_error() -> None:
    for data in (b"", b"<html>", photo()[:200]):
        with pytest.raises(ValueError):
            augment()(data, 0)
