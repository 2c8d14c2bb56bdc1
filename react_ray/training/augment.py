"""Augments a whole batch at once, on tensors: one table of random numbers, one resampling, a little arithmetic.

Random numbers are drawn for the global batch, and each rank takes its rows of them, so that a batch that is split over
ranks gives the same pixels as the whole one.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from react_ray.gated.augment_config import AugmentConfig
from react_ray.gated.config import CustomizeConfig

# Columns of a draw, each uniform in [0, 1).
ROTATE, SCALE, STRETCH, SHIFT_X, SHIFT_Y, SHEAR, FLIP, CROP_AREA, CROP_RATIO, CROP_X, CROP_Y = range(11)
BRIGHTNESS, CONTRAST, GAIN, OFFSET, SATURATION, GREY = 11, 12, slice(13, 16), slice(16, 19), 19, 20
ERASE, ERASE_AREA, ERASE_RATIO, ERASE_X, ERASE_Y = range(21, 26)
NUM_DRAWS = 26

MIDDLE = 127.5
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def num_views(config: CustomizeConfig) -> int:
    """The augmented views of each image on which a second stage trains; none if the recipe augments nothing."""
    return config.head_views if config.augment != AugmentConfig() else 0


def draw(num_images: int, generator: torch.Generator) -> Tensor:
    """The random numbers of a batch, float32 [num_images, NUM_DRAWS] on the CPU."""
    return torch.rand(num_images, NUM_DRAWS, generator=generator)


def augment(image_BCHW: Tensor, generator: torch.Generator, config: AugmentConfig) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 in [0, 255]; the edge of the image fills what comes from outside the frame."""
    return augment_rows(image_BCHW, draw(len(image_BCHW), generator), config)


def augment_rows(image_BCHW: Tensor, draw_BK: Tensor, config: AugmentConfig) -> Tensor:
    """`augment` with given random numbers, which may be rows of a larger draw."""
    device = image_BCHW.device
    x_BCHW = image_BCHW.float()
    theta_B23 = affine(draw_BK, config)
    if theta_B23 is not None:
        grid_BHW2 = F.affine_grid(theta_B23.to(device), list(x_BCHW.shape), align_corners=False)
        x_BCHW = F.grid_sample(x_BCHW, grid_BHW2, padding_mode="border", align_corners=False)
    draw_BK = draw_BK.to(device)
    if config.brightness or config.contrast or config.color or config.saturation or config.grey:
        x_BCHW = _recolor(x_BCHW, draw_BK, config)
    if config.erase:
        x_BCHW = _erase(x_BCHW, draw_BK, config)
    return x_BCHW


def affine(draw_BK: Tensor, config: AugmentConfig) -> Tensor | None:
    """The map from output to input coordinates in [-1, 1], [B, 2, 3]; None if every geometric change is off."""
    geometry = (config.rotate_deg, config.scale, config.stretch, config.translate, config.shear, config.flip)
    if not any(geometry) and config.crop_area == config.crop_ratio == 1:
        return None
    signed_BK = draw_BK * 2 - 1
    angle_B = signed_BK[:, ROTATE] * math.radians(config.rotate_deg)
    shear_B = signed_BK[:, SHEAR] * config.shear
    zoom_B = torch.exp2(-signed_BK[:, SCALE] * config.scale)
    stretch_B = torch.exp2(signed_BK[:, STRETCH] * config.stretch / 2)
    mirror_B = torch.where(draw_BK[:, FLIP] < config.flip, -1.0, 1.0)
    a_B = torch.cos(angle_B) * zoom_B * stretch_B
    b_B = (shear_B - torch.sin(angle_B)) * zoom_B * stretch_B
    c_B = torch.sin(angle_B) * zoom_B / stretch_B
    d_B = torch.cos(angle_B) * zoom_B / stretch_B
    # A crop is the same map applied to a window of the output.
    side_B = torch.sqrt(config.crop_area + draw_BK[:, CROP_AREA] * (1 - config.crop_area))
    ratio_B = torch.exp(signed_BK[:, CROP_RATIO] * math.log(config.crop_ratio) / 2)
    width_B, height_B = (side_B * ratio_B).clamp(max=1), (side_B / ratio_B).clamp(max=1)
    left_B, top_B = signed_BK[:, CROP_X] * (1 - width_B), signed_BK[:, CROP_Y] * (1 - height_B)
    shift_B2 = signed_BK[:, [SHIFT_X, SHIFT_Y]] * 2 * config.translate
    rows = [
        torch.stack([a_B * width_B * mirror_B, b_B * height_B, a_B * left_B + b_B * top_B + shift_B2[:, 0]], 1),
        torch.stack([c_B * width_B * mirror_B, d_B * height_B, c_B * left_B + d_B * top_B + shift_B2[:, 1]], 1),
    ]
    return torch.stack(rows, 1)


def _recolor(x_BCHW: Tensor, draw_BK: Tensor, config: AugmentConfig) -> Tensor:
    """One 3 x 3 matrix and one offset per image, around the middle grey."""
    signed_BK = draw_BK * 2 - 1
    colored_B = (1 + signed_BK[:, SATURATION] * config.saturation) * (draw_BK[:, GREY] >= config.grey)
    colored_B11 = colored_B[:, None, None]
    grey_33 = torch.tensor(LUMA, device=x_BCHW.device).expand(3, 3)
    gain_B3 = (1 + signed_BK[:, [CONTRAST]] * config.contrast) * (1 + signed_BK[:, GAIN] * config.color)
    matrix_B33 = gain_B3[:, :, None] * (torch.eye(3, device=x_BCHW.device) * colored_B11 + grey_33 * (1 - colored_B11))
    offset_B3 = (signed_BK[:, [BRIGHTNESS]] * config.brightness + signed_BK[:, OFFSET] * config.color / 2) * 255
    # matrix @ (x - middle) + middle + offset, with the constants gathered
    offset_B31 = (offset_B3 + MIDDLE - MIDDLE * matrix_B33.sum(2))[:, :, None]
    return torch.baddbmm(offset_B31, matrix_B33, x_BCHW.flatten(2)).view_as(x_BCHW).clamp_(0, 255)


def _erase(x_BCHW: Tensor, draw_BK: Tensor, config: AugmentConfig) -> Tensor:
    area_B = 0.02 + 0.31 * draw_BK[:, ERASE_AREA]
    stretch_B = torch.exp((draw_BK[:, ERASE_RATIO] * 2 - 1) * math.log(10 / 3) / 2)
    width_B, height_B = (area_B.sqrt() * stretch_B).clamp(max=1), (area_B.sqrt() / stretch_B).clamp(max=1)
    inside_BH = _between(draw_BK[:, ERASE_Y], height_B, x_BCHW.shape[2])
    inside_BW = _between(draw_BK[:, ERASE_X], width_B, x_BCHW.shape[3])
    hit_B = draw_BK[:, ERASE] < config.erase
    inside_B1HW = (inside_BH[:, :, None] & inside_BW[:, None, :] & hit_B[:, None, None])[:, None]
    return x_BCHW.masked_fill(inside_B1HW, MIDDLE)


def _between(position_B: Tensor, length_B: Tensor, num_pixels: int) -> Tensor:
    centre_P = (torch.arange(num_pixels, device=position_B.device) + 0.5) / num_pixels
    start_B1 = (position_B * (1 - length_B))[:, None]
    return (centre_P >= start_B1) & (centre_P < start_B1 + length_B[:, None])
