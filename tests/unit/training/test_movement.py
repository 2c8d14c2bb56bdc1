"""A training that cannot change its model is refused, with the smallest changes that mend it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from react_ray.errors import ConfigError
from react_ray.gated.attach import gates
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.method import freeze
from react_ray.training.movement import NARROW, SLOW, check_movement, reach
from react_ray.training.optim import make_optimizer, set_learning_rate
from react_ray.training.schedule import from_data, learning_rate, num_steps
from tests.support.tiny_clip import tiny_backbone

SHUT = {"epochs": 8, "batch_size": 1024, "warmup_steps": 500}  # 16 steps for 3,000 pairs


def settled(num_pairs: int = 3000, **given: object) -> CustomizeConfig:
    return from_data(CustomizeConfig.model_validate(given), num_pairs)


def test_gates_that_cannot_open_are_refused_and_the_error_says_how_they_can() -> None:
    with pytest.raises(ConfigError) as refused:
        check_movement(settled(**SHUT), 3000, "customize gated_image")
    assert str(refused.value) == (
        "customize gated_image: in 16 steps of 3,000 pairs the gates, which start at 0, can open to 0.045 at most, so "
        "the model would stay as it is; set customize.batch_size=256 or customize.epochs=40 or "
        "customize.gate_lr_scale=46"
    )


@pytest.mark.parametrize(
    "given",
    [
        SHUT,
        {"epochs": 1, "batch_size": 2048, "gate_lr_scale": 1},
        {"epochs": 1, "batch_size": 16, "lr": 1e-6},
        {"epochs": 1, "batch_size": 1500, "lr": 1e-7, "method": "locked-text"},
        {"epochs": 0.1, "batch_size": 100, "lr": 1e-6, "method": "full"},
    ],
)
def test_each_remedy_mends_it_alone_and_less_does_not(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as refused:
        check_movement(settled(**given), 3000)
    remedies = re.findall(r"customize\.(\w+)=([-+.e\d]+)", str(refused.value))
    assert remedies
    for name, value in remedies:
        before = settled(**given)
        mended = before.model_copy(update={name: type(getattr(before, name))(float(value))})
        assert check_movement(mended, 3000) == "", name
        less = {"batch_size": 2.0, "epochs": 0.9, "gate_lr_scale": 0.9, "lr": 0.8}[name]
        nearly = before.model_copy(update={name: type(getattr(before, name))(float(value) * less)})
        assert reach(nearly, 3000) < (NARROW if nearly.method == "gated-image" else SLOW), name


def test_gates_that_open_a_little_are_a_warning_and_those_of_the_data_none() -> None:
    told = check_movement(settled(epochs=1, batch_size=64), 3000)
    assert told.startswith("in 46 steps of 3,000 pairs the gates, which start at 0, can open to 0.1") and "; " in told
    for num_pairs in (16, 30, 100, 3191, 100_000, 10_000_000):
        for method in ("gated-image", "locked-text", "locked-image", "full", "lora", "linear"):
            assert check_movement(settled(num_pairs, method=method), num_pairs) == ""


def test_the_bound_holds_and_is_reached_if_every_step_pulls_the_same_way(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8, last_k_layers=2).model
    freeze(model, "gated-image")
    config = settled(640, epochs=2, batch_size=32)
    optimizer, total = make_optimizer(model, config), num_steps(config, 640)
    for step in range(total):
        set_learning_rate(optimizer, learning_rate(step, total, config))
        optimizer.zero_grad()
        sum(p.sum() for name, p in model.named_parameters() if ".alpha_" in name).backward()
        optimizer.step()
    opened = [abs(value) for value in gates(model).values()]
    assert torch.tensor(opened).numpy() == pytest.approx(reach(config, 640), rel=0.01)
    assert 0.05 < reach(config, 640) < NARROW
