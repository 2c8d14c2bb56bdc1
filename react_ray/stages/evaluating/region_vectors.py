"""RegionVectors: the vector of each box of an image, by a crop or by its place in the map of patch vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.ops import roi_align

from react_ray.clip.backbone import Backbone
from react_ray.clip.dense_maps import DenseMaps
from react_ray.clip.embedder import Embedder
from react_ray.errors import ConfigError
from react_ray.pairs.image import RESAMPLING, decode_whole

WHOLE = 1 << 30  # no image is decoded at a reduced scale, since boxes count pixels
Regions = Literal["crop", "roi_align"]


class RegionVectors:
    def __init__(
        self,
        backbone: Backbone,
        device: torch.device,
        regions: Regions,
        size: int,
        batch_size: int,
        num_threads: int,
    ) -> None:
        """size: pixels per side of the image whose map roi_align reads, as in DenseMaps. batch_size: crops per pass."""
        self.embedder = Embedder(backbone, batch_size, device)
        self.maps = DenseMaps(backbone, device, size, num_threads) if regions == "roi_align" else None

    def of(
        self,
        files: Sequence[str],
        images: Sequence[bytes | None],
        sizes: Sequence[tuple[int, int]],
        boxes: Sequence[np.ndarray],
    ) -> Iterator[np.ndarray | None]:
        """Yields float32 [n, D] for each image, unit rows; None for an image that cannot be decoded.

        files: names, for messages. sizes: (width, height) that the annotations say.
        boxes: float64 [n, 4]: left, top, width, height within it.
        ConfigError for an image of another size.
        """
        maps = self.maps.of(images) if self.maps else iter([None] * len(images))
        for file, data, size, box_N4, map_Dhw in zip(files, images, sizes, boxes, maps, strict=True):
            try:
                picture = decode_whole(data, WHOLE)
            except ValueError:
                yield None
                continue
            if picture.size != tuple(size):
                raise ConfigError(
                    f"{file} is {picture.width} x {picture.height} pixels and its annotations say {size[0]} x "
                    f"{size[1]}; name the images that the boxes were drawn on"
                )
            if self.maps:
                yield None if map_Dhw is None else _aligned(map_Dhw, box_N4 / np.tile(size, 2))
            else:
                yield self._crops(picture, box_N4)

    def _crops(self, picture: Image.Image, box_N4: np.ndarray) -> np.ndarray:
        backbone = self.embedder.backbone
        side, resampling = backbone.image_size, RESAMPLING[backbone.interpolation]
        crop_NCHW = np.empty((len(box_N4), 3, side, side), np.uint8)
        for row, (left, top, width, height) in enumerate(box_N4):
            corners = (left, top, left + width, top + height)
            crop_NCHW[row] = np.asarray(picture.resize((side, side), resampling, corners)).transpose(2, 0, 1)
        return self.embedder.image_vectors(crop_NCHW)


def _aligned(map_Dhw: torch.Tensor, box_N4: np.ndarray) -> np.ndarray:
    """RoIAlign (Mask R-CNN, section 3) to one cell. box_N4: as shares of the image's width and height."""
    height, width = map_Dhw.shape[1:]
    corner_N4 = np.concatenate([box_N4[:, :2], box_N4[:, :2] + box_N4[:, 2:]], axis=1) * np.tile([width, height], 2)
    corners = torch.from_numpy(corner_N4).to(map_Dhw)
    region_ND = roi_align(map_Dhw[None], [corners], output_size=1, aligned=True).flatten(1)
    return F.normalize(region_ND, dim=1).cpu().numpy()
