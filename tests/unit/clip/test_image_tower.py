from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from react_ray.clip.backbone import Backbone
from react_ray.clip.image_tower import draw_patches, image_blocks, image_features
from react_ray.errors import BackboneError
from react_ray.gated.attach import attach_gated_blocks
from react_ray.gated.method import freeze
from tests.support.tiny_clip import images, open_gates, tiny_backbone


def tiny(folder: Path, vision: dict[str, object] | None = None, **config: Any) -> Backbone:
    return tiny_backbone(folder, vision, vocab_size=8, **config)


@pytest.mark.parametrize(
    "vision", [{}, {"ls_init_value": 0.1}, {"no_ln_pre": True}, {"final_ln_after_pool": True}, {"pool_type": "avg"}]
)
@pytest.mark.parametrize("last_k", [0, 1, 3])
def test_image_features_equal_encode_image_and_its_gradients(
    tmp_path: Path, vision: dict[str, object], last_k: int
) -> None:
    model = tiny(tmp_path, vision).model.train()
    if last_k:
        attach_gated_blocks(model, last_k, generator=torch.Generator().manual_seed(1))
        open_gates(model)
    freeze(model, "gated-image" if last_k else "locked-text")
    trained = [p for p in model.parameters() if p.requires_grad]
    expected, found = model.encode_image(images()), image_features(model, images())
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max().clamp(min=1)
    weight = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad((expected * weight).sum(), trained, allow_unused=True),
        torch.autograd.grad((found * weight).sum(), trained, allow_unused=True),
        strict=True,
    ):
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        else:
            assert a is b


def test_patch_dropout_still_drops_in_training(tmp_path: Path) -> None:
    model = tiny(tmp_path, {"patch_dropout": 0.5}).model.train()
    attach_gated_blocks(model, 1)
    freeze(model, "gated-image")
    torch.manual_seed(3)
    expected = model.encode_image(images())
    torch.manual_seed(3)
    found = image_features(model, images())
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert (image_features(model, images()) - found).abs().max() > 1e-3
    model.eval()
    assert torch.equal(image_features(model, images()), image_features(model, images()))


def test_drawn_patches_are_dropped_as_open_clip_would(tmp_path: Path) -> None:
    model = tiny(tmp_path).model.eval()
    attach_gated_blocks(model, 1)
    keep_BP = draw_patches(3, model, 0.5, torch.Generator().manual_seed(0))
    assert keep_BP is not None and keep_BP.shape == (3, 8)
    assert all(len(set(row)) == 8 and min(row) >= 0 and max(row) < 16 for row in keep_BP.tolist())
    assert draw_patches(3, model, 0.0, torch.Generator()) is None
    every_BP = torch.arange(16).expand(3, 16)
    torch.testing.assert_close(
        image_features(model, images(), every_BP), model.encode_image(images()), atol=1e-6, rtol=1e-5
    )
    visible = torch.zeros(3, 16, dtype=torch.bool).scatter_(1, keep_BP, True)
    pixels = visible.view(3, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    expected = image_features(model, images(), keep_BP)
    assert torch.equal(image_features(model, images().where(pixels, 9.0), keep_BP), expected)


def test_a_tower_without_transformer_blocks_runs_as_it_is(tmp_path: Path) -> None:
    resnet = tiny(tmp_path, {"layers": [1, 1, 1, 1], "width": 8, "patch_size": None, "head_width": 16}).model.eval()
    with pytest.raises(BackboneError, match=r"ModifiedResNet.*ViT-B-32"):
        image_blocks(resnet)
    with pytest.raises(BackboneError, match=r"no patches to drop; set customize\.patch_dropout=0"):
        draw_patches(3, resnet, 0.5, torch.Generator())
    assert torch.equal(image_features(resnet, images()), resnet.encode_image(images()))
    torch.testing.assert_close(image_features(resnet, images(), micro_batch=2), resnet.encode_image(images()))


def test_micro_batches_give_the_same_gradients(tmp_path: Path) -> None:
    model = tiny(tmp_path).model.train()
    attach_gated_blocks(model, 2, generator=torch.Generator().manual_seed(1))
    open_gates(model)
    freeze(model, "gated-image")
    trained = [p for name, p in model.named_parameters() if p.requires_grad and name != "logit_scale"]
    whole, sliced = (image_features(model, images(), micro_batch=size) for size in (0, 2))
    torch.testing.assert_close(sliced, whole)
    for a, b in zip(*(torch.autograd.grad(x.square().sum(), trained) for x in (whole, sliced)), strict=True):
        torch.testing.assert_close(b, a)
