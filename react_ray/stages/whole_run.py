"""run: all verbs of a recipe in their order, every arm, with the time and the memory that each took.

What is sealed is not done again, so the same command after any interruption goes on where it stopped.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psutil

from react_ray.recipe import Recipe
from react_ray.stages import customize, download, embed, evaluate, index, ingest, report, retrieve
from react_ray.stages.layout import Layout
from react_ray.storage import open_storage

T = TypeVar("T")
SAMPLE_INTERVAL_S = 10.0  # the kernel walks every page of every process: each second would slow a training


def run(recipe: Recipe) -> str:
    """Runs everything; returns the table and the path of the report, as text."""
    clock = Clock(recipe)
    with clock.memory():
        made = clock.time("ingest", lambda: ingest.run(recipe))
        if made.kind == "pairs" and recipe.download.of == "pairs" and not recipe.fused:
            clock.time("download", lambda: download.run(recipe))
        clock.time("embed", lambda: embed.run(recipe))
        if recipe.retrieve.search == "index":
            clock.time("index", lambda: index.run(recipe))
        clock.time("retrieve", lambda: [retrieve.run(recipe, arm) for arm in recipe.arms_by_dependence()])
        if recipe.download.of == "retrieved":
            clock.time("download", lambda: download.run(recipe))
        clock.time("customize", lambda: customize.run(recipe))
        clock.time("evaluate", lambda: evaluate.run(recipe))
    return report.run(recipe)


class Clock:
    """Seconds per stage and peak memory, added up over interrupted runs, in `<run>/costs.json`."""

    def __init__(self, recipe: Recipe) -> None:
        self.storage = open_storage(Layout(recipe).run)
        self.costs: dict[str, dict[str, float]] = {"seconds": {}, "peak_rss_gb": {}}
        if self.storage.exists("costs.json"):
            self.costs = json.loads(self.storage.read("costs.json"))

    def time(self, stage: str, action: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return action()
        finally:
            seconds = self.costs["seconds"]
            seconds[stage] = round(seconds.get(stage, 0.0) + time.monotonic() - began, 2)
            self._write()

    def memory(self) -> MemoryWatch:
        return MemoryWatch(self)

    def peak(self, gigabytes: float) -> None:
        self.costs["peak_rss_gb"]["all"] = round(max(gigabytes, self.costs["peak_rss_gb"].get("all", 0.0)), 3)
        self._write()

    def _write(self) -> None:
        self.storage.write("costs.json", json.dumps(self.costs, indent=1).encode())


class MemoryWatch:
    """The most memory of this process and all below it (a local Ray is below it); a shared page counts once."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.most = clock, 0.0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self.clock.peak(self.most)

    def _watch(self) -> None:
        me = psutil.Process()
        stopped = False
        while not stopped:
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                    continue
            self.most = max(self.most, total / 2**30)
            stopped = self.stop.wait(SAMPLE_INTERVAL_S)
