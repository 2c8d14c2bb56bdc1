"""Finds the arms that differ in the labelled images that train them, which the report draws as curves."""

from __future__ import annotations

from react_ray.evals.score import ALL_SHOTS
from react_ray.gated.config import CustomizeConfig
from react_ray.recipe import Recipe
from react_ray.report.data import LABELS_ALONE, LabelCurve
from react_ray.runtime.layout import HEAD, models, shown_name


def label_curves(recipe: Recipe) -> list[LabelCurve]:
    """Returns one for each base, method and stage of training of which a line has two numbers of labelled images."""
    found: dict[tuple[str, str, bool], LabelCurve] = {}
    for name in models(recipe):
        if name in recipe.bases():
            continue
        arm, is_head = name.removesuffix(HEAD), name.endswith(HEAD)
        of, row = recipe.arm(arm), shown_name(name)
        config = of.customize
        title = config.method + (" + head" if is_head else "")
        key = (recipe.base_of(arm), config.method, is_head)
        curve = found.setdefault(key, LabelCurve(title, "", {}))
        if not (config.mixes_labels or (config.labelled and is_head)):
            if not curve.without and of.retrieve.selection == "hits":
                found[key] = curve._replace(without=row)
            continue
        line, shots = _line(config, is_head), config.labelled_shots or ALL_SHOTS
        taken = shots in curve.lines.get(line, {})
        curve.lines.setdefault(f"{line}, {arm}" if taken else line, {})[shots] = row
    return [curve for curve in found.values() if any(len(rows) > 1 for rows in curve.lines.values())]


def _line(config: CustomizeConfig, is_head: bool) -> str:
    if config.labelled_alone:
        return LABELS_ALONE
    if not config.mixes_labels:
        return "retrieved pairs, labels for the head"
    return f"retrieved pairs and {100 * config.labelled_share:g} % labels" + ", then labels" * is_head
