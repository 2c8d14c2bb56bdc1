"""AugmentConfig: how training images are augmented. It loads without torch."""

from __future__ import annotations

from react_ray.section import Section, field


class AugmentConfig(Section):
    """Everything is off by default. With `auto`, timm augments whole images and takes only flip, crop_* and erase."""

    auto: str = field(
        "", "timm's automatic augmentation of whole images, rand-m9-mstd0.5-inc1 in REACT; empty = the fields below"
    )
    rotate_deg: float = field(0.0, "rotation, uniform in +- this many degrees", ge=0, le=180)
    scale: float = field(0.0, "the size is multiplied by 2 to the power of a number in +- this", ge=0, le=2)
    stretch: float = field(0.0, "the aspect ratio is multiplied by 2 to the power of a number in +- this", ge=0, le=2)
    translate: float = field(0.0, "shift per axis, uniform in +- this share of the side", ge=0, le=1)
    shear: float = field(0.0, "shear, uniform in +- this share of the side", ge=0, le=1)
    flip: float = field(0.0, "probability of a horizontal flip", ge=0, le=1)
    crop_area: float = field(1.0, "random resized crop: smallest share of the area that is kept; 1 = off", gt=0, le=1)
    crop_ratio: float = field(1.0, "random resized crop: largest aspect ratio, for example 4/3; 1 = square", ge=1)
    brightness: float = field(0.0, "offset, uniform in +- this share of white", ge=0, le=1)
    contrast: float = field(0.0, "gain around the middle grey, uniform in 1 +- this", ge=0, le=1)
    color: float = field(0.0, "per channel: gain in 1 +- this and offset in +- half of this", ge=0, le=1)
    saturation: float = field(0.0, "gain around the grey of the pixel, uniform in 1 +- this", ge=0, le=1)
    grey: float = field(0.0, "probability that an image loses all colour", ge=0, le=1)
    erase: float = field(
        0.0, "probability that a rectangle of 2 to 33 % of the area is erased: to grey, with auto to noise", ge=0, le=1
    )
