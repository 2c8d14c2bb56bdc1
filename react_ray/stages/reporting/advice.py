"""Says what to try for a better result, from what a run shows: its classes, its curves, its scores, its controls."""

from __future__ import annotations

import statistics
from collections import Counter

from react_ray.metadata import printable, shortened
from react_ray.recipe import Recipe
from react_ray.report.data import MEAN, ReportData

FEW_PAIRS = 3  # a class with fewer teaches little more than these drawings
NAMED = 6
STILL_FALLING = 0.02  # of the loss, over the last tenth of the steps
CLOSED_GATES = 0.01  # mean |tanh α|: the gated blocks hardly change the model


def advice(recipe: Recipe, data: ReportData) -> list[str]:
    """Returns sentences, most important first."""
    return [
        *_below_base(recipe, data),
        *_below_pixels(data),
        *_classes(data),
        *_training(recipe, data),
        *_evidence(recipe, data),
    ]


def _below_base(recipe: Recipe, data: ReportData) -> list[str]:
    best = data.best_arm
    gain = data.gain(MEAN, best) if best else None
    worse = [*data.other_sets.values(), *([gain] if gain else [])]
    if not any(one.direction == "loss" for one in worse):
        return []
    weight = recipe.evaluate.wise_ft
    lines = ["The training took more than it gave: halve customize.lr, or train for fewer customize.epochs."]
    if weight > 0.5:
        lines.append(
            f"Mix more of the base into the model: evaluate.wise_ft={max(0.3, weight - 0.3):g} instead of {weight:g}, "
            "chosen on a validation set."
        )
    return lines


def _below_pixels(data: ReportData) -> list[str]:
    for pixels in data.references:
        over = data.gain(MEAN, data.leader, pixels) if data.leader and pixels not in data.labelled else None
        if over and over.direction == "loss":
            return [
                "The models waste what was retrieved, since comparing its pixels does better: train for more "
                "customize.epochs with a weaker customize.augment, train a head for these classes alone "
                "(customize.head=true), or take a stronger backbone."
            ]
    return []


def _classes(data: ReportData) -> list[str]:
    flagged = [c for c in data.classes if c.flags]
    few = [c for c in data.classes if c.pairs is not None and c.pairs < FEW_PAIRS and not c.flags]
    lines = []
    if flagged:
        tips = [tip for tip, _ in Counter(tip for c in flagged for tip in c.advice).most_common(2)]
        lines.append(
            f"{_named([c.class_name for c in flagged])} did not find what they ask for. {' '.join(tips)}".strip()
        )
    if few:
        lines.append(
            f"{_named([c.class_name for c in few])} have fewer than {FEW_PAIRS} pairs: give synonyms, raise retrieve.k "
            "or leave it out beside retrieve.pairs_per_class, search both sides (retrieve.keys=[image, text]), or use "
            "a larger pool."
        )
    return lines


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    shown = ", ".join(shortened(printable(name)) for name in names[:NAMED])
    return f"{len(names)} {'classes' if len(names) > 1 else 'class'} ({shown}{more})"


def _training(recipe: Recipe, data: ReportData) -> list[str]:
    falling, closed = [], []
    for arm, rows in data.curves.items():
        losses = [row["loss"] for row in rows if "loss" in row]
        tenth = len(losses) // 10
        if tenth >= 3:
            last, before = (statistics.fmean(part) for part in (losses[-tenth:], losses[-2 * tenth : -tenth]))
            falling += [data.labels[arm]] * (before - last > STILL_FALLING * abs(before))
        gates = [rows[-1][key] for key in ("gate_attn_abs_mean", "gate_dense_abs_mean") if rows and key in rows[-1]]
        closed += [data.labels[arm]] * (bool(gates) and max(gates) < CLOSED_GATES)
    lines = []
    if closed:
        lines.append(
            f"The gates of {', '.join(closed)} hardly opened: train for more steps (customize.epochs, or a smaller "
            "customize.batch_size), or raise customize.gate_lr_scale."
        )
    if falling:
        lines.append(f"The loss of {', '.join(falling)} was still falling at the end: raise customize.epochs.")
    return lines


def _evidence(recipe: Recipe, data: ReportData) -> list[str]:
    """What would make the result more certain."""
    if data.best_arm is None:
        return []
    lines = []
    gain = data.gain(MEAN, data.best_arm)
    if gain and gain.direction == "same" and gain.value:
        lines.append(
            "The interval is too wide for this difference: add labelled images, or run other seeds and name them in "
            "evaluate.other_runs."
        )
    if not data.controls:
        lines.append(
            "Nothing shows whether retrieval matters: add an arm that trains on random pairs (`arms: {random: "
            "{retrieve.selection: random}, NAME: {}}`), and run again, which trains that arm only."
        )
    if len(recipe.evaluate.datasets) == 1:
        lines.append(
            "There is one labelled set: add another one to evaluate.datasets as validation, and make choices on it, so "
            "that the headline stays honest."
        )
    return lines
