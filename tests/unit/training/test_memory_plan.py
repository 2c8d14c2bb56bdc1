from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import nn

from react_ray.clip.attention import use_self_attention
from react_ray.clip.config import BackboneConfig
from react_ray.errors import BackboneError, ConfigError
from react_ray.gated.block import GatedBlock
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.method import prepare, resolved
from react_ray.training.memory_plan import KEPT, QUICK_GELU, plan
from tests.support.tiny_clip import tiny_backbone, tiny_config

BATCH, TOKENS, WIDTH = 64, 37, 64


def kept_bytes(block: nn.Module, precision: str) -> float:
    """What torch keeps for backward, per token and channel, without weights and their casts."""
    weights = {p.untyped_storage().data_ptr() for p in block.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in weights and x.numel() >= BATCH * TOKENS:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    x = torch.randn(BATCH, TOKENS, WIDTH, requires_grad=True)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False),
    ):
        block(x)
    casts = sum(2 * p.numel() for p in block.parameters() if p.ndim == 2) if precision == "bf16" else 0
    return (sum(storage.nbytes() for storage in kept.values()) - casts) / (BATCH * TOKENS * WIDTH)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(("precision", "kind"), list(KEPT))
def test_activations_are_what_torch_keeps(precision: str, kind: str, quick: bool) -> None:
    activation: Any = open_clip.transformer.QuickGELU if quick else nn.GELU
    block: Any = GatedBlock(WIDTH, 4, act_layer=activation)
    if kind != "gated":
        block = open_clip.transformer.ResidualAttentionBlock(WIDTH, 4, act_layer=activation)
        use_self_attention(block)
        block.requires_grad_(kind == "trained")
    fixed, per_ratio = KEPT[(precision, kind)]
    expected = fixed + 4 * (per_ratio + (QUICK_GELU[precision] if quick else 0))
    assert kept_bytes(block, precision) == pytest.approx(expected, rel=0.05)


def config(**changes: Any) -> CustomizeConfig:
    return CustomizeConfig.model_validate({"batch_size": 4096, "num_workers": 8, "precision": "bf16"} | changes)


def test_bigg_fits_a_worker_of_eighty_gigabytes_in_micro_batches_only() -> None:
    whole, small = (
        plan(BackboneConfig(name="ViT-bigG-14"), config(last_k_layers=12, micro_batch_size=size)) for size in (0, 32)
    )
    assert whole.num_parameters == 2_938_547_737 and whole.num_trainable == 398_980_633
    assert whole.peak_gb > 80 > small.peak_gb
    assert small.memory["AdamW's two moments"] == 8 * small.num_trainable
    assert "peak of a worker, on paper" in small.text()


@pytest.mark.parametrize(
    ("name", "last_k"),
    [
        ("ViT-B-32", 6),
        ("ViT-B-16-quickgelu", 6),
        ("ViT-L-14-336", 6),
        ("ViT-bigG-14", 12),
        ("ViT-L-16", 12),
        ("RN50", 0),
    ],
)
@pytest.mark.parametrize("method", ["gated-image", "lora"])
def test_as_many_layers_train_as_were_published_for_the_backbone(name: str, last_k: int, method: str) -> None:
    if not last_k:
        with pytest.raises(BackboneError, match=r"without transformer\.resblocks"):
            plan(BackboneConfig(name=name), config(method=method))
        return
    default, published, two = (
        plan(BackboneConfig(name=name), config(method=method, last_k_layers=k)) for k in (0, last_k, 2)
    )
    assert default == published and two.num_trainable < default.num_trainable


def test_half_of_the_layers_of_an_unpublished_backbone_train(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, {"layers": 4}, vocab_size=8)
    for method in ("gated-image", "lora"):
        assert resolved(config(method=method), model.config.name, model.model).last_k_layers == 2
    names = prepare(model.model, resolved(config(), model.config.name, model.model), seed=0)
    assert {name.split(".")[3] for name in names if ".gated_attn_block." in name} == {"2", "3"}


def test_the_text_tower_of_another_model_than_the_encoder_counts() -> None:
    large, own = (
        BackboneConfig(name="ViT-L-14", pretrained="openai"),
        BackboneConfig(name="ViT-L-14-quickgelu", pretrained="openai"),
    )
    alone, live, same = (
        plan(large, config(), encoder) for encoder in (None, BackboneConfig(name="ViT-B-32", pretrained="openai"), own)
    )
    assert same == alone and live.memory["weights (float32)"] > alone.memory["weights (float32)"]
    assert (
        "its text tower runs in each step: captions were embedded by ViT-B-32" in live.text()
        and "runs" not in alone.text()
    )


def test_sharding_and_offload_take_from_where_they_say() -> None:
    plain, two, three = (plan(BackboneConfig(name="ViT-L-14"), config(zero_stage=stage)) for stage in (0, 2, 3))
    assert two.memory["gradients"] == plain.memory["gradients"] // 8
    assert two.memory["weights (float32)"] == plain.memory["weights (float32)"] == 8 * three.memory["weights (float32)"]
    offloaded = plan(BackboneConfig(name="ViT-L-14"), config(zero_stage=2, offload=True))
    assert offloaded.on_host == two.memory["AdamW's two moments"] and offloaded.peak_gb < two.peak_gb
    checkpointed = plan(BackboneConfig(name="ViT-L-14"), config(activation_checkpointing=True))
    assert checkpointed.memory["activations kept for backward"] < plain.memory["activations kept for backward"] / 4


def test_a_batch_that_is_left_to_the_data_counts_as_the_largest() -> None:
    left, largest = (plan(BackboneConfig(name="ViT-B-32"), config(batch_size=size)) for size in (0, 4096))
    assert left == largest


@pytest.mark.parametrize("method", ["gated-image", "locked-text", "locked-image", "full", "lora"])
def test_every_method_has_a_plan(tmp_path: Path, method: str) -> None:
    found = plan(BackboneConfig(name=tiny_config(tmp_path)), config(method=method, last_k_layers=2, lora_rank=2))
    assert 0 < found.num_trainable <= found.num_parameters and found.peak_gb > 0


def test_the_activation_is_that_of_the_loaded_model() -> None:
    backbones = [
        BackboneConfig(name="ViT-B-32"),
        BackboneConfig(name="ViT-B-32", quick_gelu=True),
        BackboneConfig(name="ViT-B-32-quickgelu"),
        BackboneConfig(name="ViT-B-32", pretrained="openai"),
    ]
    gelu, *quick = (plan(backbone, config()).memory["activations kept for backward"] for backbone in backbones)
    assert gelu < quick[0] and len(set(quick)) == 1


def test_a_head_needs_no_plan() -> None:
    with pytest.raises(ConfigError, match="plan another method"):
        plan(BackboneConfig(name="ViT-B-32"), config(method="linear"))
