"""A training step against the method written out in plain PyTorch, for every method and option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from react_ray.clip.backbone import Backbone
from react_ray.clip.text import drop_text_tower
from react_ray.clip.weights import write_whole
from react_ray.errors import ConfigError
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.config import CustomizeConfig, needs_text_tower
from react_ray.gated.method import frozen_sha256, prepare
from react_ray.gated.models import create_model_and_transforms
from react_ray.training.batches import Batch
from react_ray.training.deepspeed_config import deepspeed_config
from react_ray.training.optim import MAX_LOGIT_SCALE, make_optimizer, set_learning_rate
from react_ray.training.schedule import learning_rate
from react_ray.training.step import TrainingStep, class_weights, diverged
from tests.support import plain_react
from tests.support.tiny_clip import tiny_backbone

SIZE, HEADS, STEPS = 8, 2, 3
METHODS = ["gated-image", "locked-text", "locked-image", "full", "lora"]


def config(**changes: Any) -> CustomizeConfig:
    given = {"batch_size": SIZE, "last_k_layers": 2, "warmup_steps": 0, "lr": 0.05, "gate_lr_scale": 1}
    given["weight_decay"] = 0.2
    return CustomizeConfig.model_validate(given | changes)


def batch(step: int, backbone: Backbone | None = None) -> Batch:
    """Images of noise; captions of words, and vectors that are theirs (of `backbone`) or noise."""
    generator = np.random.default_rng(step)
    captions = [f"a {generator.choice(['heron', 'egret', 'ibis', 'stork'])} {row % 5}" for row in range(SIZE)]
    text_BD = generator.standard_normal((SIZE, 16)).astype(np.float16)
    if backbone is not None:
        with torch.no_grad():
            text_BD = backbone.model.encode_text(backbone.tokenizer(captions)).numpy()  # type: ignore[operator]
    return Batch(
        step=step,
        epoch=0,
        image_BCHW=generator.integers(0, 256, (SIZE, 3, 32, 32), dtype=np.uint8),
        captions=captions,
        caption_id_B=np.arange(SIZE),
        class_id_B=generator.integers(-1, 3, SIZE),
        pair_id_B=np.arange(SIZE) + 100,
        text_BD=text_BD,
    )


def train(backbone: Backbone, settings: CustomizeConfig, steps: int = STEPS, live: bool = False) -> list[float]:
    prepare(backbone.model, settings, seed=3)
    step = TrainingStep(backbone, settings, seed=0)
    optimizer = make_optimizer(backbone.model, settings)
    losses = []
    for number in range(steps):
        set_learning_rate(optimizer, learning_rate(number, steps, settings))
        loss = step(batch(number))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        backbone.model.get_parameter("logit_scale").data.clamp_(0, MAX_LOGIT_SCALE)
        losses.append(float(loss.detach()))
    return losses


def test_steps_equal_the_method_written_out_in_plain_pytorch(tmp_path: Path) -> None:
    settings = config(eps=1e-3)  # so that AdamW does not divide rounding by rounding where a gradient is none
    backbone = tiny_backbone(tmp_path, vocab_size=8)
    prepare(backbone.model, settings, seed=3)
    trained = [name for name, p in backbone.model.named_parameters() if p.requires_grad]
    state = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    losses = train(tiny_backbone(tmp_path, vocab_size=8), settings)
    ours = tiny_backbone(tmp_path, vocab_size=8)
    train(ours, settings)
    moments: dict[str, list[torch.Tensor]] = {}
    for number in range(STEPS):
        leaves = {name: value.clone().requires_grad_(name in trained) for name, value in state.items()}
        given = batch(number)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.mean, backbone.std))
        image = (torch.from_numpy(given.image_BCHW) / 255 - mean) / std
        assert given.text_BD is not None
        loss = plain_react.info_nce(
            plain_react.encode_image(image, leaves, HEADS),
            torch.from_numpy(given.text_BD).float(),
            leaves["logit_scale"],
        )
        assert abs(loss.item() - losses[number]) <= 1e-5 * loss.item()
        grads = dict(zip(trained, torch.autograd.grad(loss, [leaves[name] for name in trained]), strict=True))
        if number == 0:
            moving = {name for name, grad in grads.items() if grad.any()}
            assert moving == {name for name in trained if "alpha" in name} | {"logit_scale"}
        lr = settings.lr * learning_rate(number, STEPS, settings)
        plain_react.adamw(
            state, grads, moments, number + 1, lr, settings.weight_decay, settings.beta1, settings.beta2, settings.eps
        )
    after = ours.model.state_dict()
    assert max(after[name].tanh().abs().item() for name in trained if "alpha" in name) > 0.01
    for name, value in state.items():
        assert (after[name] - value).abs().max() <= 1e-5 * value.abs().max().clamp(min=1), name


@pytest.mark.parametrize("method", METHODS)
def test_what_a_step_trained_computes_the_same_once_it_is_loaded_by_name(tmp_path: Path, method: str) -> None:
    backbone, settings = tiny_backbone(tmp_path), config(method=method)
    train(backbone, settings, steps=1)
    path = str(tmp_path / "trained.safetensors")
    info = {"backbone_config": backbone.config.model_dump(), "seed": 0}
    write_whole(path, gated_bytes(backbone.model, info, dtype=torch.float32))
    loaded, *_ = create_model_and_transforms(backbone.config.name, path)
    image, text = torch.randn(2, 3, 32, 32), backbone.tokenizer(["a heron", "an ibis"])
    with torch.no_grad():
        for found, expected in zip(loaded(image, text), backbone.model(image, text), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5 if method == "lora" else 0, rtol=0)
    start = tiny_backbone(tmp_path).model.get_parameter("logit_scale")
    assert not torch.equal(loaded.get_parameter("logit_scale"), start), "the temperature trains"


@pytest.mark.parametrize("method", METHODS)
def test_only_what_a_method_trains_changes_and_the_start_is_the_backbone(tmp_path: Path, method: str) -> None:
    backbone = tiny_backbone(tmp_path)
    image = torch.randn(2, 3, 32, 32)
    model: Any = backbone.model
    before = model.encode_image(image)
    names = prepare(model, config(method=method), seed=3)
    assert torch.equal(model.encode_image(image), before)
    digest = frozen_sha256(model)
    values = {name: model.get_parameter(name).detach().clone() for name in names}
    train_again = tiny_backbone(tmp_path)
    train(train_again, config(method=method))
    assert frozen_sha256(train_again.model) == digest
    changed = {name for name, value in values.items() if not torch.equal(train_again.model.get_parameter(name), value)}
    assert changed == set(names)
    assert all(p.grad is None for p in train_again.model.parameters() if not p.requires_grad)


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_batch_size": 3},
        {"activation_checkpointing": True},
        {"micro_batch_size": 2, "activation_checkpointing": True},
    ],
)
@pytest.mark.parametrize("method", ["gated-image", "locked-text", "lora"])
def test_less_memory_gives_the_same_steps(tmp_path: Path, method: str, changes: dict[str, Any]) -> None:
    plain, small = (tiny_backbone(tmp_path, vocab_size=8) for _ in range(2))
    # eps: so that AdamW does not divide rounding by rounding where a gradient is none
    settings: dict[str, Any] = {"method": method, "patch_dropout": 0.25, "lr": 1e-3, "eps": 1e-3}
    expected, found = train(plain, config(**settings)), train(small, config(**settings, **changes))
    assert found == pytest.approx(expected, rel=1e-5)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(small.model.state_dict()[name], value, atol=2e-5, rtol=1e-4)


def test_stored_captions_give_the_loss_of_the_live_text_tower(tmp_path: Path) -> None:
    losses = {}
    for live in (False, True):
        backbone, settings = tiny_backbone(tmp_path), config(live_text=live)
        assert needs_text_tower(settings) == live
        prepare(backbone.model, settings, seed=3)
        given = batch(0, backbone)
        if not live:
            drop_text_tower(backbone.model)
        losses[live] = float(TrainingStep(backbone, settings, seed=0)(given))
    assert losses[False] == pytest.approx(losses[True], rel=1e-5)


def test_without_its_text_tower_a_model_trains_as_with_it(tmp_path: Path) -> None:
    whole, half = tiny_backbone(tmp_path), tiny_backbone(tmp_path)
    parameters = sum(p.numel() for p in half.model.parameters())
    drop_text_tower(half.model)
    assert sum(p.numel() for p in half.model.parameters()) < parameters / 10
    assert train(whole, config()) == train(half, config())


def test_classes_can_weigh_the_same(tmp_path: Path) -> None:
    ids = np.array([0] * 6 + [1] * 3 + [2] + [-1] * 4)
    weight_C = class_weights(ids, 4, 1.0)
    assert weight_C.dtype == np.float32 and weight_C[ids[ids >= 0]].mean() == pytest.approx(1)
    np.testing.assert_allclose(weight_C[:3] * [6, 3, 1], weight_C[0] * 6)
    np.testing.assert_array_equal(class_weights(ids, 4, 0.0), np.ones(4, np.float32))
    backbone = tiny_backbone(tmp_path, vocab_size=8)
    prepare(backbone.model, config(), seed=3)
    plain, weighted = (TrainingStep(backbone, config(), 0, class_weight_C=w)(batch(0)) for w in (None, weight_C[:3]))
    assert plain != weighted


def test_a_loss_that_is_no_number_names_its_pairs() -> None:
    few, many = (
        str(diverged("loss", float("nan"), 4, np.arange(100, end), "x/all.json", "y is kept")) for end in (103, 112)
    )
    assert few.startswith(
        "the loss of step 4 is nan, of pairs 100, 101, 102 (all are in x/all.json); y is kept; lower customize.lr"
    )
    assert ", 109 and 2 more (all are in" in many and "110" not in many


def test_deepspeeds_json_follows_from_the_recipe() -> None:
    for stage in range(4):
        found = deepspeed_config(config(zero_stage=stage), world_size=2)
        assert found["zero_optimization"] == {"stage": stage}
        assert (found["train_batch_size"], found["train_micro_batch_size_per_gpu"]) == (8, 4)
    zero = deepspeed_config(config(zero_stage=3, offload=True), 1)["zero_optimization"]
    assert zero["offload_optimizer"]["device"] == zero["offload_param"]["device"] == "cpu"
    assert "offload_param" not in deepspeed_config(config(zero_stage=2, offload=True), 1)["zero_optimization"]
    with pytest.raises(ConfigError, match=r"set customize\.zero_stage to 1, 2 or 3"):
        deepspeed_config(config(offload=True), 1)
    with pytest.raises(ConfigError, match=r"set ema_decay=0 or zero_stage=2"):
        deepspeed_config(config(zero_stage=3, ema_decay=0.9), 1)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gated-image", "locked-text"])
def test_compiled_blocks_give_the_same_steps(tmp_path: Path, method: str) -> None:
    plain, compiled = (tiny_backbone(tmp_path, vocab_size=8) for _ in range(2))
    expected = train(plain, config(method=method, lr=1e-3))
    assert train(compiled, config(method=method, lr=1e-3, compile=True)) == pytest.approx(expected, rel=1e-5)
