"""StoreConfig: what is kept of a downloaded image, with the names and the sizes of img2dataset 1.47. Next: store.py."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from typing_extensions import Self

from react_ray.pairs.image import MAX_PIXELS
from react_ray.section import Section, field

ResizeMode = Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"]
EncodeFormat = Literal["jpg", "png", "webp"]


class StoreConfig(Section):
    resize_mode: ResizeMode = field(
        "border",
        "no; keep_ratio: the shorter side becomes image_size; keep_ratio_largest: the longer one; border: that, and white "
        "up to a square; center_crop: keep_ratio, and the middle square",
    )
    image_size: int = field(256, "side in pixels", ge=1)
    resize_only_if_bigger: bool = field(False, "leave smaller images as they are: neither enlarged nor made square")
    skip_reencode: bool = field(False, "keep the downloaded bytes where size and format are right already")
    disable_all_reencoding: bool = field(
        False, "keep the downloaded bytes always; each is still checked to be an image"
    )
    encode_format: EncodeFormat = field("jpg", "format of stored images; transparency lies on white in each")
    encode_quality: int = field(95, "jpg and webp: 1 to 100; png: compression, 0 (fast) to 9 (small)", ge=0, le=100)
    min_image_size: int = field(0, "drop images whose shorter side has fewer pixels; 0 = off", ge=0)
    max_image_area: float = field(0, "drop images of more pixels; 0 = off", ge=0)
    max_aspect_ratio: float = field(0, "drop images whose longer side is more times the shorter; 0 = off", ge=0)
    max_pixels: int = field(MAX_PIXELS, "never decode more pixels, nor enlarge to more (memory: 3 bytes each)", ge=1)

    @model_validator(mode="after")
    def _quality_has_the_scale_of_its_format(self) -> Self:
        least, most = (0, 9) if self.encode_format == "png" else (1, 100)
        if not least <= self.encode_quality <= most:
            raise ValueError(
                f"encode_quality is {self.encode_quality}: for {self.encode_format} set a number from {least} to {most}"
            )
        return self
