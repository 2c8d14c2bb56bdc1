from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from react_ray.clip.backbone import Backbone
from react_ray.clip.image_tower import image_blocks, image_features
from react_ray.errors import BackboneError, ConfigError
from react_ray.gated.attach import attach_gated_blocks, gated_layers, gates
from react_ray.gated.block import GatedBlock
from react_ray.gated.method import freeze, frozen_sha256
from tests.support.tiny_clip import images, open_gates, tiny_backbone

PER_BLOCK = {
    "alpha_attn",
    "alpha_dense",
    "ln_1.weight",
    "ln_1.bias",
    "ln_2.weight",
    "ln_2.bias",
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    "attn.out_proj.weight",
    "attn.out_proj.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
}


def tiny(folder: Path, vision: dict[str, object] | None = None, **config: Any) -> Backbone:
    return tiny_backbone(folder, vision, vocab_size=8, **config)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("init", ["random", "copy"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_zero_gates_leave_the_backbone_bit_identical(tmp_path: Path, training: bool, init: str, precision: str) -> None:
    backbone = tiny(tmp_path, precision=precision)
    model = backbone.model.train(training)
    with backbone.autocast():
        before = model.encode_image(images())
        attach_gated_blocks(model, 2, init)  # type: ignore[arg-type]
        after = model.encode_image(images())
    assert torch.equal(before, after) and before.dtype == after.dtype


def test_state_dict_has_the_fourteen_released_names_per_block(tmp_path: Path) -> None:
    model = tiny(tmp_path).model
    before = set(model.state_dict())
    attach_gated_blocks(model, 2)
    expected = {f"visual.transformer.resblocks.{i}.gated_attn_block.{name}" for i in (1, 2) for name in PER_BLOCK}
    assert set(model.state_dict()) - before == expected
    assert gated_layers(model) == [1, 2]
    assert gates(model) == {"01.attn": 0.0, "01.dense": 0.0, "02.attn": 0.0, "02.dense": 0.0}


def test_the_mlp_ratio_is_four_whatever_the_host_has(tmp_path: Path) -> None:
    model = tiny(tmp_path, {"mlp_ratio": 2.0}).model
    attach_gated_blocks(model, 1)
    assert image_blocks(model)[-1].gated_attn_block.mlp.c_fc.weight.shape == (128, 32)
    with pytest.raises(BackboneError, match="use init=random"):
        attach_gated_blocks(tiny(tmp_path, {"mlp_ratio": 2.0}).model, 1, "copy")


def test_parameter_count_is_that_of_the_released_b32_block() -> None:
    assert sum(p.numel() for p in GatedBlock(768, 12).parameters()) == 7_087_874


def test_grad_checkpointing_runs_the_gated_blocks(tmp_path: Path) -> None:
    model = tiny(tmp_path).model.train()
    attach_gated_blocks(model, 2)
    open_gates(model)
    freeze(model, "gated-image")
    plain = torch.autograd.grad(
        model.encode_image(images()).square().sum(), model.visual.transformer.resblocks[1].gated_attn_block.alpha_attn
    )
    model.set_grad_checkpointing(True)
    for features in (model.encode_image, lambda x: image_features(model, x)):
        found = torch.autograd.grad(
            features(images()).square().sum(), model.visual.transformer.resblocks[1].gated_attn_block.alpha_attn
        )
        torch.testing.assert_close(found, plain)


def test_batch_second_gives_the_same_block() -> None:
    torch.manual_seed(0)
    block = GatedBlock(16, 2)
    twin = GatedBlock(16, 2, batch_first=False)
    twin.load_state_dict(block.state_dict())
    open_gates(block)
    open_gates(twin)
    x = torch.randn(3, 5, 16)
    torch.testing.assert_close(block(x), twin(x.transpose(0, 1)).transpose(0, 1))


def test_at_the_start_only_the_gates_have_a_gradient(tmp_path: Path) -> None:
    model = tiny(tmp_path).model.train()
    attach_gated_blocks(model, 2)
    names = freeze(model, "gated-image")
    digest = frozen_sha256(model)
    image_features(model, images()).square().mean(1).sum().backward()
    for name in names:
        gradient = model.get_parameter(name).grad
        if "alpha" in name:
            assert gradient is not None and gradient.abs().sum() > 0, name
        elif name != "logit_scale":
            assert gradient is not None and not gradient.any(), name
    assert frozen_sha256(model) == digest


def test_a_generator_fixes_the_random_start_and_leaves_the_global_one_alone(tmp_path: Path) -> None:
    states = []
    for noise in (0, 1):
        model = tiny(tmp_path).model
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        attach_gated_blocks(model, 1, generator=torch.Generator().manual_seed(4))
        assert torch.equal(before, torch.get_rng_state())
        states.append(image_blocks(model)[-1].state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_each_method_trains_what_it_says(tmp_path: Path) -> None:
    model = tiny(tmp_path, last_k_layers=2).model
    every = {name for name, _ in model.named_parameters()}
    image = {name for name in every if name.startswith("visual.")}
    assert set(freeze(model, "full")) == every
    assert set(freeze(model, "locked-text")) == image | {"logit_scale"}
    assert set(freeze(model, "locked-image")) == every - image
    assert set(freeze(model, "gated-image")) == {n for n in image if "gated_attn_block" in n} | {"logit_scale"}
    with pytest.raises(ConfigError, match="attach what the method trains first"):
        freeze(tiny(tmp_path).model, "gated-image")


def test_what_cannot_be_attached_says_what_can(tmp_path: Path) -> None:
    model = tiny(tmp_path).model
    with pytest.raises(BackboneError, match="choose 1 to 3"):
        attach_gated_blocks(model, 4)
    attach_gated_blocks(model, 1)
    with pytest.raises(BackboneError, match="already"):
        attach_gated_blocks(model, 1)
    resnet = tiny(tmp_path, {"layers": [1, 1, 1, 1], "width": 8, "patch_size": None, "head_width": 16}).model
    with pytest.raises(BackboneError, match=r"ModifiedResNet.*ViT-B-32"):
        attach_gated_blocks(resnet, 1)
