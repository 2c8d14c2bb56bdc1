"""Weights that fit in name and shape are refused all the same if their values cannot be weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from react_ray.clip.weights import load_strict
from react_ray.errors import BackboneError


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.full((2, 3), float("nan")), "weight has values that are not finite"),
        (torch.tensor([[1.0, float("inf"), 0.0]] * 2, dtype=torch.float16), "weight has values that are not finite"),
        (torch.ones((2, 3), dtype=torch.int8), "weight is torch.int8, the model has torch.float32"),
        (torch.ones((2, 3), dtype=torch.complex64), "weight is torch.complex64, the model has torch.float32"),
    ],
)
def test_values_that_are_no_weights_are_refused(value: torch.Tensor, says: str) -> None:
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(BackboneError, match=says):
        load_strict(model, {"weight": value, "bias": torch.zeros(2)}, "a.pt")
    assert torch.equal(model.weight, before)


def test_half_precision_and_integer_buffers_are_loaded() -> None:
    model = nn.BatchNorm1d(2)
    state = {
        name: value.half() if value.is_floating_point() else value + 7 for name, value in model.state_dict().items()
    }
    load_strict(model, state, "a.pt")
    assert int(model.num_batches_tracked or 0) == 7 and torch.equal(model.weight, torch.ones(2))
