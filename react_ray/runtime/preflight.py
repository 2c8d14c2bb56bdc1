"""What is looked at before Ray is started: that the run can be written, that it is this recipe's, that its inputs exist.

Next: ingest.py.
"""

from __future__ import annotations

from typing import Any

import yaml

from react_ray.artifact import open_artifact, plan_of
from react_ray.clip.prompts import load_tasks
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.gated.config import CustomizeConfig, needs_caption_vectors
from react_ray.kinds import EMBEDDINGS, INDEX, MODEL, PAIRS, PREDICTIONS, RETRIEVED, Kind
from react_ray.pairs.source import open_source
from react_ray.recipe import Recipe, as_recipe
from react_ray.runtime.layout import Layout
from react_ray.section import differences
from react_ray.selection.filters import parse
from react_ray.storage import check_writable, join, open_storage


def begin(recipe: Recipe, verb: str) -> None:
    """The resolved recipe is the first file of a run; a run of another recipe is not overwritten.

    At which weight of WiSE-FT models are scored may change until they are scored; which sets they are scored on may not, for
    retrieval was kept clear of those.
    """
    check_writable(recipe.out)
    if verb in ("run", "ingest", "download", "embed", "index"):
        check_writable(recipe.database)
    storage = open_storage(recipe.out)
    if storage.exists("recipe.yaml"):
        found = as_recipe(yaml.safe_load(storage.read("recipe.yaml")))
        now = recipe.model_copy(
            update={"evaluate": recipe.evaluate.model_copy(update={"wise_ft": found.evaluate.wise_ft})}
        )
        differing = differences(found.digested(), now.digested(), "recipe")
        if differing:
            raise ArtifactMismatch(
                f"{recipe.out} is a run of another recipe: {'; '.join(differing[:5])}; use out=... for a new run, or delete that directory"
            )
        if found.evaluate.wise_ft != recipe.evaluate.wise_ft and (scored := _scored(recipe)):
            raise ArtifactMismatch(
                f"{recipe.out} was scored with evaluate.wise_ft={found.evaluate.wise_ft:g}, now {recipe.evaluate.wise_ft:g}; "
                f"delete {', '.join(scored)} and evaluate again"
            )
    storage.write("recipe.yaml", recipe.yaml().encode())


def _scored(recipe: Recipe) -> list[str]:
    """URIs of the scores that are there, or begun."""
    candidates = [(base, "") for base in recipe.bases()] + [(arm, arm) for arm in recipe.arm_names()]
    return [uri for name, arm in candidates if plan_of(uri := Layout(recipe, arm).scores(name))]


def require(recipe: Recipe, verb: str) -> None:
    """ArtifactMissing for the first thing that `verb` needs and that is not there, before Ray is started for it."""
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
        open_source(
            recipe.ingest.model_copy(update={"max_rows": 1})
        )  # the first rows only: a long file is gone through once
    if verb in ("run", "retrieve", "evaluate"):
        load_tasks(recipe.tasks)
    trained = [recipe.arm(arm).customize for arm in recipe.arm_names()]
    if verb in ("run", "customize") and any(map(_reads_captions, trained)) and not recipe.embed.captions:
        raise ConfigError(
            "embed.captions=false leaves no vectors of captions, and training reads them; set embed.captions=true, or customize.live_text=true"
        )
    if verb in ("run", "evaluate", "report") and not recipe.evaluate.datasets:
        raise ConfigError(
            "evaluate.datasets is empty, so there is nothing to compare models on; name a Parquet file of labelled images, "
            "or use the verbs up to customize one by one"
        )
    if verb in ("run", "retrieve"):
        for arm in recipe.arm_names():
            parse(recipe.arm(arm).retrieve.filters)


def _reads_captions(config: CustomizeConfig) -> bool:
    """Whether a training needs stored vectors of captions: a backbone of its own runs its text tower where there are none."""
    if config.train_on == "source" or config.method == "linear":
        return False
    return config.extra_captions > 0 or (needs_caption_vectors(config) and not config.backbone.name)
