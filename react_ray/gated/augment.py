"""Augmentation of a whole batch at once, on tensors: one table of random numbers, one resampling, a little arithmetic.

Takes uint8 images and a generator (or the rows of a `draw`, so that a batch split over ranks gives the same pixels as
the whole), gives float32 images in [0, 255]. Next: clip/backbone.py, whose `normalize` takes them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from react_ray.section import Section, field

# Columns of a draw, each uniform in [0, 1).
(
    ROTATE,
    SCALE,
    SHIFT_X,
    SHIFT_Y,
    SHEAR,
    FLIP,
    CROP_AREA,
    CROP_RATIO,
    CROP_X,
    CROP_Y,
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    ERASE,
    ERASE_AREA,
    ERASE_RATIO,
    ERASE_X,
    ERASE_Y,
) = range(18)
NUM_DRAWS = 18


class AugmentConfig(Section):
    """Everything is off at its default."""

    rotate_deg: float = field(0.0, "rotation is uniform in +- this many degrees", ge=0, le=180)
    scale: float = field(0.0, "size is uniform in 1 +- this share", ge=0, lt=1)
    translate: float = field(0.0, "shift is uniform in +- this share of the side, per axis", ge=0, le=1)
    shear_deg: float = field(0.0, "shear is uniform in +- this many degrees", ge=0, lt=90)
    flip: float = field(0.0, "probability of a horizontal flip", ge=0, le=1)
    crop_area: float = field(1.0, "random resized crop: least share of the area that is kept; 1 = off", gt=0, le=1)
    crop_ratio: float = field(1.0, "random resized crop: largest aspect ratio, 4/3 say; 1 = square", ge=1)
    brightness: float = field(0.0, "factor uniform in 1 +- this", ge=0, le=1)
    contrast: float = field(0.0, "factor uniform in 1 +- this, around the mean grey of the image", ge=0, le=1)
    saturation: float = field(0.0, "factor uniform in 1 +- this, around the grey of the pixel", ge=0, le=1)
    erase: float = field(
        0.0, "probability that one rectangle, 2 to 33 % of the area, is overwritten by grey", ge=0, le=1
    )


def draw(num_images: int, generator: torch.Generator) -> Tensor:
    """The random numbers of a batch, float32 [num_images, NUM_DRAWS] on the CPU."""
    return torch.rand(num_images, NUM_DRAWS, generator=generator)


def augment(image_BCHW: Tensor, generator: torch.Generator, config: AugmentConfig) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 in [0, 255]; what leaves the frame is filled from its edge."""
    return augment_rows(image_BCHW, draw(len(image_BCHW), generator), config)


def augment_rows(image_BCHW: Tensor, draw_BK: Tensor, config: AugmentConfig) -> Tensor:
    """`augment` with given random numbers: rows may come from a larger draw."""
    device = image_BCHW.device
    x_BCHW = image_BCHW.float()
    theta_B23 = affine(draw_BK, config)
    if theta_B23 is not None:
        grid_BHW2 = F.affine_grid(theta_B23.to(device), list(x_BCHW.shape), align_corners=False)
        x_BCHW = F.grid_sample(x_BCHW, grid_BHW2, padding_mode="border", align_corners=False)
    draw_BK = draw_BK.to(device)
    x_BCHW = _jitter(x_BCHW, draw_BK, config)
    if config.erase:
        x_BCHW = _erase(x_BCHW, draw_BK, config)
    return x_BCHW


def affine(draw_BK: Tensor, config: AugmentConfig) -> Tensor | None:
    """The map from output to input coordinates in [-1, 1], [B, 2, 3]; None if all of it is off."""
    if (
        not (config.rotate_deg or config.scale or config.translate or config.shear_deg or config.flip)
        and config.crop_area == config.crop_ratio == 1
    ):
        return None
    signed_BK = draw_BK * 2 - 1
    angle_B = signed_BK[:, ROTATE] * math.radians(config.rotate_deg)
    shear_B = torch.tan(signed_BK[:, SHEAR] * math.radians(config.shear_deg))
    zoom_B = 1 / (1 + signed_BK[:, SCALE] * config.scale)
    mirror_B = torch.where(draw_BK[:, FLIP] < config.flip, -1.0, 1.0)
    cos_B, sin_B = torch.cos(angle_B) * zoom_B, torch.sin(angle_B) * zoom_B
    side_B = torch.sqrt(config.crop_area + draw_BK[:, CROP_AREA] * (1 - config.crop_area))
    stretch_B = torch.exp(signed_BK[:, CROP_RATIO] * math.log(config.crop_ratio) / 2)
    width_B, height_B = (side_B * stretch_B).clamp(max=1), (side_B / stretch_B).clamp(max=1)
    # The crop first (output -> window), then the rotation, scale and shear about the centre of the image.
    left_B = signed_BK[:, CROP_X] * (1 - width_B) + 2 * config.translate * signed_BK[:, SHIFT_X]
    top_B = signed_BK[:, CROP_Y] * (1 - height_B) + 2 * config.translate * signed_BK[:, SHIFT_Y]
    a_B, b_B = cos_B, cos_B * shear_B - sin_B
    c_B, d_B = sin_B, sin_B * shear_B + cos_B
    rows = [
        torch.stack([a_B * width_B * mirror_B, b_B * height_B, a_B * left_B + b_B * top_B], 1),
        torch.stack([c_B * width_B * mirror_B, d_B * height_B, c_B * left_B + d_B * top_B], 1),
    ]
    return torch.stack(rows, 1)


def _jitter(x_BCHW: Tensor, draw_BK: Tensor, config: AugmentConfig) -> Tensor:
    if not (config.brightness or config.contrast or config.saturation):
        return x_BCHW

    def factor(column: int, range_: float) -> Tensor:
        return (1 + (draw_BK[:, column] * 2 - 1) * range_)[:, None, None, None]

    if config.saturation:
        x_BCHW = torch.lerp(x_BCHW.mean(1, keepdim=True), x_BCHW, factor(SATURATION, config.saturation))
    gain_B111 = factor(BRIGHTNESS, config.brightness)
    if config.contrast:
        contrast_B111 = factor(CONTRAST, config.contrast)
        offset_B111 = x_BCHW.mean((1, 2, 3), keepdim=True) * (1 - contrast_B111) * gain_B111
        return torch.addcmul(offset_B111, x_BCHW, contrast_B111 * gain_B111).clamp_(0, 255)
    return (x_BCHW * gain_B111).clamp_(0, 255)


def _erase(x_BCHW: Tensor, draw_BK: Tensor, config: AugmentConfig) -> Tensor:
    area_B = 0.02 + 0.31 * draw_BK[:, ERASE_AREA]
    stretch_B = torch.exp((draw_BK[:, ERASE_RATIO] * 2 - 1) * math.log(10 / 3) / 2)
    width_B, height_B = (area_B.sqrt() * stretch_B).clamp(max=1), (area_B.sqrt() / stretch_B).clamp(max=1)
    inside_BH = _between(draw_BK[:, ERASE_Y], height_B, x_BCHW.shape[2])
    inside_BW = _between(draw_BK[:, ERASE_X], width_B, x_BCHW.shape[3])
    hit_B = draw_BK[:, ERASE] < config.erase
    inside_B1HW = (inside_BH[:, :, None] & inside_BW[:, None, :] & hit_B[:, None, None])[:, None]
    return x_BCHW.masked_fill(inside_B1HW, 127.5)


def _between(position_B: Tensor, length_B: Tensor, num_pixels: int) -> Tensor:
    centre_P = (torch.arange(num_pixels, device=position_B.device) + 0.5) / num_pixels
    start_B1 = (position_B * (1 - length_B))[:, None]
    return (centre_P >= start_B1) & (centre_P < start_B1 + length_B[:, None])
