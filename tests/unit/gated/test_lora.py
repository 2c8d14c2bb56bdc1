from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from react_ray.clip.config import BackboneConfig
from react_ray.clip.image_tower import image_features
from react_ray.clip.weights import read_weights, write_whole
from react_ray.errors import BackboneError
from react_ray.gated.checkpoint import gated_bytes, load_gated
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.export import export_model
from react_ray.gated.load import load_backbone, load_customised
from react_ray.gated.method import frozen_sha256, prepare
from tests.support.tiny_clip import save_backbone, tiny_config


def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def updated(folder: Path) -> tuple[Any, BackboneConfig, str]:
    """A model with updates that are not zero, its backbone, and its file."""
    name = tiny_config(folder, text={"vocab_size": 8})
    save_backbone(
        load_backbone(BackboneConfig(name=name, pretrained="random"), seed=4).model, str(folder / "base.safetensors")
    )
    config = BackboneConfig(name=name, pretrained=str(folder / "base.safetensors"))
    model: Any = load_backbone(config).model
    prepare(model, CustomizeConfig(method="lora", last_k_layers=2, lora_rank=3, lora_alpha=6.0), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    path = str(folder / "gated.safetensors")
    write_whole(path, gated_bytes(model, {"backbone_config": config.model_dump()}))
    return model, config, path


def test_a_file_holds_the_updates_alone_and_gives_the_model_back(tmp_path: Path) -> None:
    model, config, path = updated(tmp_path)
    state = read_weights(path)
    assert len(state) == 2 * 4 * 2 + 1 and all(value.numel() <= 3 * 128 for value in state.values())
    plain: Any = load_backbone(config).model
    names = set(plain.state_dict())
    load_gated(plain, path)
    assert set(plain.state_dict()) == names
    torch.testing.assert_close(plain.encode_image(images()), model.encode_image(images()), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(image_features(model, images()), model.encode_image(images()), atol=1e-5, rtol=1e-5)
    assert (load_backbone(config).model.encode_image(images()) - plain.encode_image(images())).abs().max() > 1e-2  # type: ignore[operator]


def test_half_precision_files_and_exports_hold_the_updated_matrices(tmp_path: Path) -> None:
    model, _, path = updated(tmp_path)
    export_model(path, str(tmp_path / "whole.safetensors"), dtype="fp32")
    whole: Any = load_backbone(
        BackboneConfig(name=str(tmp_path / "tiny.json"), pretrained=str(tmp_path / "whole.safetensors"))
    ).model
    torch.testing.assert_close(whole.encode_image(images()), load_customised(path).model.encode_image(images()))  # type: ignore[operator]
    write_whole(path, gated_bytes(model, {}, dtype=torch.float16))
    assert all(value.dtype == torch.float16 for value in read_weights(path).values())


def test_the_frozen_part_is_the_backbone_as_it_came(tmp_path: Path) -> None:
    model, config, path = updated(tmp_path)
    plain = load_backbone(config).model
    plain.logit_scale.requires_grad_(True)  # type: ignore[union-attr]
    for name, parameter in plain.named_parameters():
        parameter.requires_grad_(name == "logit_scale")
    assert frozen_sha256(model) == frozen_sha256(plain)
    other = load_backbone(config.model_copy(update={"pretrained": "random"}), seed=9).model
    with pytest.raises(BackboneError, match="was trained on another backbone"):
        load_gated(other, path)


def test_half_an_update_is_refused_by_its_matrix(tmp_path: Path) -> None:
    _, config, path = updated(tmp_path)
    state = read_weights(path)
    save_file(
        {k: v for k, v in state.items() if not k.endswith("resblocks.2.mlp.c_fc.weight.lora_A")},
        tmp_path / "half.safetensors",
    )
    with pytest.raises(BackboneError, match=r"no matrix visual.transformer.resblocks.2.mlp.c_fc.weight or half"):
        load_gated(load_backbone(config).model, str(tmp_path / "half.safetensors"))
