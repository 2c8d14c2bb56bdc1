"""The WiSE-FT curve of a customised model: what is kept and what is gained between the base and the model as trained.

Takes models and weights, gives interpolations that `compare` scores like any model, and what follows from their
figures: a point for each weight, and the weight that is best on the sets of --validation (Wortsman et al., "Robust
fine-tuning of zero-shot models", CVPR 2022, arXiv 2109.01903).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from react_ray.clip.backbone import Backbone
from react_ray.clip.prompts import TOP1
from react_ray.comparison.compare import Comparison, Loadable
from react_ray.comparison.compared_model import ComparedModel
from react_ray.comparison.labelled_set import LabelledSet
from react_ray.errors import ConfigError
from react_ray.gated.wise_ft import interpolate
from react_ray.report.numbers import points


@dataclass(frozen=True)
class Interpolation:
    base: ComparedModel
    trained: ComparedModel
    weight: float

    @property
    def label(self) -> str:
        return f"{self.trained.short} at {self.weight:g}"

    def load(self, device: str) -> Backbone:
        """BackboneError if the model did not start from an architecture like the base's."""
        backbone = self.trained.load(device, wise_ft=1.0)
        if self.weight != 1:
            interpolate(self.base.load().model, backbone.model, self.weight)
        return backbone


class Point(NamedTuple):
    """Top-1 accuracy of one weight, as means over sets; None where there are no such sets."""

    weight: float
    target: float
    off_target: float | None
    validation: float | None


class Curve(NamedTuple):
    model: str
    points: list[Point]  # from the base, whose weight is 0, upwards
    chosen: float | None  # the best weight on the validation sets, the lowest of equal ones; None without such sets

    @property
    def label(self) -> str:
        """Of the chosen model in the comparison; "" for the base, and where nothing is chosen."""
        return f"{self.model} at {self.chosen:g}" if self.chosen else ""


def weights_of(text: str) -> list[float]:
    """Takes `0,0.25,1` apart, in ascending order. ConfigError for what is no weight."""
    try:
        found = sorted({float(one) for one in text.split(",")})
    except ValueError:
        found = []
    if not found or not 0 <= found[0] <= found[-1] <= 1:
        raise ConfigError(f"--wise-ft {text}: write weights between 0 (base) and 1 (as trained), such as 0,0.5,1")
    return found


def interpolations(models: Sequence[ComparedModel], weights: Sequence[float]) -> list[Loadable]:
    """The base, then each other model at each weight; weight 0 is the base itself."""
    base, *others = models
    if not others:
        raise ConfigError("--wise-ft weighs a model against the base; name the base before it")
    return [base, *(Interpolation(base, model, weight) for model in others for weight in weights if weight)]


def curves(
    comparison: Comparison, models: Sequence[ComparedModel], weights: Sequence[float], sets: Sequence[LabelledSet]
) -> list[Curve]:
    """comparison: of `interpolations` of these models and weights."""
    found = []
    for model in models[1:]:
        labels = {0.0: comparison.base} | {weight: f"{model.short} at {weight:g}" for weight in weights if weight}
        along = [_point(comparison, weight, label, sets) for weight, label in labels.items()]
        validation = {point.weight: point.validation for point in along if point.validation is not None}
        chosen = max(validation, key=lambda weight: (validation[weight], -weight)) if validation else None
        found.append(Curve(model.short, along, chosen))
    return found


def told(curve: Curve) -> str:
    """What was chosen, for the user."""
    if curve.chosen is None:
        return f"{curve.model}: no WiSE-FT weight is chosen; name a set to choose it on with --validation NAME=URI"
    best = max(point.validation or 0 for point in curve.points)
    weights = ", ".join(f"{point.weight:g}" for point in curve.points)
    what = "" if curve.chosen else ", which is the base: on these images customising gained nothing"
    said = f"{curve.model}: WiSE-FT weight {curve.chosen:g} is the best of {weights} on validation"
    return f"{said} ({points(best)} %){what}"


def _point(comparison: Comparison, weight: float, label: str, sets: Sequence[LabelledSet]) -> Point:
    targets = [one.name for one in sets if not (one.off_target or one.validation)]
    off, validation = [one.name for one in sets if one.off_target], [one.name for one in sets if one.validation]
    target, *others = (
        fmean(comparison.value(label, name, TOP1) for name in names) if names else None
        for names in (targets, off, validation)
    )
    assert target is not None, "labelled_sets asks for a target"
    return Point(weight, target, *others)
