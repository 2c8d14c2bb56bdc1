from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from react_ray.training.augment import (
    BRIGHTNESS,
    ERASE,
    FLIP,
    GREY,
    NUM_DRAWS,
    SHIFT_X,
    AugmentConfig,
    augment,
    augment_rows,
    draw,
)

EVERYTHING = AugmentConfig(
    rotate_deg=15,
    scale=0.3,
    stretch=0.2,
    translate=0.1,
    shear=0.1,
    flip=0.5,
    crop_area=0.5,
    crop_ratio=1.3,
    brightness=0.1,
    contrast=0.2,
    color=0.1,
    saturation=0.3,
    grey=0.1,
    erase=0.5,
)


def images(count: int = 6, side: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).to(torch.uint8)


def drawn(columns: dict[int, float]) -> torch.Tensor:
    """One row: every number in the middle of its range, but for the named columns."""
    row = torch.full((1, NUM_DRAWS), 0.5)
    for column, number in columns.items():
        row[:, column] = number
    return row


def test_off_is_the_image_itself() -> None:
    assert torch.equal(augment(images(), torch.Generator(), AugmentConfig()), images().float())


def test_a_seed_gives_the_same_pixels_and_another_one_others() -> None:
    first, again, other = (augment(images(), torch.Generator().manual_seed(seed), EVERYTHING) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.min() >= 0 and first.max() <= 255 and first.shape == images().shape


def test_rows_of_a_draw_give_the_pixels_of_the_whole_batch() -> None:
    table = draw(6, torch.Generator().manual_seed(1))
    whole = augment_rows(images(), table, EVERYTHING)
    parts = [augment_rows(images()[rows], table[rows], EVERYTHING) for rows in (slice(0, 2), slice(2, 6))]
    assert torch.equal(torch.cat(parts), whole)


def test_a_flip_mirrors() -> None:
    found = augment_rows(images(1), drawn({FLIP: 0.0}), AugmentConfig(flip=1.0))
    torch.testing.assert_close(found, images(1).float().flip(3), atol=1e-2, rtol=0)


def test_a_shift_moves_whole_pixels_and_repeats_the_edge() -> None:
    config = AugmentConfig(translate=2 / 16)
    found = augment_rows(images(1), drawn({SHIFT_X: 1.0}), config)
    expected = F.pad(images(1).float(), (0, 2, 0, 0), mode="replicate")[..., 2:]
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)


def test_a_crop_stays_inside_the_image() -> None:
    ramp = torch.arange(16).mul(16).to(torch.uint8).expand(200, 3, 16, 16)
    found = augment(ramp, torch.Generator().manual_seed(0), AugmentConfig(crop_area=0.25))
    span = found[:, 0, 0, -1] - found[:, 0, 0, 0]
    assert (span > 0.45 * 240).all() and (span < 240.1).all()  # a quarter of the area is half of the side
    assert found[:, 0, 0, 0].min() < 10 and found[:, 0, 0, -1].max() > 230


def test_brightness_adds_and_grey_is_luma() -> None:
    brighter = augment_rows(images(1), drawn({BRIGHTNESS: 1.0}), AugmentConfig(brightness=0.2))
    torch.testing.assert_close(brighter, (images(1).float() + 51).clamp(max=255), atol=1e-3, rtol=0)
    grey = augment_rows(images(1), drawn({GREY: 0.0}), AugmentConfig(grey=1.0))
    luma = (images(1).float() * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(grey, luma.expand(1, 3, 16, 16), atol=1e-3, rtol=0)


def test_erasing_hits_one_rectangle_of_the_chosen_images() -> None:
    table = draw(400, torch.Generator().manual_seed(1))
    black = torch.zeros(400, 3, 20, 20, dtype=torch.uint8)
    erased = augment_rows(black, table, AugmentConfig(erase=0.25)) > 0
    hit = erased.flatten(1).any(1)
    assert torch.equal(hit, table[:, ERASE] < 0.25)
    area = erased[hit][:, 0].float().mean((1, 2))
    assert area.min() > 0.005 and area.max() < 0.4
    rows, columns = erased[hit][:, 0].any(2), erased[hit][:, 0].any(1)
    assert torch.equal(erased[hit][:, 0], rows[:, :, None] & columns[:, None, :])


@pytest.mark.parametrize("name", [n for n in AugmentConfig.model_fields if n not in ("auto", "crop_area")])
def test_every_field_changes_pixels(name: str) -> None:
    value = {"rotate_deg": 20.0, "crop_ratio": 2.0}.get(name, 0.9)
    found = augment(images(), torch.Generator().manual_seed(1), AugmentConfig.model_validate({name: value}))
    assert not torch.equal(found, images().float())
