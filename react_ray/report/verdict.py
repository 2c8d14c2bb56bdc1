"""Says in sentences what a run's scores mean, the worst news first.

A difference whose interval contains zero is never called a gain or a loss.
"""

from __future__ import annotations

from typing import NamedTuple

from react_ray.report.data import MEAN, ReportData
from react_ray.report.intervals import Gain
from react_ray.report.numbers import gain_points, interval, points, probability


class Sentence(NamedTuple):
    kind: str  # "gain", "loss", "same" (not told apart from zero) or "note"
    text: str


def verdict(data: ReportData) -> list[Sentence]:
    """Returns the sentences of the headline; none without the score of an arm and of its base."""
    best = data.best_arm
    gain = data.gain(MEAN, best) if best else None
    if best is None or gain is None:
        return []
    base = data.base_of(best)
    sentences = [_headline(data, best, gain)]
    for control in data.controls:
        over = data.gain(MEAN, best, control)
        if over:
            sentences.append(_over_control(data.labels[control], over))
    sentences += _others(data)
    forgot: list[Sentence] = []
    for dataset, other in data.other_sets.items():
        lost = dataset in data.off_target and other.direction == "loss"
        said = _forgotten if lost else verdict_line
        (forgot if lost else sentences).append(said(data.labels[best], data.labels[base], other, dataset))
    sentences += _ties(data, best)
    losses = [sentence for sentence in sentences if sentence.kind == "loss"]
    return [*forgot, *losses, *(sentence for sentence in sentences if sentence.kind != "loss")]


def verdict_line(label: str, against: str, gain: Gain, dataset: str) -> Sentence:
    """Compares one arm with one other on one labelled set."""
    kind = gain.direction
    if kind == "same":
        return Sentence(kind, f"On {dataset}, {label} is not told apart from {against}: {change(gain)}.")
    side = "above" if kind == "gain" else "below"
    return Sentence(kind, f"On {dataset}, {label} is {side} {against}: {change(gain)}.")


def _forgotten(label: str, against: str, gain: Gain, dataset: str) -> Sentence:
    said = f"{_capital(label)} forgot: {change(gain)} on {dataset}, for which it was not customised, against {against}."
    return Sentence("loss", said)


def change(gain: Gain) -> str:
    doubt = f", but McNemar p {probability(gain.mcnemar)}" if gain.is_in_doubt and gain.mcnemar else ""
    return f"{gain_points(gain.value)} points {interval(gain)}{doubt}"


def _headline(data: ReportData, best: str, gain: Gain) -> Sentence:
    label, base = data.labels[best], data.labels[data.base_of(best)]
    accuracy, of_base = data.spread(MEAN, best), data.spread(MEAN, data.base_of(best))
    assert accuracy and of_base, "a gain has two scores"
    means = [f"{len(data.tasks)} tasks"] * (len(data.tasks) > 1) + [f"{data.num_seeds} seeds"] * (data.num_seeds > 1)
    over = f" (mean over {' and '.join(means)})" if means else ""
    if gain.direction == "gain":
        said = f"{_capital(label)} classifies {points(accuracy.mean)} % of the images of {data.dataset} correctly, "
        return Sentence("gain", f"{said}{change(gain).removeprefix('+')} more than {base}{over}.")
    arms = [arm for arm in data.customized() if arm not in data.fixed] or data.customized()
    who = _capital(label) + (", the best arm," if len(arms) > 1 else "")
    is_what = (
        f"is below {base}, from which it started" if gain.direction == "loss" else f"is not told apart from {base}"
    )
    both = f"{points(accuracy.mean)} % against {points(of_base.mean)} % of the images of {data.dataset}"
    return Sentence(gain.direction, f"{who} {is_what}: {change(gain)}; {both}{over}.")


def _over_control(control: str, gain: Gain) -> Sentence:
    if gain.direction == "gain":
        return Sentence("gain", f"It is {change(gain).removeprefix('+')} above {control}, the control.")
    if gain.direction == "loss":
        return Sentence("loss", f"The control is better: against {control}, the best arm has {change(gain)}.")
    return Sentence("same", f"It is not told apart from {control}, the control: {change(gain)}.")


def _others(data: ReportData) -> list[Sentence]:
    """Compares the best classifier of fixed classes with its base, and the best model of any kind with pixels."""
    sentences = []
    if (fixed := data.best_fixed) and (gain := data.gain(MEAN, fixed)):
        is_what = {"gain": "above", "loss": "below", "same": "not told apart from"}[gain.direction]
        said = f"{_capital(data.labels[fixed])}, which tells only these classes apart, is {is_what} "
        sentences.append(Sentence(gain.direction, f"{said}{data.labels[data.base_of(fixed)]}: {change(gain)}."))
    leader = data.leader
    for reference in data.references if leader else ():
        over = data.gain(MEAN, leader, reference) if leader and reference not in data.labelled else None
        if leader and over:
            label, pixels = data.labels[leader], f"{data.labels[reference]}, which learns nothing"
            sentences.append(
                {
                    "gain": Sentence("gain", f"{_capital(label)} is above {pixels}: {change(over)}."),
                    "loss": Sentence("loss", f"{pixels}, is better than every model here: {label} has {change(over)}."),
                    "same": Sentence("same", f"{_capital(label)} is not told apart from {pixels}: {change(over)}."),
                }[over.direction]
            )
    return sentences


def _ties(data: ReportData, best: str) -> list[Sentence]:
    """Names the arms that may be as good as the best one."""
    sentences = []
    for arm in data.customized():
        behind = data.gain(MEAN, arm, best)
        if behind and behind.direction == "same":
            text = f"{_capital(data.labels[arm])} is not told apart from {data.labels[best]}: {change(behind)}."
            sentences.append(Sentence("note", text))
    return sentences


def _capital(label: str) -> str:
    return label[:1].upper() + label[1:]
