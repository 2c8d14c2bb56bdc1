"""DenseMaps: decodes whole images and gives their maps of patch vectors, in order.

An image is squashed to a square, so that its map covers all of it. As many images pass the model at once as BATCH
says, whatever the machine has, so that a map does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from react_ray.clip.backbone import Backbone
from react_ray.clip.dense_features import check_dense, dense_features
from react_ray.pairs.image import decode_batch

BATCH = 8


class DenseMaps:
    def __init__(self, backbone: Backbone, device: torch.device, size: int = 0, num_threads: int = 1) -> None:
        """size: pixels per side that the model sees; 0 = as it was trained with. ConfigError as `check_dense`."""
        self.backbone, self.device, self.num_threads = backbone, device, num_threads
        self.size = size or backbone.image_size
        self.model = backbone.model.to(device).eval()
        check_dense(self.model, self.size)

    def of(self, images: Sequence[bytes | None]) -> Iterator[Tensor | None]:
        """Yields float32 [D, h, w] for each image, unit vectors over D; None for one that cannot be decoded."""
        for start in range(0, len(images), BATCH):
            some = images[start : start + BATCH]
            pixels_NCHW, problems = decode_batch(
                some, self.size, self.num_threads, "squash", self.backbone.interpolation
            )
            with torch.inference_mode(), self.backbone.autocast():
                pixels_BCHW = self.backbone.normalize(torch.from_numpy(pixels_NCHW), self.size)
                maps_BDhw = dense_features(self.model, pixels_BCHW)
            yield from (None if problem else one for one, problem in zip(maps_BDhw, problems, strict=True))
