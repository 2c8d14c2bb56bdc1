"""Augments images as REACT does: timm's random resized crop, flip, RandAugment and random erasing, of whole images.

The pixels are a function of the encoded bytes and a seed. It runs on the CPU, where images are decoded; augment.py runs
on the device, on images of the model's size.
"""

from __future__ import annotations

import random
from contextlib import suppress
from threading import Lock

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.random_erasing import RandomErasing

from react_ray.errors import ConfigError
from react_ray.gated.augment_config import AugmentConfig
from react_ray.pairs.image import decode_whole

TAKEN = {"auto", "flip", "crop_area", "crop_ratio", "erase"}
DRAWS = 100
SHRINK = 4  # big JPEGs are decoded at a scale that leaves this many times the model's size, for small crops


class AutoAugment:
    """A callable of (encoded image, seed). timm draws from the global generators, so calls run one after another."""

    def __init__(self, config: AugmentConfig, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        others = [
            name
            for name in type(config).model_fields
            if name not in TAKEN and getattr(config, name) != getattr(AugmentConfig(), name)
        ]
        if others:
            raise ConfigError(f"customize.augment.{others[0]} is not done with augment.auto; take one of them out")
        self.config, self.size, self.mean, self.std = config, size, mean, std
        self._make()

    def _make(self) -> None:
        config = self.config
        try:
            primary, secondary, _ = create_transform(
                self.size,
                is_training=True,
                scale=(config.crop_area, 1.0),
                ratio=(1 / config.crop_ratio, config.crop_ratio),
                hflip=config.flip,
                auto_augment=config.auto,
                interpolation="bicubic",
                mean=self.mean,  # RandAugment fills with it
                std=self.std,
                separate=True,
            )
        except (AssertionError, ValueError, KeyError) as error:
            raise ConfigError(
                f"customize.augment.auto={config.auto}: timm does not know it ({error}); write rand-m9-mstd0.5-inc1 "
                "for example"
            ) from error
        self._transforms = (primary, secondary)
        self._erasing = RandomErasing(probability=1.0, mode="pixel", device="cpu")
        self._lock = Lock()

    def __call__(self, data: bytes, seed: int) -> np.ndarray:
        """uint8 [3, size, size]; raises ValueError, with the reason, for bytes that are no image."""
        image = decode_whole(data, SHRINK * self.size)
        with self._lock:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)
            pixels_CHW = np.asarray(self._transformed(image)).transpose(2, 0, 1)
            return self._erase(pixels_CHW) if random.random() < self.config.erase else pixels_CHW

    def _transformed(self, image: Image.Image) -> Image.Image:
        """Draws again where timm asks Pillow for something that it refuses: to posterise to 0 bits, a black image."""
        for _ in range(DRAWS):
            with suppress(ValueError):
                out = image
                for transform in self._transforms:
                    out = transform(out)
                return out
        raise ConfigError(
            f"customize.augment.auto={self.config.auto} fails for every draw; write rand-m9-mstd0.5-inc1 for example"
        )

    def _erase(self, pixels_CHW: np.ndarray) -> np.ndarray:
        """Erases with noise in units of the normalised image, as timm does, clamped to the range of a pixel."""
        mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        x_CHW = self._erasing((torch.from_numpy(pixels_CHW.copy()).float() - mean) / std)
        return (x_CHW * std + mean).round_().clamp_(0, 255).to(torch.uint8).numpy()

    def __getstate__(self) -> dict[str, object]:
        return {"config": self.config, "size": self.size, "mean": self.mean, "std": self.std}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._make()
