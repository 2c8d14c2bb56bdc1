"""What to try next follows from what a run shows."""

from __future__ import annotations

from pathlib import Path

from react_ray.report.data import MEAN, ClassRow, ReportData
from react_ray.report.intervals import Gain
from react_ray.stages.reporting.advice import advice
from tests.support.scored_run import recipe_of


def data(**changes: object) -> ReportData:
    values = {"labels": {"base": "base CLIP", "random": "random pairs", "gated_image": "gated-image"}, **changes}
    return ReportData(name="x", seed=0, controls=("random",), **values)  # type: ignore[arg-type]


def steps(loss: float, gate: float) -> list[dict[str, float]]:
    return [{"step": i, "loss": 4 - loss * i / 100, "gate_attn_abs_mean": gate * i / 100} for i in range(100)]


def test_a_run_without_anything_wrong_gets_no_advice(tmp_path: Path) -> None:
    curves = {"gated_image": steps(0.01, 0.3)}
    classes = [ClassRow("birds", "heron", pairs=9)]
    assert advice(recipe_of(tmp_path), data(curves=curves, classes=classes)) == []


def test_names_of_classes_are_cut_and_have_no_control_characters(tmp_path: Path) -> None:
    [told] = advice(recipe_of(tmp_path), data(classes=[ClassRow("birds", "\x1b[31m" + "x" * 10_000, pairs=1)]))
    assert told.isprintable() and len(told) < 400


def test_gates_that_stay_closed_and_a_loss_that_still_falls_are_named_with_their_arm(tmp_path: Path) -> None:
    curves = {"random": steps(0.01, 0.3), "gated_image": steps(3, 0.004)}
    closed, falling = advice(recipe_of(tmp_path), data(curves=curves))
    assert closed.startswith("The gates of gated-image hardly opened") and "customize.gate_lr_scale" in closed
    assert falling == "The loss of gated-image was still falling at the end: raise customize.epochs."


def test_classes_that_do_not_match_and_classes_with_few_pairs_are_named(tmp_path: Path) -> None:
    tips = ("Ingest a larger pool.",)
    flagged = [
        ClassRow("birds", f"class {i}", pairs=9, flags=("weak",), advice=(f"Rename {i}.", *tips)) for i in range(8)
    ]
    few = [ClassRow("birds", "heron", pairs=1), ClassRow("birds", "owl", pairs=0), ClassRow("birds", "kite", pairs=9)]
    first, second = advice(recipe_of(tmp_path), data(classes=[*few, *flagged]))
    assert first.startswith("8 classes (class 0, class 1, class 2, class 3, class 4, class 5 and 2 more) did not find")
    assert "Ingest a larger pool." in first  # what helps most of them
    assert second.startswith("2 classes (heron, owl) have fewer than 3 pairs")


def test_a_model_below_its_base_is_told_to_train_less_and_to_be_mixed(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"test": "/t", "validation": "/v"})
    scores = {"base": 0.3, "random": 0.2, "gated_image": 0.2}
    below = data(mean=scores, gains={(MEAN, "gated_image", "base"): Gain(-0.1, -0.15, -0.05, 30)})
    less, mixed = advice(recipe, below)
    assert "halve customize.lr" in less and "evaluate.wise_ft=0.7 instead of 1" in mixed


def test_a_model_below_the_pixels_is_told_to_use_what_was_retrieved(tmp_path: Path) -> None:
    rows = {
        "labels": {"base": "base CLIP", "gated_image": "gated-image", "pixels": "1-NN", "given": "1-NN + labels"},
        "mean": {"base": 0.2, "gated_image": 0.3, "pixels": 0.4, "given": 0.5},
        "references": ("pixels", "given"),
        "labelled": ("given",),
    }
    below = {(MEAN, "gated_image", "pixels"): Gain(-0.1, -0.2, -0.05, 30)}
    [line] = [line for line in advice(recipe_of(tmp_path), data(**rows, gains=below)) if "waste" in line]
    assert "customize.head=true" in line
    noise = {(MEAN, "gated_image", "pixels"): Gain(-0.1, -0.2, 0.05, 30)}
    given = {(MEAN, "gated_image", "given"): Gain(-0.2, -0.3, -0.1, 30)}
    assert not [line for line in advice(recipe_of(tmp_path), data(**rows, gains=noise | given)) if "waste" in line]


def test_what_would_make_the_result_more_certain_is_said(tmp_path: Path) -> None:
    noise = data(
        mean={"base": 0.3, "gated_image": 0.31}, gains={(MEAN, "gated_image", "base"): Gain(0.01, -0.02, 0.04, 9)}
    )
    noise.controls = ()
    wide, control, validation = advice(recipe_of(tmp_path, {"test": "/t"}), noise)
    assert "too wide" in wide and "random pairs" in control and "validation" in validation
