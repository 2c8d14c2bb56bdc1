"""Defines StoreConfig: how a downloaded image is filtered, resized and encoded, with the names of img2dataset 1.47.

The defaults are those of REACT's download (the README of its code), not img2dataset's own.
"""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from typing_extensions import Self

from react_ray.pairs.decode_limits import MAX_DECODE_S, MAX_PIXELS
from react_ray.section import Section, field, speed

ResizeMode = Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"]
EncodeFormat = Literal["jpg", "png", "webp"]


class StoreConfig(Section):
    resize_mode: ResizeMode = field(
        "keep_ratio",
        "no; keep_ratio: scale the shorter side to image_size; keep_ratio_largest: scale the longer side; "
        "border: the same, then pad to a square with white; center_crop: keep_ratio, then crop the middle square",
    )
    image_size: int = field(384, "target side, pixels", ge=1)
    resize_only_if_bigger: bool = field(True, "do not change smaller images: neither enlarge them nor make them square")
    skip_reencode: bool = field(True, "keep the downloaded bytes if size and format already match")
    disable_all_reencoding: bool = field(
        False, "always keep the downloaded bytes, which are still checked to be an image"
    )
    encode_format: EncodeFormat = field("jpg", "format of stored images; transparent images get a white ground")
    encode_quality: int = field(
        95, "jpg and webp: quality, 1 to 100; png: compression, 0 (fast) to 9 (small)", ge=0, le=100
    )
    min_image_size: int = field(0, "drop images whose shorter side has fewer pixels; 0 = off", ge=0)
    max_image_area: float = field(0, "drop images with more pixels; 0 = off", ge=0)
    max_aspect_ratio: float = field(0, "drop images whose longer side divided by the shorter is more; 0 = off", ge=0)
    max_pixels: int = field(
        MAX_PIXELS,
        "refuse images that have more pixels, or would have once resized (4 to 16 bytes of memory per pixel)",
        ge=1,
    )
    max_decode_s: float = speed(
        MAX_DECODE_S, "refuse images that would take longer to decode, as their headers tell: too many scans", gt=0
    )

    @model_validator(mode="after")
    def _quality_has_the_scale_of_its_format(self) -> Self:
        least, most = (0, 9) if self.encode_format == "png" else (1, 100)
        if not least <= self.encode_quality <= most:
            raise ValueError(
                f"encode_quality is {self.encode_quality}: for {self.encode_format} set a number from {least} to {most}"
            )
        return self
