"""Collects the scores of a run, and what it cost, into the contents of summary.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from react_ray.artifact import Artifact, open_artifact
from react_ray.kinds import PREDICTIONS
from react_ray.metadata import read_json
from react_ray.recipe import Recipe
from react_ray.report.data import Seed
from react_ray.runtime.layout import Layout
from react_ray.storage import Storage, open_storage

COSTS, SUMMARY = "costs.json", "summary.json"


@dataclass
class Costs:
    """What a run cost so far: seconds by stage, and the peak memory of all processes together."""

    seconds: dict[str, float] = field(default_factory=dict)
    peak_rss_gb: dict[str, float] = field(default_factory=dict)


def summarise(recipe: Recipe) -> dict[str, Any]:
    """Returns top-1 per task and arm on the headline dataset, the means over tasks, and the cost of the run."""
    tasks: dict[str, dict[str, float]] = {}
    mean: dict[str, float] = {}
    for arm in [*recipe.bases(), *recipe.arm_names()]:
        for row in scores_of(recipe, arm).facts.scores:
            if row["dataset"] != recipe.evaluate.headline or row["metric"] != "top1":
                continue
            if row["task"] == "mean":
                mean[arm or "customized"] = row["value"]
            else:
                tasks.setdefault(row["task"], {})[arm or "customized"] = row["value"]
    costs = costs_of(open_storage(recipe.out))
    return {
        "tasks": tasks,
        "mean": mean,
        "seed": recipe.seed,
        "seconds": costs.seconds,
        "peak_rss_gb": costs.peak_rss_gb.get("all"),
    }


def scores_of(recipe: Recipe, arm: str) -> Artifact:
    """Returns the predictions of a base or of an arm's model."""
    layout = Layout(recipe, arm if arm in recipe.arm_names() else "")
    return open_artifact(layout.scores(arm), PREDICTIONS)


def read_summary(uri: str) -> Seed:
    """Reads the summary of another run of the recipe."""
    return read_json(open_storage(uri), SUMMARY, Seed, "run `react-ray report` of that run again")


def costs_of(storage: Storage) -> Costs:
    """What a run cost so far; nothing for one that begins."""
    remedy = "delete it, which forgets the times of the stages so far"
    return read_json(storage, COSTS, Costs, remedy) if storage.exists(COSTS) else Costs()
