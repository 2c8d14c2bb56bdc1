"""Which arms of a recipe are drawn as curves over labelled images."""

from __future__ import annotations

from typing import Any

from react_ray.evals.score import ALL_SHOTS
from react_ray.recipe import as_recipe
from react_ray.report.data import LABELS_ALONE, LabelCurve
from react_ray.stages.reporting.label_curves import label_curves

LABELLED = {"customize.labelled": "labels.parquet"}
ALONE = {**LABELLED, "customize.labelled_share": 1}


def curves(arms: dict[str, dict[str, Any]], **customize: Any) -> list[LabelCurve]:
    backbone = {"name": "ViT-B-32", "pretrained": "random"}
    values = {"name": "x", "out": "/x", "database": "/d", "backbone": backbone, "ingest": {"source": "s"}}
    return label_curves(as_recipe(values | {"arms": arms, "customize": {"method": "locked-text"} | customize}))


def test_arms_of_one_method_are_lines_over_the_images_of_each_class() -> None:
    arms: dict[str, dict[str, Any]] = {
        "random": {"retrieve.selection": "random"},
        "pairs": {},
        "mixed_1": {**LABELLED, "customize.labelled_shots": 1},
        "mixed": LABELLED,
        "alone_1": {**ALONE, "customize.labelled_shots": 1},
        "other": {"customize.method": "gated-image"},
    }
    [found] = curves(arms)
    assert found == LabelCurve(
        "locked-text",
        "pairs",
        {"retrieved pairs and 50 % labels": {1: "mixed_1", ALL_SHOTS: "mixed"}, LABELS_ALONE: {1: "alone_1"}},
    )


def test_heads_have_a_curve_of_their_own_and_a_model_without_labels_is_none_of_its_points() -> None:
    arms: dict[str, dict[str, Any]] = {
        f"head_{shots}": {**LABELLED, "customize.labelled_share": 0, "customize.labelled_shots": shots}
        for shots in (1, 4)
    }
    [found] = curves({"pairs": {}} | arms, head=True)
    lines = {"retrieved pairs, labels for the head": {1: "head_1+head", 4: "head_4+head"}}
    assert found == LabelCurve("locked-text + head", "pairs+head", lines)


def test_two_arms_at_one_place_are_two_lines() -> None:
    arms = {f"alone_{n}": {**ALONE, "customize.labelled_shots": shots} for n, shots in enumerate((1, 4, 4))}
    [found] = curves(arms)
    assert found.without == ""
    assert found.lines == {LABELS_ALONE: {1: "alone_0", 4: "alone_1"}, f"{LABELS_ALONE}, alone_2": {4: "alone_2"}}


def test_one_number_of_labels_is_no_curve() -> None:
    assert curves({"pairs": {}, "mixed": LABELLED}) == []
