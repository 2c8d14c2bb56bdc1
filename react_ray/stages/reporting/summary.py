"""Collects the scores of a run, what they mean, and what they cost, into the contents of summary.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from react_ray.metadata import read_json
from react_ray.report.data import MEAN, ReportData, Seed
from react_ray.report.intervals import method
from react_ray.storage import Storage, open_storage

COSTS, SUMMARY = "costs.json", "summary.json"


@dataclass
class Costs:
    """What a run cost so far: seconds by stage, and the peak memory of all processes together."""

    seconds: dict[str, float] = field(default_factory=dict)
    peak_rss_gb: dict[str, float] = field(default_factory=dict)


def summarise(data: ReportData, costs: Costs) -> dict[str, Any]:
    """Returns top-1 per task and arm, the means over tasks, the gains with their intervals, and the cost of the run.

    Scores are fractions of this seed; gains are means over all seeds of the report.
    """
    best = data.best_arm
    return {
        "dataset": data.dataset,
        "tasks": data.tasks,
        "mean": data.mean,
        "best": best,
        "gains": {arm: found for arm in data.scored_arms() if (found := _gain(data, arm, data.base_of(arm)))},
        "over_controls": {c: found for c in data.controls if best and (found := _gain(data, best, c))},
        "seed": data.seed,
        "seconds": costs.seconds,
        "peak_rss_gb": costs.peak_rss_gb.get("all"),
    }


def read_summary(uri: str) -> Seed:
    """Reads the summary of another run of the recipe."""
    return read_json(open_storage(uri), SUMMARY, Seed, "run `react-ray report` of that run again")


def costs_of(storage: Storage) -> Costs:
    """What a run cost so far; nothing for one that begins."""
    remedy = "delete it, which forgets the times of the stages so far"
    return read_json(storage, COSTS, Costs, remedy) if storage.exists(COSTS) else Costs()


def _gain(data: ReportData, arm: str, over: str) -> dict[str, Any] | None:
    gain = data.gain(MEAN, arm, over)
    if gain is None:
        return None
    numbers = {name: round(value, 6) for name, value in (("gain", gain.value), ("low", gain.low), ("high", gain.high))}
    return {"over": over, **numbers, "told_apart": gain.told_apart, "method": method(gain.num_seeds)}
