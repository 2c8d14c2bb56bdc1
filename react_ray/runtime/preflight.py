"""Checks made before any work: the run can be written, it belongs to this recipe, and what it needs is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from react_ray.artifact import open_artifact
from react_ray.clip.prompts import load_tasks
from react_ray.errors import ConfigError
from react_ray.evals.check_sets import check_other_sets
from react_ray.evals.labelled import check_set, check_shots, class_ids
from react_ray.gated.config import CustomizeConfig, needs_text_tower, runs_no_model
from react_ray.kinds import EMBEDDINGS, INDEX, MODEL, PAIRS, RETRIEVED, Kind
from react_ray.lease import take
from react_ray.pairs.published import check_dimensions
from react_ray.pairs.source import open_source
from react_ray.recipe import Recipe
from react_ray.runtime.changes import RECIPE, refuse
from react_ray.runtime.layout import Layout, any_customised
from react_ray.runtime.most_pairs import check_schedules
from react_ray.selection.filters import parse
from react_ray.storage import check_writable, join, open_storage


def begin(recipe: Recipe, verb: str, stages: Sequence[str] = ()) -> None:
    """Write the resolved recipe, the first file of a run. ArtifactMismatch if artifacts of the run depend on a field
    that was another (changes.py).

    stages: those that `require` checks before; a command that is refused leaves the recipe of the run as it was.
    """
    check_writable(recipe.out)
    take(recipe.out)
    storage = open_storage(recipe.out)
    storage.sweep()
    if verb in ("run", "ingest", "download", "embed", "index"):
        check_writable(recipe.database)
    refuse(recipe)
    if stages:
        require(recipe, stages)
    storage.write(RECIPE, recipe.yaml().encode())


def require(recipe: Recipe, stages: Sequence[str]) -> None:
    """Checks, before Ray starts, what these stages will need, and raises for the first thing that is missing.

    stages: verbs in their order. What one of them makes is no input of the run, so artifacts are required of the first
    alone.
    """
    first, all_stages = stages[0], set(stages)
    if list(stages) == ["evaluate"] and not recipe.evaluate.uris:
        raise ConfigError(
            "evaluate.datasets is empty, so there is nothing to compare models on; name labelled images there, such as "
            "evaluate.datasets.test=FILE (a Parquet file, or class folders)"
        )
    layout = Layout(recipe)
    _require_artifacts(recipe, layout, first)
    if "ingest" in all_stages:
        first_row = recipe.ingest.model_copy(
            update={"max_rows": 1, "max_unusable": 1}
        )  # ingest itself reads a long file, once
        source = open_source(first_row)
        if source.has_vectors:
            from react_ray.clip.architecture import embedding_dim  # torch, which no other source needs here

            check_dimensions(source.read(0), first_row, embedding_dim(recipe.backbone))
    if all_stages & {"retrieve", "evaluate"}:
        load_tasks(recipe.tasks)
    for name, uri in _watched_sets(recipe, all_stages).items():
        check_set(name, uri, load_tasks(recipe.tasks), recipe.evaluate.max_unreadable)
    if "evaluate" in all_stages:
        check_shots(recipe.evaluate, load_tasks(recipe.tasks))
        check_other_sets(recipe.evaluate, load_tasks(recipe.tasks))
    if "customize" in all_stages:
        _check_labelled(recipe)
    trained = [recipe.arm(arm).customize for arm in recipe.arm_names()]
    if "customize" in all_stages and any(map(_reads_captions, trained)) and not recipe.embed.captions:
        raise ConfigError(
            "embed.captions=false leaves no vectors of captions, and training reads them; set embed.captions=true, or "
            "customize.live_text=true"
        )
    if "retrieve" in all_stages:
        for arm in recipe.arm_names():
            parse(recipe.arm(arm).retrieve.filters)
    if "customize" in all_stages:
        check_schedules(recipe)
    embeds = "retrieve" in all_stages or ("embed" in all_stages and not layout.has_published_vectors())
    models = [recipe.backbone] if embeds else []
    if all_stages & {"customize", "evaluate"}:
        models += [base for base in recipe.bases().values() if base not in models]
    if models:
        from react_ray.clip.backbone import check_weights  # torch, which no other check needs

        for model in models:
            check_weights(model)


def _require_artifacts(recipe: Recipe, layout: Layout, verb: str) -> None:
    """ArtifactMissing for the first input of `verb` that is not there."""
    needs: dict[str, list[Kind[Any]]] = {
        "download": [PAIRS] * (recipe.download.of == "pairs"),
        "index": [EMBEDDINGS],
        "retrieve": [EMBEDDINGS] + [INDEX] * (recipe.retrieve.search == "index"),
    }
    for kind in needs.get(verb, []):
        layout.open_database(kind)
    if verb == "embed" and not layout.has_published_vectors():
        layout.open_embedded()
    for arm in recipe.arm_names():
        of_arm = Layout(recipe, arm)
        needs_retrieved = verb == "customize" and recipe.arm(arm).customize.train_on == "retrieved"
        if needs_retrieved or (verb == "download" and recipe.download.of == "retrieved"):
            open_artifact(join(of_arm.retrieved_root(), "retrieved"), RETRIEVED)
        if verb == "evaluate" and any_customised(recipe):
            open_artifact(of_arm.of_arm("model"), MODEL)


def _check_labelled(recipe: Recipe) -> None:
    """ConfigError for labelled images that cannot be read, or have no class of their arm."""
    for arm in map(recipe.arm, recipe.arm_names()):
        if source := arm.customize.labelled:
            class_ids(source, load_tasks(arm.tasks), recipe.evaluate.max_unreadable)


def _watched_sets(recipe: Recipe, stages: set[str]) -> dict[str, str]:
    """Returns the evaluation sets that models will be scored on: all of them, or those watched by trainings."""
    sets = recipe.evaluate.datasets
    if "evaluate" in stages:
        return sets
    if "customize" not in stages:
        return {}
    watched = {recipe.arm(arm).customize.watch_dataset for arm in recipe.arm_names()}
    return {name: uri for name, uri in sets.items() if name in watched}


def _reads_captions(config: CustomizeConfig) -> bool:
    """True if a training needs stored caption vectors. A backbone of its own can run its text tower instead."""
    return not runs_no_model(config.method) and not needs_text_tower(config) and not config.backbone.name
