"""Changes: which fields of a recipe may differ from those that a run was begun with.

A field may change as long as no artifact of the run depends on it. `refuse` compares the recipe that the run keeps with
the one that is given, for each retrieval, model and scores that exist; the stages compare all other artifacts
themselves, when they open them. Arms may come and go: a new arm is work that is missing, and the folder of a removed
arm stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.manifest import BUILDING, MANIFEST
from react_ray.progress import say
from react_ray.recipe import Recipe, recipe_of
from react_ray.runtime.layout import Layout
from react_ray.section import differences
from react_ray.storage import Storage, join, open_storage

RECIPE = "recipe.yaml"  # the first file of a run; also in the folder of an arm that a recipe no longer has
ALL = "all"  # as retrieve.decontaminate.datasets
RETRIEVAL = (
    "queries",
    "random_queries",
    "asked",
    "allowed",
    "hits",
    "random_hits",
    "matched",
    "random_queries",
    "random_hits",
    "candidates",
    "references",
    "selected",
    "retrieved",
    "images",
    "image_vectors",
)
MODEL = ("model", "checkpoints", "labelled")
SECOND_STAGE = ("features", "head", "scores_head", "labelled")
# What each artifact depends on, besides the evaluation sets that it uses.
OF_RETRIEVED = ("seed", "tasks", "backbone", "ingest", "download", "embed", "index", "retrieve")
OF_MODEL = (*OF_RETRIEVED, "name", "customize")
OF_BASE_SCORES = ("seed", "tasks", "backbone", "evaluate")
OF_SCORES = (*OF_MODEL, "evaluate")
OF_SOURCE_MODEL = ("seed", "tasks", "backbone", "ingest", "name", "customize")  # train_on=source retrieves nothing
NUM_SHOWN = 5


def refuse(recipe: Recipe) -> None:
    """Does what `check_changes` does, and says which arms the recipe no longer has."""
    if found := check_changes(recipe):
        _keep_removed(open_storage(recipe.out), found, recipe)


def check_changes(recipe: Recipe) -> Recipe | None:
    """ArtifactMismatch if an artifact of the run depends on a field that has changed since, with both values and what
    to delete. Returns the recipe that the run keeps, None if there is none or if nothing changed."""
    storage = open_storage(recipe.out)
    found = _recipe_of(storage, recipe) if storage.exists(RECIPE) else None
    if found is None or found.digested() == recipe.digested():
        return None
    changed = {one: lines for one in _dependents(found, recipe) if (lines := one.differing())}
    if changed:
        lines = list(dict.fromkeys(line for lines in changed.values() for line in lines))
        places = dict.fromkeys(place.removeprefix(f"{storage.uri}/") for one in changed for place in one.places())
        raise ArtifactMismatch(
            f"{recipe.out} is a run of another recipe: {'; '.join(lines[:NUM_SHOWN])}; use out=... for a new run, or "
            f"delete what depends on it there ({', '.join(places)}) and run the same command again"
        )
    return found


@dataclass(frozen=True, eq=False)
class _Dependent:
    """An artifact that exists, with the recipes by which it was made and would be made now."""

    root: str  # of the run or of the arm
    names: tuple[str, ...]  # beginnings of the names of what would be made anew, below `root`
    fields: tuple[str, ...]
    sets: str  # how it uses evaluation sets: "references", "watched", "scored", or "" for not at all
    before: Recipe
    now: Recipe

    def differing(self) -> list[str]:
        lines = differences(self._of(self.before), self._of(self.now), "recipe")
        before, now = _sets(self.before, self.sets), _sets(self.now, self.sets)
        if self.sets == "scored":  # sets that were added are scored alone, and the scores of others do no harm
            both = before.keys() & now.keys()
            before, now = ({name: sets[name] for name in sorted(both)} for sets in (before, now))
        return lines + ([f"recipe.evaluate.datasets was {before!r}, now {now!r}"] if before != now else [])

    def places(self) -> list[str]:
        """The URIs to delete."""
        paths = open_storage(self.root).list()
        found = {path.split("/")[0] for path in paths if "/" in path and path.startswith(self.names)}
        return [join(self.root, name) for name in sorted(found)]

    def _of(self, recipe: Recipe) -> dict[str, Any]:
        values = {name: value for name, value in recipe.digested().items() if name in self.fields}
        if "evaluate" in values:
            values["evaluate"].pop("datasets")
        if "customize" in values and self.names != SECOND_STAGE:
            values["customize"] = recipe.customize.of_model()
        return values


def _dependents(found: Recipe, recipe: Recipe) -> Iterator[_Dependent]:
    """All that exists and would be used as it is. found: the recipe that the run keeps."""
    if _exists(join(recipe.out, "retrieved")):
        yield _Dependent(recipe.out, RETRIEVAL, OF_RETRIEVED, "references", found, recipe)
    if any(_exists(Layout(recipe).scores(name)) for name in recipe.bases()):
        yield _Dependent(recipe.out, ("scores",), OF_BASE_SCORES, "scored", found, recipe)
    for arm in recipe.arm_names():
        before, now, root = _before(found, recipe, arm), recipe.arm(arm), Layout(recipe, arm).arm_root
        if before is None:
            continue
        if not recipe.shares_retrieval(arm) and _exists(join(root, "retrieved")):
            yield _Dependent(root, RETRIEVAL, OF_RETRIEVED, "references", before, now)
        retrieves = "retrieved" in (before.customize.train_on, now.customize.train_on)
        fields, sets = (OF_MODEL, "references") if retrieves else (OF_SOURCE_MODEL, "")
        if _exists(join(root, "model")):
            yield _Dependent(root, MODEL, fields, sets, before, now)
            yield _Dependent(root, MODEL, (), "watched", before, now)
        if _exists(join(root, "head")) and now.customize.head:
            yield _Dependent(root, SECOND_STAGE, fields, sets, before, now)
        if _exists(join(root, "scores")):
            yield _Dependent(root, ("scores",), (*fields, "evaluate"), "scored", before, now)


def _before(found: Recipe, recipe: Recipe, arm: str) -> Recipe | None:
    """The arm as the run knows it, or as it was when a recipe no longer had it; None for a new arm."""
    if arm in found.arm_names():
        return found.arm(arm)
    storage = open_storage(Layout(recipe, arm).arm_root)
    if not arm or not storage.exists(RECIPE):
        return None
    kept = _recipe_of(storage, recipe)
    return kept.arm(arm) if kept and arm in kept.arms else None


def _sets(recipe: Recipe, used: str) -> dict[str, str]:
    """The evaluation sets that an artifact uses, by name."""
    sets = recipe.evaluate.datasets
    if used == "scored":
        return sets
    if used == "watched":
        watched = recipe.customize.watch_dataset
        return {name: uri for name, uri in sets.items() if name == watched}
    named = recipe.retrieve.decontaminate.datasets if used == "references" else []
    return {name: uri for name, uri in sets.items() if named == [ALL] or name in named}


def _exists(uri: str) -> bool:
    """True for an artifact that is finished or begun."""
    storage = open_storage(uri)
    return storage.exists(BUILDING) or storage.exists(MANIFEST)


def _recipe_of(storage: Storage, recipe: Recipe) -> Recipe | None:
    """The recipe that a run, or a removed arm, keeps; None if it cannot be read and nothing was made by it yet.

    ArtifactMismatch if a version of this package with other fields wrote it.
    """
    try:
        return recipe_of(storage.read(RECIPE), f"{storage.uri}/{RECIPE}")
    except ConfigError as error:
        below = f"{recipe.database.removeprefix(storage.uri).strip('/')}/"  # a database may lie within the run
        if not any(_is_result(path) for path in storage.list() if not path.startswith(below)):
            return None
        raise ArtifactMismatch(
            f"{storage.uri}/{RECIPE} is not a recipe of this version of react_ray ({error}); use out=... for a new "
            "run, or delete that directory"
        ) from error


def _is_result(path: str) -> bool:
    return path.rpartition("/")[2] in (BUILDING, MANIFEST)


def _keep_removed(storage: Storage, found: Recipe, recipe: Recipe) -> None:
    """Keeps in the folder of each arm that the recipe no longer has what it was made with, in case it comes back."""
    for arm in found.arm_names():
        if arm in recipe.arm_names():
            continue
        below = f"arms/{arm}" if arm else "model"
        if not storage.list(below):
            continue
        if arm:
            storage.write(f"{below}/{RECIPE}", found.yaml().encode())
        what = f"arm {arm}" if arm else "model without a name, since it has arms now"
        say(f"the recipe no longer has the {what}; {join(storage.uri, below)} stays as it is, delete it to free room")
