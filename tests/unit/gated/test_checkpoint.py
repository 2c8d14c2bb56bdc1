from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from react_ray.clip.weights import official_state_dict, read_weights
from react_ray.errors import BackboneError
from react_ray.gated.attach import gated_layers
from react_ray.gated.checkpoint import (
    gated_bytes,
    gated_state,
    load_gated,
    load_official,
    save_gated,
)
from react_ray.gated.method import Method, freeze
from tests.support.tiny_clip import tiny_backbone


def plain(folder: Path, **config: Any) -> nn.Module:
    return tiny_backbone(folder, vocab_size=8, **config).model


def trained(folder: Path, method: Method = "gated-image") -> nn.Module:
    """As after a training: everything that `method` trains has moved."""
    model = plain(folder, last_k_layers=2 if method == "gated-image" else 0)
    torch.manual_seed(9)
    for name in freeze(model, method):
        model.get_parameter(name).data.add_(0.1 * torch.randn_like(model.get_parameter(name)))
    return model


def equal(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("method", ["gated-image", "locked-text", "locked-image", "full"])
def test_what_trained_comes_back_bit_for_bit(tmp_path: Path, method: Method) -> None:
    model = trained(tmp_path, method)
    save_gated(model, str(tmp_path / "gated.safetensors"), {"backbone": "tiny", "steps": 3})
    restored = plain(tmp_path)
    info = load_gated(restored, str(tmp_path / "gated.safetensors"))
    assert equal(model, restored) and info["steps"] == 3
    assert equal(model, plain(tmp_path, gated=str(tmp_path / "gated.safetensors")))


def test_a_file_holds_only_what_trained_and_scalars_are_scalars(tmp_path: Path) -> None:
    model = trained(tmp_path)
    save_gated(model, str(tmp_path / "gated.safetensors"), {})
    found = load_file(tmp_path / "gated.safetensors")
    assert len(found) == 2 * 14 + 1 and found.keys() == gated_state(model).keys()
    assert {name for name, value in found.items() if value.ndim == 0} == {
        "logit_scale",
        *(
            f"visual.transformer.resblocks.{i}.gated_attn_block.alpha_{kind}"
            for i in (1, 2)
            for kind in ("attn", "dense")
        ),
    }


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    info = {"b": 1, "a": [2], "c": {"z": 1, "y": 2}}
    assert gated_bytes(trained(tmp_path), info) == gated_bytes(trained(tmp_path), dict(reversed(info.items())))


def test_another_backbone_is_refused_unless_asked_for(tmp_path: Path) -> None:
    path = str(tmp_path / "gated.safetensors")
    save_gated(trained(tmp_path), path, {"backbone": "tiny"})
    with pytest.raises(BackboneError, match="trained on another backbone; load the one named in it: tiny"):
        load_gated(plain(tmp_path, seed=1), path)
    other = plain(tmp_path, seed=1)
    load_gated(other, path, check_backbone=False)
    assert gated_layers(other) == [1, 2]


def test_a_file_that_lacks_a_tensor_is_refused_by_name(tmp_path: Path) -> None:
    state = gated_state(trained(tmp_path))
    key = "visual.transformer.resblocks.1.gated_attn_block.mlp.c_fc.weight"
    save_file({name: value for name, value in state.items() if name != key}, tmp_path / "less.safetensors")
    with pytest.raises(BackboneError, match=f"{key} is missing"):
        load_gated(plain(tmp_path), str(tmp_path / "less.safetensors"))
    save_file(
        {name: value.repeat(2) if value.ndim == 1 else value for name, value in state.items()},
        tmp_path / "long.safetensors",
    )
    with pytest.raises(BackboneError, match=r"is \[\d+\], the model has \[\d+\]"):
        load_gated(plain(tmp_path), str(tmp_path / "long.safetensors"))
    save_file(state | {"visual.extra": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(BackboneError, match=r"visual.extra is not in the model"):
        load_gated(plain(tmp_path), str(tmp_path / "more.safetensors"))


def test_blocks_that_are_not_the_last_are_refused(tmp_path: Path) -> None:
    state = {k: v for k, v in gated_state(trained(tmp_path)).items() if ".resblocks.2." not in k}
    with pytest.raises(BackboneError, match=r"gated blocks \[1\] of 3, not the last ones"):
        load_official(plain(tmp_path), state)
    with pytest.raises(BackboneError, match="set last_k_layers=2"):
        load_official(plain(tmp_path, last_k_layers=1), gated_state(trained(tmp_path)))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_released_layout_comes_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    model = trained(tmp_path)
    state = official_state_dict(model)
    assert len(state) == len(plain(tmp_path).state_dict()) + 14 * 2
    assert state["logit_scale"].ndim == 0
    path = str(tmp_path / f"full{suffix}")
    torch.save(state, path) if suffix == ".pt" else save_file(state, path)
    restored = plain(tmp_path, seed=1)
    load_official(restored, read_weights(path))
    assert equal(model, restored)
    assert equal(model, plain(tmp_path, pretrained=path))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_forward_module.model."])
def test_the_prefixes_of_a_training_framework_are_stripped_from_gated_files_too(tmp_path: Path, prefix: str) -> None:
    model = trained(tmp_path)
    for state, place in ((gated_state(model), "gated"), (official_state_dict(model), "pretrained")):
        path = str(tmp_path / f"{place}.safetensors")
        save_file({f"{prefix}{name}": value for name, value in state.items()}, path)
        assert equal(model, plain(tmp_path, **{place: path}))
