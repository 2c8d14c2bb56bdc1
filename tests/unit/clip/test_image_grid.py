"""Image vectors with the patch tokens of cells: against a plain computation on what the tower's own forward gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.image_tower import grid_dim, grid_features
from react_ray.errors import BackboneError
from react_ray.gated.load import load_backbone
from tests.support import tiny_clip
from tests.support.tiny_clip import open_gates

TINY_CLIP = BackboneConfig(name=str(Path(tiny_clip.__file__).with_suffix(".json")), pretrained="random")
WIDTH, PATCHES = 32, 4  # of tiny_clip.json


def plain(model: torch.nn.Module, image_BCHW: torch.Tensor, grid: int) -> np.ndarray:
    """By the hooks of the tower's own forward pass, with loops."""
    tokens: list[torch.Tensor] = []
    hook = model.visual.transformer.resblocks[-2].register_forward_hook(lambda _, __, out: tokens.append(out))
    with torch.no_grad():
        feature_BD = model.encode_image(image_BCHW).numpy()
    hook.remove()
    rows, side = [], PATCHES // grid
    for feature, token_ND in zip(feature_BD, tokens[0][:, 1:].numpy(), strict=True):
        token_ND = (token_ND - token_ND.mean(1, keepdims=True)) / np.sqrt(token_ND.var(1, keepdims=True) + 1e-5)
        map_HWD = token_ND.reshape(PATCHES, PATCHES, WIDTH)
        cells = [
            map_HWD[side * y : side * (y + 1), side * x : side * (x + 1)].mean((0, 1))
            for y in range(grid)
            for x in range(grid)
        ]
        of_cells = np.concatenate(cells)
        row = np.concatenate([feature / np.linalg.norm(feature), of_cells / np.linalg.norm(of_cells)])
        rows.append(row / np.sqrt(2))
    return np.stack(rows)


@pytest.mark.parametrize("gated", [0, 2])
@pytest.mark.parametrize("grid", [1, 2, 4])
def test_the_cells_hold_the_tokens_before_the_last_block(gated: int, grid: int) -> None:
    backbone = load_backbone(TINY_CLIP.model_copy(update={"last_k_layers": gated}), seed=3)
    if gated:
        open_gates(backbone.model)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    image_BCHW = backbone.normalize(torch.from_numpy(pixels))
    found = grid_features(backbone.model, image_BCHW, grid)
    assert found.shape == (5, backbone.dim + grid_dim(backbone.model, grid))
    np.testing.assert_allclose(found.numpy(), plain(backbone.model, image_BCHW, grid), atol=2e-5)
    np.testing.assert_allclose(found.norm(dim=1), np.ones(5), atol=1e-6)
    embedder = Embedder(backbone, 2, "cpu", grid=grid)
    np.testing.assert_allclose(embedder.image_vectors(pixels), found, atol=1e-5)


def test_without_a_grid_they_are_the_image_vectors() -> None:
    backbone = load_backbone(TINY_CLIP)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    found = grid_features(backbone.model, backbone.normalize(torch.from_numpy(pixels)), 0)
    np.testing.assert_allclose(found, Embedder(backbone, 8, "cpu").image_vectors(pixels), atol=1e-6)


def test_a_grid_finer_than_the_patches_or_a_tower_without_them_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"5 x 5 cells are more than the 4 x 4 patches; lower customize\.head_grid"):
        Embedder(load_backbone(TINY_CLIP), 8, "cpu", grid=5)
    model = load_backbone(TINY_CLIP).model
    model.visual = torch.nn.Identity()
    with pytest.raises(BackboneError, match=r"has no grid of patch tokens; set customize\.head_grid=0"):
        grid_dim(model, 2)
