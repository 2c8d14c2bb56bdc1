"""The parts of a step that DeepSpeed leaves to us."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from react_ray.stages.training.engine import clamp_temperature
from tests.support.tiny_clip import tiny_backbone


def test_the_scale_of_a_sigmoid_model_is_not_clamped(tmp_path: Path) -> None:
    model = tiny_backbone(tmp_path, vocab_size=8, siglip=True).model
    model.get_parameter("logit_scale").data.fill_(math.log(117))  # of the published ViT-B-16-SigLIP
    clamp_temperature(None, model)  # no engine is asked
    assert model.get_parameter("logit_scale").item() == pytest.approx(math.log(117))
