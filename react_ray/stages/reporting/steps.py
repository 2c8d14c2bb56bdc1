"""Finds how far a run is: which verbs of a recipe are done, which have begun, and what comes next."""

from __future__ import annotations

from react_ray.artifact import open_artifact, plan_of
from react_ray.kinds import PAIRS
from react_ray.manifest import MANIFEST
from react_ray.recipe import Recipe
from react_ray.report.data import Step
from react_ray.runtime.layout import Layout
from react_ray.stages.reporting.outcomes import scores_uri
from react_ray.storage import join, open_storage

NO_SCORES = (
    "There are no scores yet, because evaluate.datasets is empty: to compare the model with its base, add "
    "`evaluate: {datasets: {test: FILE}}` to the recipe, where FILE is a Parquet file of labelled images (columns "
    "image and label), and run `react-ray run RECIPE` again, which only adds the scores."
)


def steps_of(recipe: Recipe) -> list[Step]:
    """Returns the verbs of a recipe in their order, without those that it does not need."""
    layout = Layout(recipe)
    listed = plan_of(layout.database("pairs")).get("kind") == PAIRS.name
    roots = list(dict.fromkeys(Layout(recipe, arm).retrieved_root() for arm in recipe.arm_names()))
    steps = [_step("ingest", [layout.database("pairs" if listed else "images")], "pairs")]
    if listed and recipe.download.of == "pairs" and not recipe.fused:
        steps.append(_step("download", [layout.database("images")], "images"))
    steps.append(_step("embed", [layout.database("embeddings")], "pairs"))
    if recipe.retrieve.search == "index":
        steps.append(_step("index", [layout.database("index")], ""))
    steps.append(_step("retrieve", [join(root, "retrieved") for root in roots], "pairs"))
    if recipe.download.of == "retrieved":
        steps.append(_step("download", [join(root, "images") for root in roots], "images"))
    steps.append(_step("customize", [Layout(recipe, arm).of_arm("model") for arm in recipe.arm_names()], ""))
    if recipe.evaluate.datasets:
        scores = [scores_uri(recipe, name) for name in [*recipe.bases(), *recipe.arm_names()]]
        steps.append(_step("evaluate", scores, ""))
    return steps


def next_step(recipe: Recipe, steps: list[Step]) -> str:
    """Says what to do for the steps that are missing; "" if the run is complete."""
    after = max((i for i, step in enumerate(steps) if step.state == "done"), default=-1) + 1
    missing = [step.verb for step in steps[after:]]
    if missing:
        last = f" to {missing[-1]}" if len(missing) > 1 else ""
        said = f"Next: `react-ray run RECIPE`, which goes on with {missing[0]}{last}."
        return said if recipe.evaluate.datasets else f"{said} {NO_SCORES}"
    return "" if recipe.evaluate.datasets else NO_SCORES


def _step(verb: str, uris: list[str], noun: str) -> Step:
    """A step is done if all its artifacts are finished; what several of them hold is counted together."""
    finished = [uri for uri in uris if open_storage(uri).exists(MANIFEST)]
    if len(finished) < len(uris):
        begun = finished or any(map(plan_of, uris))
        text = f"{len(finished)} of {len(uris)}" if finished else ""
        return Step(verb, "begun" if begun else "open", text)
    rows = sum(open_artifact(uri).rows for uri in finished) if noun else 0
    return Step(verb, "done", f"{rows:,} {noun}" if noun else f"{len(uris)} models" if len(uris) > 1 else "")
