"""Vectors of patches in the way of MaskCLIP: each token alone in the last block, behind the gated blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from react_ray.clip.dense_features import check_dense, dense_features
from react_ray.errors import BackboneError, ConfigError
from tests.support.tiny_clip import images, open_gates, tiny_backbone


@pytest.mark.parametrize("last_k_layers", [0, 2])
def test_the_last_block_is_run_as_if_each_token_attended_to_itself_alone(tmp_path: Path, last_k_layers: int) -> None:
    model: Any = tiny_backbone(tmp_path, vocab_size=100, last_k_layers=last_k_layers).model
    open_gates(model)
    with torch.no_grad():
        x_BND = model.visual._embeds(images())
        alone = torch.full((17, 17), -torch.inf).fill_diagonal_(0)
        for block in model.visual.transformer.resblocks[:-1]:
            x_BND = block(x_BND)
        x_BND = model.visual.transformer.resblocks[-1](x_BND, attn_mask=alone)
        wanted_BPD = F.normalize(model.visual.ln_post(x_BND[:, 1:]) @ model.visual.proj, dim=-1)
    found_BDhw = dense_features(model, images())
    assert found_BDhw.shape == (3, 16, 4, 4) and found_BDhw.dtype == torch.float32
    torch.testing.assert_close(found_BDhw.flatten(2).transpose(1, 2), wanted_BPD, atol=1e-5, rtol=1e-5)


def test_gated_blocks_change_the_map(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=100, last_k_layers=1).model
    before = dense_features(model, images())
    open_gates(model)
    assert not torch.allclose(dense_features(model, images()), before, atol=1e-3)


def test_a_larger_image_has_more_patches(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=100).model
    larger = F.interpolate(images(), size=(64, 48), mode="bilinear")
    assert dense_features(model, larger).shape == (3, 16, 8, 6)


def test_what_has_no_patches_is_refused(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=100).model
    check_dense(model, 64)
    with pytest.raises(ConfigError, match=r"dense_size=60 is no multiple of the patch size 8; set 56"):
        check_dense(model, 60)
    tower = tiny_backbone(tmp_path, {"layers": [1, 1, 1, 1], "width": 16, "head_width": 8}, vocab_size=100)
    with pytest.raises(BackboneError, match=r"a ModifiedResNet has no patch tokens; leave evaluate.segmentation"):
        check_dense(tower.model, 64)
