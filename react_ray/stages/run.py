"""run: runs all verbs of a recipe in order, for every arm, and records the time of each and the peak memory.

Sealed artifacts are not made again, so after any interruption the same command continues where it stopped. A run may
end before training, so that somebody can look at what was retrieved, and go on later.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from react_ray.lease import give_back
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.runtime import done
from react_ray.runtime.layout import Layout
from react_ray.runtime.memory import MemoryWatch
from react_ray.runtime.stage_order import OF_DATABASE, ended, has_urls, stages_of
from react_ray.stages import customize, download, embed, evaluate, index, ingest, report, retrieve
from react_ray.stages.reporting.summary import costs_of
from react_ray.stages.training.checks import check_trainings
from react_ray.storage import open_storage

VERBS: dict[str, Callable[[Recipe], Any]] = {
    "ingest": ingest.run,
    "download": download.run,
    "embed": embed.run,
    "index": index.run,
    "retrieve": lambda recipe: [retrieve.run(recipe, arm) for arm in recipe.arms_by_dependence()],
    "customize": customize.run,
    "evaluate": evaluate.run,
}


def run(recipe: Recipe, stages: Sequence[str] = ()) -> str:
    """Runs these stages, which `stages_of` gives; () = all. What is finished already is not looked at again.

    Returns the table and the place of the report, or, if the run ends before, what there is and how to go on.
    """
    stages = list(stages) or stages_of(recipe)
    clock = Clock(recipe)
    if "customize" in stages and done.answer(recipe, "customize") is None:
        check_trainings(recipe)
    if "customize" in stages and not recipe.evaluate.uris:
        say("evaluate   left out, because evaluate.datasets is empty")
    with clock.memory():
        for stage in stages[:-1] if stages[-1] == "report" else stages:
            if recipe.database != recipe.out and stage not in OF_DATABASE:
                give_back(recipe.database)  # from here on it is only read
            if stage == "download" and not has_urls(recipe):
                continue
            if done.answer(recipe, stage) is None:
                with done.remembering(recipe, stage) as remember:
                    made = clock.time(stage, partial(VERBS[stage], recipe))
                    remember(done.told(made))
    if stages[-1] != "report":
        return ended(recipe, stages[-1])
    with done.remembering(recipe, "report") as remember:
        text = report.run(recipe)
        remember(text)
    return text


class Clock:
    """Keeps the seconds of each stage, added up over interrupted runs, and the peak memory in `<run>/costs.json`."""

    def __init__(self, recipe: Recipe) -> None:
        self.storage = open_storage(Layout(recipe).run)
        self.costs = costs_of(self.storage)

    def time(self, stage: str, action: Callable[[], Any]) -> Any:
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
