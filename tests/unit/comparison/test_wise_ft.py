"""The curve goes from the base to the model as trained, and its weight is chosen on validation images alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from react_ray.comparison.compare import Comparison, Difference
from react_ray.comparison.compared_model import compared_models
from react_ray.comparison.labelled_set import LabelledSet
from react_ray.comparison.sentences import sentences
from react_ray.comparison.wise_ft import Point, curves, interpolations, told, weights_of
from react_ray.errors import BackboneError, ConfigError
from react_ray.evals.score import ZERO_SHOT, Score
from react_ray.gated.load import load_customised
from react_ray.report.intervals import Gain
from tests.support.compared import finished_run, model_of_file, random_model
from tests.support.tiny_clip import save_backbone, tiny_backbone

NOISE = Gain(0.0, -0.1, 0.1, 10, p=1.0, mcnemar=1.0)
SETS = [
    LabelledSet("birds", "", [], []),
    LabelledSet("food", "", [], [], off_target=True),
    LabelledSet("val", "", [], [], validation=True),
]


def test_weights_are_in_order_and_between_the_base_and_the_model() -> None:
    assert weights_of("1,0,0.5,0.5") == [0, 0.5, 1]
    for text in ("0,1.5", "-0.1", "half", ""):
        with pytest.raises(ConfigError, match=r"--wise-ft .*: write weights between 0 \(base\) and 1 \(as trained\)"):
            weights_of(text)


def test_models_of_a_run_are_interpolated_as_its_own_weight_would(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    models = compared_models([random_model(tmp_path), run])
    base, half, whole = interpolations(models, [0, 0.5, 1])
    assert [one.label for one in (base, half, whole)] == ["tiny random", "run at 0.5", "run at 1"]
    for one, weight in ((base, 0.0), (half, 0.5), (whole, 1.0)):
        image_BCHW = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = load_customised(run, weight).model.encode_image(image_BCHW)
            torch.testing.assert_close(one.load("cpu").model.encode_image(image_BCHW), expected)


def test_whole_models_of_one_architecture_are_interpolated_and_others_refused(tmp_path: Path) -> None:
    models = compared_models([model_of_file(tmp_path, 1), model_of_file(tmp_path, 2)])
    _, half = interpolations(models, [0.25])
    one, other, between = (model.load("cpu").model.state_dict() for model in (*models, half))
    name = "visual.proj"
    torch.testing.assert_close(between[name], 0.75 * one[name] + 0.25 * other[name])

    (tmp_path / "wide").mkdir()
    wide = tiny_backbone(tmp_path / "wide", {"width": 48})
    save_backbone(wide.model, str(tmp_path / "wide" / "wide.safetensors"))
    models = compared_models([f"{tmp_path}/wide/tiny.json,{tmp_path}/wide/wide.safetensors", models[0].given])
    with pytest.raises(BackboneError, match="name the model's own backbone"):
        interpolations(models, [0.5])[1].load("cpu")


def comparison(**validation: float) -> Comparison:
    """A base at 0.5 everywhere, and a run at three weights, which loses off target as it gains."""
    labels = {"base": 0.0, "run at 0.25": 0.25, "run at 0.5": 0.5, "run at 1": 1.0}
    scores = [
        Score(ZERO_SHOT, label, dataset, "mean", "top1", value, 100)
        for (label, weight), on_validation in zip(labels.items(), validation.values(), strict=True)
        for dataset, value in (("birds", 0.5 + weight / 10), ("food", 0.5 - weight / 5), ("val", on_validation))
    ]
    return Comparison("base", scores, [Difference(label, "birds", False, NOISE, 100) for label in labels][1:])


def curve(found: Comparison, sets: list[LabelledSet]):  # type: ignore[no-untyped-def]
    models = compared_models(["ViT-B-32,openai", "ViT-B-16,openai"])
    renamed = [type(models[0])(short, "", "") for short in ("base", "run")]
    return curves(found, renamed, [0.25, 0.5, 1], sets)[0]


def test_the_weight_is_the_best_one_on_validation_and_only_it_has_sentences() -> None:
    found = comparison(a=0.5, b=0.6, c=0.7, d=0.7)
    best = curve(found, SETS)
    assert best.points[0] == Point(0, 0.5, 0.5, 0.5) and best.points[3] == Point(1, 0.6, 0.3, 0.7)
    assert best.chosen == 0.5  # nearest to the base of two that are equally good
    assert told(best) == "run: WiSE-FT weight 0.5 is the best of 0, 0.25, 0.5, 1 on validation (70.0 %)"
    [said] = sentences(found, [best])
    assert said.text.startswith("run at 0.5 is not told apart from base on birds")


def test_without_validation_nothing_is_chosen_and_the_base_may_be_best() -> None:
    found = comparison(a=0.8, b=0.6, c=0.7, d=0.7)
    without = curve(found, SETS[:2])
    assert without.chosen is None and "no WiSE-FT weight is chosen; name a set" in told(without)
    assert len(sentences(found, [without])) == 3
    base = curve(found, SETS)
    assert base.chosen == 0 and "which is the base: on these images customising gained nothing" in told(base)
    assert sentences(found, [base]) == []
