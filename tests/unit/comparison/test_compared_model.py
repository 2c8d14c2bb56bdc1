"""A model is found by whatever names it, and a name that means none is told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from react_ray.comparison.compared_model import compared_models
from react_ray.errors import ConfigError
from react_ray.gated.export import export_model
from react_ray.gated.load import load_customised
from tests.support.compared import finished_run, model_of_file, random_model


def test_a_run_stands_for_all_its_arms_at_the_weight_of_their_table(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "gated", "other")
    base, *arms = compared_models([random_model(tmp_path), run])
    assert [one.label for one in (base, *arms)] == [
        "tiny random",
        "run/gated (WiSE-FT 0.5)",
        "run/other (WiSE-FT 0.5)",
    ]
    weights = arms[0].load().model.state_dict()
    expected = load_customised(f"{run}/arms/gated", 0.5).model.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_every_form_of_a_model_is_loaded(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    exported, whole = str(tmp_path / "exported"), str(tmp_path / "whole.pt")
    export_model(run, exported, "open_clip", 1.0, "fp32")
    export_model(run, whole, "official", 1.0, "fp32")
    name = random_model(tmp_path).partition(",")[0]
    found = compared_models(
        [exported, f"{run}/model/gated.safetensors", f"{name},{whole}", model_of_file(tmp_path, 1), run]
    )
    assert [one.label for one in found] == [
        "exported",
        "gated.safetensors",
        "tiny whole.pt",
        "tiny seed1.safetensors",
        "run (WiSE-FT 0.5)",
    ]
    images_BCHW = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        folded, gated, official, other, _ = (one.load().model.encode_image(images_BCHW) for one in found)
    torch.testing.assert_close(folded, gated, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(official, gated)
    assert not torch.allclose(other, gated, atol=0.1)


def test_models_of_one_name_are_told_apart_by_their_places(tmp_path: Path) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        place.mkdir()
    runs = [finished_run(place) for place in places]
    found = compared_models(runs)
    assert [one.label for one in found] == [f"{run}/model (WiSE-FT 0.5)" for run in runs]


def test_a_run_that_has_no_model_yet_is_told_what_makes_one(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: herons\n")
    with pytest.raises(ConfigError, match="has no finished model; run `react-ray customize RECIPE` first"):
        compared_models([str(tmp_path)])


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    file = model_of_file(tmp_path, 1).partition(",")[2]
    with pytest.raises(ConfigError, match=r"seed1.safetensors does not say which model it is of; write the model be"):
        compared_models([file, file])
    with pytest.raises(ConfigError, match=r"old.pt is a file of weights; write the model before it: ViT-B-32,old.pt"):
        compared_models(["old.pt", file])
    with pytest.raises(ConfigError, match=r"tiny.json,random is named twice; name it once"):
        compared_models([random_model(tmp_path)] * 2)
