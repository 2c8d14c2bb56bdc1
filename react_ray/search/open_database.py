"""open_database: a database by its own URI, by that of a run, or by a recipe, local or on S3."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from react_ray.artifact import open_artifact
from react_ray.clip.config import BackboneConfig
from react_ray.errors import ArtifactMissing, ReactRayError
from react_ray.kinds import EMBEDDINGS
from react_ray.manifest import MANIFEST
from react_ray.search.database import OpenDatabase
from react_ray.search.query_model import described
from react_ray.storage import join, open_storage

if TYPE_CHECKING:
    from react_ray.recipe import Recipe

RECIPE = "recipe.yaml"  # the first file of a run
OF_RECIPES = (".yaml", ".yml")


def open_database(
    uri: str, backbone: BackboneConfig | dict[str, Any] | None = None, overrides: list[str] | None = None
) -> OpenDatabase:
    """Opens a database for searching: `open_database(uri).search("a heron by the water")`. Nothing of Ray starts.

    uri: of a database, of a run, or of a recipe (.yaml). backbone: the model that embedded the database, as a recipe
    has it; None = that of the recipe or of the run, or the one that the database names. overrides: of a recipe.
    ArtifactMissing if there is no database, or if it is not embedded yet.
    """
    given = BackboneConfig.model_validate(backbone) if isinstance(backbone, dict) else backbone
    if uri.endswith(OF_RECIPES):
        from react_ray.recipe import load_recipe  # half a second, which a database does not need

        return of_recipe(load_recipe(uri, overrides), given)
    storage = open_storage(uri)
    if storage.exists(f"{EMBEDDINGS.name}/{MANIFEST}"):
        if given:
            return OpenDatabase(uri, [given])
        return OpenDatabase(uri, _loaded_from(uri), others=partial(_of_run_beside, uri))
    if storage.exists(RECIPE):
        from react_ray.recipe import load_recipe

        return of_recipe(load_recipe(join(uri, RECIPE), overrides), given)
    raise ArtifactMissing(
        f"{storage.uri} is no embedded database, and no run with a {RECIPE}; run `react-ray embed RECIPE` first, or "
        "name the recipe"
    )


def of_recipe(recipe: Recipe, backbone: BackboneConfig | None = None) -> OpenDatabase:
    """Opens the database of a recipe, with its backbone, its keys and its way to search the index."""
    return OpenDatabase(recipe.database, [backbone or recipe.backbone], recipe.seed, recipe.index, recipe.retrieve.keys)


def _loaded_from(uri: str) -> list[BackboneConfig]:
    """What the model of a database may be loaded from, by the database itself."""
    facts = open_artifact(join(uri, EMBEDDINGS.name), EMBEDDINGS).facts
    found = []
    if facts.loaded_from:
        with suppress(ValueError):  # of another version of this package
            found.append(BackboneConfig.model_validate(facts.loaded_from))
    return [*found, *described(facts.backbone)]


def _of_run_beside(uri: str) -> list[BackboneConfig]:
    """The backbone of the run in whose folder the database lies, as that of a first run often does."""
    from react_ray.recipe import load_recipe

    database = open_storage(uri).uri
    with suppress(ReactRayError):
        recipe = load_recipe(join(database.rpartition("/")[0], RECIPE))
        if recipe.database == database:
            return [recipe.backbone]
    return []
