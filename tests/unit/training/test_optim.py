from __future__ import annotations

from pathlib import Path

import pytest
import torch

from react_ray.gated.config import CustomizeConfig
from react_ray.gated.method import freeze
from react_ray.training.optim import (
    Ema,
    make_optimizer,
    param_groups,
    set_learning_rate,
)
from tests.support.tiny_clip import tiny_backbone


def config(**values: object) -> CustomizeConfig:
    return CustomizeConfig.model_validate({"lr": 0.1, "gate_lr_scale": 1, "weight_decay": 0.2, **values})


def test_groups_hold_every_trainable_parameter_once(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8, last_k_layers=2).model
    names = freeze(model, "gated-image")
    groups = {group["name"]: group for group in param_groups(model, config(gate_lr_scale=5))}
    held = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(held) == sorted(id(model.get_parameter(name)) for name in names)
    assert {name: len(group["params"]) for name, group in groups.items()} == {"decay": 8, "no_decay": 17, "gates": 4}
    assert {name: group["weight_decay"] for name, group in groups.items()} == {"decay": 0.2, "no_decay": 0, "gates": 0}
    assert groups["gates"]["lr"] == 0.5 and groups["decay"]["lr"] == 0.1
    assert all(p.ndim >= 2 for p in groups["decay"]["params"])


def test_a_group_without_members_is_left_out(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8).model
    freeze(model, "locked-text")
    assert [group["name"] for group in param_groups(model, config())] == ["decay", "no_decay"]


def test_the_factor_reaches_every_group(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8, last_k_layers=1).model
    freeze(model, "gated-image")
    optimizer = make_optimizer(model, config(gate_lr_scale=3))
    set_learning_rate(optimizer, 0.5)
    set_learning_rate(optimizer, 0.5)
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {
        "decay": 0.05,
        "no_decay": 0.05,
        "gates": pytest.approx(0.15),
    }


def test_the_average_follows_its_formula_and_survives_a_restart(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8, last_k_layers=1).model
    names = freeze(model, "gated-image")
    ema = Ema(model, 0.25)
    expected = {name: model.get_parameter(name).detach().clone() for name in names}
    for step in range(1, 4):
        decay = min(0.25, (1 + step) / (10 + step))
        for name in names:
            parameter = model.get_parameter(name)
            parameter.data.add_(torch.randn_like(parameter))
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
        ema.update(model)
        restarted = Ema(model, 0.25)
        restarted.resume(ema.shadow, ema.num_updates)
        ema = restarted
    for name in names:
        torch.testing.assert_close(ema.shadow[name], expected[name], atol=1e-6, rtol=1e-5)
    freeze(model, "locked-text")
    with pytest.raises(ValueError, match="resume with the same method"):
        Ema(model, 0.25).resume(ema.shadow, ema.num_updates)
