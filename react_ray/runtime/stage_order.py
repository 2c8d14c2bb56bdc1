"""The verbs of a recipe in their order: which of them a run goes through, and what comes after it."""

from __future__ import annotations

import difflib

from react_ray.errors import ConfigError
from react_ray.recipe import Recipe
from react_ray.runtime import done
from react_ray.runtime.layout import Layout

STAGES = ("ingest", "download", "embed", "index", "retrieve", "customize", "evaluate", "report")
OF_DATABASE = ("ingest", "download", "embed", "index")


def stages_of(recipe: Recipe, first: str = "", last: str = "") -> list[str]:
    """Returns the verbs from `first` to `last`, both included, that this recipe has; "" = from the start, to the end.

    A stage that the recipe leaves out, such as index with retrieve.search=exact, may be named all the same: the run
    begins or ends where it would be. ConfigError for an unknown stage, for a wrong order, and for no stage at all.
    """
    order = _order(recipe)
    start = _place(order, "--from", first) if first else 0
    end = _place(order, "--until", last) if last else len(order) - 1
    if start > end:
        raise ConfigError(
            f"--from {first} comes after --until {last}; the order is {', '.join(order)}: name the earlier one first"
        )
    left_out = {"download"} if recipe.fused and recipe.download.of == "pairs" else set()
    left_out |= {"index"} if recipe.retrieve.search == "exact" else set()
    left_out |= set() if recipe.evaluate.uris else {"evaluate"}
    chosen = [stage for stage in order[start : end + 1] if stage not in left_out]
    if not chosen:
        raise ConfigError(
            f"this recipe leaves {' and '.join(order[start : end + 1])} out, so there is nothing to run; name another "
            "stage"
        )
    return chosen


def answered(recipe: Recipe, stages: list[str]) -> str | None:
    """What a run of these stages prints, if there is nothing to do for any of them; None if there is."""
    said = {stage: done.answer(recipe, stage) for stage in stages if stage != "download" or has_urls(recipe)}
    if any(text is None for text in said.values()):
        return None
    return said["report"] if stages[-1] == "report" else ended(recipe, stages[-1])


def ended(recipe: Recipe, last: str) -> str:
    """What a run prints that ends after the stage `last`: what there is, where to look at it, and how to go on."""
    of_run = last not in OF_DATABASE or (recipe.download.of == "retrieved" and last == "download")
    look = f"look at it: react-ray show {recipe.out if of_run else recipe.database}"
    lines = [line for line in done.said(recipe, last).splitlines() if line != look]
    lines.append(look)
    order = _order(recipe)
    after = stages_of(recipe, order[order.index(last) + 1])
    coming = [stage for stage in after if stage != "download" or has_urls(recipe)]
    made = [stage for stage in coming if stage != "report" and done.answer(recipe, stage) is not None]
    if made:
        lines.append(f"done already, and not changed: {', '.join(made)}")
    todo = [stage for stage in coming if stage not in made]
    if todo == ["report"] and done.answer(recipe, "report") is not None:
        return "\n".join([*lines, "the report is there too: react-ray run RECIPE prints its table"])
    return "\n".join([*lines, f"go on: react-ray run RECIPE, which comes to {', '.join(todo)}"])


def has_urls(recipe: Recipe) -> bool:
    """False if ingest found the images in the source, so that there is nothing to download."""
    return recipe.download.of == "retrieved" or not done.made_of_source(Layout(recipe).database("images"))


def _order(recipe: Recipe) -> list[str]:
    order = list(STAGES)
    if recipe.download.of == "retrieved":  # only the images of retrieved pairs are downloaded
        order.remove("download")
        order.insert(order.index("retrieve") + 1, "download")
    return order


def _place(order: list[str], option: str, stage: str) -> int:
    if stage not in order:
        near = difflib.get_close_matches(stage, order, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"name one of {', '.join(order)}"
        raise ConfigError(f"{option} {stage}: no such stage; {hint}")
    return order.index(stage)
