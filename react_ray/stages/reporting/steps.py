"""Finds how far a run is: which verbs of a recipe are done, which have begun, and what comes next."""

from __future__ import annotations

from react_ray.artifact import open_artifact, plan_of
from react_ray.gated.config import runs_no_model
from react_ray.manifest import MANIFEST
from react_ray.recipe import Recipe
from react_ray.report.data import Step
from react_ray.runtime.layout import HEAD, Layout, any_customised, models
from react_ray.runtime.stage_order import has_urls, stages_of
from react_ray.storage import join, open_storage

ADD_SCORES = (
    "add `evaluate: {datasets: {test: FILE}}` to the recipe. FILE is a labelled set: a Parquet file with columns "
    "image and label, or a folder with a subfolder of images for each class."
)


def steps_of(recipe: Recipe) -> list[Step]:
    """Returns the verbs of a recipe in their order, without those that it does not need."""
    return [_step(verb, uris, noun) for verb, uris, noun in artifacts_of(recipe)]


def artifacts_of(recipe: Recipe) -> list[tuple[str, list[str], str]]:
    """Returns (verb, the URIs of the artifacts that finish it, what their rows are) for each verb that is needed."""
    verbs = [verb for verb in stages_of(recipe) if verb != "report" and (verb != "download" or has_urls(recipe))]
    verbs = [verb for verb in verbs if verb == "evaluate"] if evaluates_alone(recipe) else verbs
    return [(verb, *_made_by(recipe, verb, "download" in verbs)) for verb in verbs]


def next_step(recipe: Recipe, steps: list[Step]) -> str:
    """Says what to do for the steps that are missing; "" if the run is complete."""
    after = max((i for i, step in enumerate(steps) if step.state == "done"), default=-1) + 1
    missing = [step.verb for step in steps[after:]]
    if missing:
        last = f" to {missing[-1]}" if len(missing) > 1 else ""
        goes_on = "evaluate" if evaluates_alone(recipe) else "run"
        said = f"Next: `react-ray {goes_on} RECIPE`, which goes on with {missing[0]}{last}."
        return said if recipe.evaluate.uris else f"{said} For scores, {ADD_SCORES}"
    if recipe.evaluate.uris:
        return ""
    return (
        f"There are no scores. To compare the model with its base, {ADD_SCORES} Then `react-ray run RECIPE` adds them."
    )


def evaluates_alone(recipe: Recipe) -> bool:
    """True for a recipe that has no pairs to customise a model with, and no model."""
    return not (recipe.ingest.source or any_customised(recipe))


def _made_by(recipe: Recipe, verb: str, downloads: bool) -> tuple[list[str], str]:
    """Returns the URIs of the artifacts that a verb makes, and what their rows are; "" = nothing to count."""
    layout, arms = Layout(recipe), recipe.arm_names()
    roots = list(dict.fromkeys(Layout(recipe, arm).retrieved_root() for arm in arms))
    of_retrieved = downloads and recipe.download.of == "retrieved"
    if verb == "ingest":
        listed = plan_of(layout.database("pairs")) or not plan_of(layout.database("images"))
        return [layout.database("pairs" if listed else "images")], "pairs"
    if verb == "download":
        return [join(root, "images") for root in roots] if of_retrieved else [layout.database("images")], "images"
    if verb == "retrieve":
        return [join(root, "retrieved") for root in roots], "pairs"
    if verb == "customize":
        return [Layout(recipe, arm).of_arm("model") for arm in arms], ""
    if verb == "evaluate":
        rows = [row for row in models(recipe) if row in recipe.bases() or not evaluates_alone(recipe)]
        classified = rows if recipe.evaluate.datasets or not recipe.evaluate.uris else []
        return [*(models(recipe)[row] for row in classified), *_other_scores(recipe, rows)], ""
    return [layout.database("embeddings" if verb == "embed" else "index")], "pairs" if verb == "embed" else ""


def _other_scores(recipe: Recipe, rows: list[str]) -> list[str]:
    """Those of protocols that only models with prompts have."""
    rows = [row for row in rows if row in recipe.bases() or not row.endswith(HEAD)]
    rows = [row for row in rows if row in recipe.bases() or not runs_no_model(recipe.arm(row).customize.method)]
    sets = recipe.evaluate.other_sets.items()
    return [Layout(recipe).protocol_scores(row, of, name) for of, some in sets for row in rows for name in some]


def _step(verb: str, uris: list[str], noun: str) -> Step:
    """A step is done if all its artifacts are finished; what several of them hold is counted together."""
    finished = [uri for uri in uris if open_storage(uri).exists(MANIFEST)]
    if len(finished) < len(uris):
        begun = finished or any(map(plan_of, uris))
        text = f"{len(finished)} of {len(uris)}" if finished else ""
        return Step(verb, "begun" if begun else "open", text)
    rows = sum(open_artifact(uri).rows for uri in finished) if noun else 0
    return Step(verb, "done", f"{rows:,} {noun}" if noun else f"{len(uris)} models" if len(uris) > 1 else "")
