"""run: runs all verbs of a recipe in order, for every arm, and records the time of each and the peak memory.

Sealed artifacts are not made again, so after any interruption the same command continues where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TypeVar

from react_ray.kinds import PAIRS
from react_ray.lease import give_back
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.memory import MemoryWatch
from react_ray.stages import customize, download, embed, evaluate, index, ingest, report, retrieve
from react_ray.stages.reporting.summary import costs_of
from react_ray.stages.training.checks import check_trainings
from react_ray.storage import open_storage

T = TypeVar("T")


def run(recipe: Recipe) -> str:
    """Runs everything; returns the table and the place of the report, as text."""
    clock = Clock(recipe)
    check_trainings(recipe)
    with clock.memory():
        made = clock.time("ingest", lambda: ingest.run(recipe))
        if made.kind == PAIRS and recipe.download.of == "pairs" and not recipe.fused:
            clock.time("download", lambda: download.run(recipe))
        clock.time("embed", lambda: embed.run(recipe))
        if recipe.retrieve.search == "index":
            clock.time("index", lambda: index.run(recipe))
        if recipe.database != recipe.out:
            give_back(recipe.database)  # from here on it is only read
        clock.time("retrieve", lambda: [retrieve.run(recipe, arm) for arm in recipe.arms_by_dependence()])
        if recipe.download.of == "retrieved":
            clock.time("download", lambda: download.run(recipe))
        clock.time("customize", lambda: customize.run(recipe))
        clock.time("evaluate", lambda: evaluate.run(recipe))
    return report.run(recipe)


class Clock:
    """Keeps the seconds of each stage, added up over interrupted runs, and the peak memory in `<run>/costs.json`."""

    def __init__(self, recipe: Recipe) -> None:
        self.storage = open_storage(Layout(recipe).run)
        self.costs = costs_of(self.storage)

    def time(self, stage: str, action: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return action()
        finally:
            seconds = self.costs.seconds
            seconds[stage] = round(seconds.get(stage, 0.0) + time.monotonic() - began, 2)
            self._write()

    @contextmanager
    def memory(self) -> Iterator[None]:
        watch = MemoryWatch()
        try:
            with watch:
                yield
        finally:
            self.peak(watch.peak_gb)

    def peak(self, gigabytes: float) -> None:
        self.costs.peak_rss_gb["all"] = round(max(gigabytes, self.costs.peak_rss_gb.get("all", 0.0)), 3)
        self._write()

    def _write(self) -> None:
        self.storage.write("costs.json", json.dumps(asdict(self.costs), indent=1).encode())
