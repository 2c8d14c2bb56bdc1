"""Checks made before Ray starts: the run can be written, it belongs to this recipe, and its inputs exist."""

from __future__ import annotations

from typing import Any

from react_ray.artifact import open_artifact, plan_of
from react_ray.clip.prompts import load_tasks
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.evals.labelled import check_set
from react_ray.gated.config import CustomizeConfig, needs_text_tower
from react_ray.kinds import EMBEDDINGS, INDEX, MODEL, PAIRS, PREDICTIONS, RETRIEVED, Kind
from react_ray.lease import take
from react_ray.pairs.source import open_source
from react_ray.recipe import Recipe, recipe_of
from react_ray.runtime.layout import Layout
from react_ray.runtime.most_pairs import check_schedules
from react_ray.section import differences
from react_ray.selection.filters import parse
from react_ray.storage import Storage, check_writable, join, open_storage

RECIPE = "recipe.yaml"  # the first file of a run
NO_RESULTS = (RECIPE, "costs.json")


def begin(recipe: Recipe, verb: str) -> None:
    """Write the resolved recipe, the first file of a run. A run of another recipe is not overwritten.

    The WiSE-FT weight of the scores may change until there are scores. The evaluation sets may not change, because
    retrieval excluded their images.
    """
    check_writable(recipe.out)
    take(recipe.out)
    open_storage(recipe.out).sweep()
    if verb in ("run", "ingest", "download", "embed", "index"):
        check_writable(recipe.database)
    storage = open_storage(recipe.out)
    if storage.exists(RECIPE) and _has_begun(storage):
        found = _recipe_of(storage)
        now = recipe.model_copy(
            update={"evaluate": recipe.evaluate.model_copy(update={"wise_ft": found.evaluate.wise_ft})}
        )
        differing = differences(found.digested(), now.digested(), "recipe")
        if differing:
            raise ArtifactMismatch(
                f"{recipe.out} is a run of another recipe: {'; '.join(differing[:5])}; use out=... for a new run, or "
                "delete that directory"
            )
        if found.evaluate.wise_ft != recipe.evaluate.wise_ft and (scored := _scored(recipe)):
            raise ArtifactMismatch(
                f"{recipe.out} was scored with evaluate.wise_ft={found.evaluate.wise_ft:g}, now "
                f"{recipe.evaluate.wise_ft:g}; delete {', '.join(scored)} and evaluate again"
            )
    storage.write(RECIPE, recipe.yaml().encode())


def _has_begun(storage: Storage) -> bool:
    """False if the run ended before its first result, so that nothing in it is of the recipe that it names."""
    return any(path not in NO_RESULTS and not path.startswith(".") for path in storage.list())


def _recipe_of(storage: Storage) -> Recipe:
    """The recipe of a run that is there. ArtifactMismatch if a version of this package with other fields wrote it."""
    try:
        return recipe_of(storage.read(RECIPE), f"{storage.uri}/{RECIPE}")
    except ConfigError as error:
        raise ArtifactMismatch(
            f"{storage.uri}/{RECIPE} is not a recipe of this version of react_ray ({error}); use out=... for a new "
            "run, or delete that directory"
        ) from error


def _scored(recipe: Recipe) -> list[str]:
    """The URIs of all scores that are finished or begun."""
    candidates = [(base, "") for base in recipe.bases()] + [(arm, arm) for arm in recipe.arm_names()]
    return [uri for name, arm in candidates if plan_of(uri := Layout(recipe, arm).scores(name))]


def require(recipe: Recipe, verb: str) -> None:
    """ArtifactMissing, before Ray starts, for the first input of `verb` that is not there."""
    layout = Layout(recipe)
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
        if verb in ("evaluate", "report"):
            open_artifact(of_arm.of_arm("model"), MODEL)
        if verb == "report":
            open_artifact(of_arm.of_arm("scores"), PREDICTIONS)
    if verb in ("run", "ingest"):
        first_row = recipe.ingest.model_copy(
            update={"max_rows": 1, "max_unusable": 1}
        )  # ingest itself reads a long file, once
        open_source(first_row)
    if verb in ("run", "retrieve", "evaluate"):
        load_tasks(recipe.tasks)
    for name, uri in _watched_sets(recipe, verb).items():
        check_set(name, uri, load_tasks(recipe.tasks), recipe.evaluate.max_unreadable)
    trained = [recipe.arm(arm).customize for arm in recipe.arm_names()]
    if verb in ("run", "customize") and any(map(_reads_captions, trained)) and not recipe.embed.captions:
        raise ConfigError(
            "embed.captions=false leaves no vectors of captions, and training reads them; set embed.captions=true, or "
            "customize.live_text=true"
        )
    if verb in ("run", "evaluate", "report") and not recipe.evaluate.datasets:
        raise ConfigError(
            "evaluate.datasets is empty, so there is nothing to compare models on; name a Parquet file of labelled "
            "images, or use the verbs up to customize one by one"
        )
    if verb in ("run", "retrieve"):
        for arm in recipe.arm_names():
            parse(recipe.arm(arm).retrieve.filters)
    if verb in ("run", "customize"):
        check_schedules(recipe)
    embeds = verb in ("run", "retrieve") or (verb == "embed" and not layout.has_published_vectors())
    models = [recipe.backbone] if embeds else []
    if verb in ("run", "customize", "evaluate"):
        models += [base for base in recipe.bases().values() if base not in models]
    if models:
        from react_ray.clip.backbone import check_weights  # torch, which no other check needs

        for model in models:
            check_weights(model)


def _watched_sets(recipe: Recipe, verb: str) -> dict[str, str]:
    """Returns the evaluation sets that a verb will score models on: all of them, or those watched by trainings."""
    sets = recipe.evaluate.datasets
    if verb in ("run", "evaluate"):
        return sets
    if verb != "customize":
        return {}
    watched = {recipe.arm(arm).customize.watch_dataset for arm in recipe.arm_names()}
    return {name: uri for name, uri in sets.items() if name in watched}


def _reads_captions(config: CustomizeConfig) -> bool:
    """True if a training needs stored caption vectors. A backbone of its own can run its text tower instead."""
    return config.method != "linear" and not needs_text_tower(config) and not config.backbone.name
