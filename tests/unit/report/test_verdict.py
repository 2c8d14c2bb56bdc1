"""The verdict: the worst news comes first, the best arm is named, and noise is no gain."""

from __future__ import annotations

import dataclasses

from react_ray.report.data import MEAN, ReportData
from react_ray.report.intervals import Gain
from react_ray.report.verdict import verdict

UP, DOWN, NOISE = Gain(0.04, 0.01, 0.07, 30), Gain(-0.04, -0.07, -0.01, 30), Gain(0.01, -0.02, 0.04, 30)
DATA = ReportData(
    name="x",
    seed=0,
    labels={"base": "base CLIP", "random": "random pairs", "locked_text": "locked-text", "gated_image": "gated-image"},
    controls=("random",),
    tasks={"food": {"base": 0.226, "random": 0.9, "locked_text": 0.266, "gated_image": 0.26}},
    mean={"base": 0.226, "random": 0.9, "locked_text": 0.266, "gated_image": 0.26},
)


def said(over_base: Gain, over_control: Gain, behind: Gain, **other_sets: Gain) -> list[tuple[str, str]]:
    gains = {
        (MEAN, "locked_text", "base"): over_base,
        (MEAN, "locked_text", "random"): over_control,
        (MEAN, "gated_image", "locked_text"): behind,
    }
    return [tuple(s) for s in verdict(dataclasses.replace(DATA, gains=gains, other_sets=other_sets))]


def test_the_best_arm_is_named_and_never_a_control() -> None:
    assert DATA.best_arm == "locked_text"
    assert said(UP, UP, NOISE, validation=UP) == [
        (
            "gain",
            "Locked-text classifies 26.6 % of the images of test correctly, 4.0 points [1.0, 7.0] more than base CLIP.",
        ),
        ("gain", "It is 4.0 points [1.0, 7.0] above random pairs, the control."),
        ("gain", "On validation, locked-text is above base CLIP: +4.0 points [1.0, 7.0]."),
        ("note", "Gated-image is not told apart from locked-text: +1.0 points [−2.0, 4.0]."),
    ]


def test_bad_news_comes_first() -> None:
    kinds = [kind for kind, _ in said(UP, DOWN, UP, validation=DOWN)]
    assert kinds == ["loss", "loss", "gain"]
    first = said(UP, UP, DOWN, validation=DOWN)[0][1]
    assert first == "On validation, locked-text is below base CLIP: −4.0 points [−7.0, −1.0]."
    assert said(DOWN, UP, DOWN)[0][1].startswith("Locked-text, the best arm, is below base CLIP, from which it started")
    assert said(UP, DOWN, DOWN)[0][1].startswith("The control is better")


def test_noise_is_told_as_noise() -> None:
    [(kind, text), (control, _)] = said(NOISE, NOISE, DOWN)
    assert (kind, control) == ("same", "same")
    assert text.startswith(
        "Locked-text, the best arm, is not told apart from base CLIP: +1.0 points [−2.0, 4.0]; 26.6 %"
    )


def test_a_head_and_pixels_are_told_beside_the_best_arm() -> None:
    labels = DATA.labels | {
        "gated_image+head": "gated-image + head",
        "pixels": "1-NN on 16x16 pixels",
        "given": "labels",
    }
    data = dataclasses.replace(
        DATA,
        labels=labels,
        mean=DATA.mean | {"gated_image+head": 0.35, "pixels": 0.45, "given": 0.6},
        fixed=("gated_image+head",),
        references=("pixels", "given"),
        labelled=("given",),
        gains={
            (MEAN, "locked_text", "base"): UP,
            (MEAN, "gated_image+head", "base"): UP,
            (MEAN, "gated_image+head", "pixels"): DOWN,
            (MEAN, "gated_image+head", "given"): DOWN,
        },
    )
    assert (data.best_arm, data.best_fixed, data.leader) == ("locked_text", "gated_image+head", "gated_image+head")
    assert data.ranked() == ["random", "pixels", "gated_image+head", "locked_text", "gated_image", "base", "given"]
    assert [tuple(s) for s in verdict(data)] == [
        (
            "loss",
            "1-NN on 16x16 pixels, which learns nothing, is better than every model here: gated-image + head has −4.0 "
            "points [−7.0, −1.0].",
        ),
        (
            "gain",
            "Locked-text classifies 26.6 % of the images of test correctly, 4.0 points [1.0, 7.0] more than base CLIP.",
        ),
        (
            "gain",
            "Gated-image + head, which tells only these classes apart, is above base CLIP: +4.0 points [1.0, 7.0].",
        ),
    ]
    only_heads = dataclasses.replace(data, fixed=("gated_image+head", "locked_text", "gated_image"))
    assert (only_heads.best_arm, only_heads.best_fixed) == ("gated_image+head", None)


def test_a_run_of_controls_alone_has_a_best_arm_and_a_run_without_scores_none() -> None:
    only = ReportData("x", 0, {"base": "b", "random": "r"}, mean={"base": 0.1, "random": 0.2}, controls=("random",))
    assert only.best_arm == "random" and verdict(only) == []
    assert ReportData("x", 0, {"base": "b", "arm": "a"}).best_arm is None
