"""Collects the scores of a run, what they mean, and what they cost, into the contents of summary.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from react_ray.metadata import read_json
from react_ray.report.data import MEAN, Cost, LabelCurve, ReportData, Seed
from react_ray.report.intervals import Gain, method
from react_ray.storage import Storage, open_storage

COSTS, SUMMARY = "costs.json", "summary.json"


@dataclass
class Costs:
    """What a run cost so far: seconds by stage, and the peak memory of all processes together."""

    seconds: dict[str, float] = field(default_factory=dict)
    peak_rss_gb: dict[str, float] = field(default_factory=dict)


def summarise(data: ReportData, costs: Costs) -> dict[str, Any]:
    """Returns top-1 per task and row, the means over tasks, figures by other metrics of tasks, the gains
    with their intervals, and the cost of the run.

    Scores are fractions of this seed; gains are means over all seeds of the report.
    """
    best = data.best_arm
    rows = {row: found for row in data.ranked() if (found := _gain(data, row, data.base_of(row)))}
    return {
        "dataset": data.dataset,
        "tasks": data.tasks,
        "mean": data.mean,
        "task_metrics": data.task_metrics,
        "task_metric_gains": [
            {"column": column, "row": row} | _numbers(gain) for (column, row), gain in data.metric_gains.items()
        ],
        "other_protocols": [
            dict(zip(("protocol", "row", "dataset", "task", "metric", "setting"), place, strict=True)) | _numbers(gain)
            for place, gain in data.score_gains.items()
        ],
        "best": best,
        "best_of_fixed_classes": data.best_fixed,
        "gains": {row: found for row, found in rows.items() if row not in data.references},
        "over_controls": {c: found for c in data.controls if best and (found := _gain(data, best, c))},
        "over_pixels": {p: f for p in data.references if data.leader and (f := _gain(data, data.leader, p))},
        "label_curves": [_curve(data, curve) for curve in data.label_curves],
        "other_sets": {
            name: _numbers(found) | {"of": best, "off_target": name in data.off_target}
            for name, found in data.other_sets.items()
        },
        "rows": {row: {"label": data.labels[row], **_cost(data, row)} for row in data.ranked()},
        "seed": data.seed,
        "num_seeds": data.num_seeds,
        "seconds": costs.seconds,
        "peak_rss_gb": costs.peak_rss_gb.get("all"),
    }


def _curve(data: ReportData, curve: LabelCurve) -> dict[str, Any]:
    """Arms that differ in their labelled images, with their gains over the pairs alone and over the labels alone."""
    gains = [found for row, over in curve.pairs() if (found := _gain(data, row, over))]
    return {"title": curve.title, "pairs_alone": curve.without, "lines": curve.lines, "gains": gains}


def read_summary(uri: str) -> Seed:
    """Reads the summary of another run of the recipe."""
    return read_json(open_storage(uri), SUMMARY, Seed, "run `react-ray report` of that run again")


def costs_of(storage: Storage) -> Costs:
    """What a run cost so far; nothing for one that begins."""
    remedy = "delete it, which forgets the times of the stages so far"
    return read_json(storage, COSTS, Costs, remedy) if storage.exists(COSTS) else Costs()


def _gain(data: ReportData, row: str, over: str) -> dict[str, Any] | None:
    gain = data.gain(MEAN, row, over)
    if gain is None:
        return None
    tasks = {task: _numbers(found) for task in data.tasks if (found := data.gain(task, row, over))}
    about = {"of": row, "over": over, **_numbers(gain), "method": method(gain.num_seeds)}
    return about | ({"tasks": tasks, "correction": "Holm, over the tasks"} if len(tasks) > 1 else {})


def _numbers(gain: Gain) -> dict[str, Any]:
    numbers = {"gain": gain.value, "low": gain.low, "high": gain.high, "p": gain.p}
    exact = {} if gain.mcnemar is None else {"mcnemar_p": gain.mcnemar}
    return {name: round(value, 6) for name, value in numbers.items()} | exact | {"told_apart": gain.told_apart}


def _cost(data: ReportData, row: str) -> dict[str, Any]:
    cost = data.costs.get(row, Cost())
    return {"trained_in_seconds": cost.seconds, "bytes": cost.bytes}
