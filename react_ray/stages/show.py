"""show: what lies at a URI, as text or JSON, and the HTML gallery of what was retrieved there. It only reads artifacts.

Takes an artifact, a database, a run, the folder of an arm, or a recipe, on disk or on S3, finished or not; starts no
Ray. Of a run or a retrieval, it writes `gallery.html` there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from react_ray.errors import ArtifactMissing, ConfigError, StorageError
from react_ray.kinds import RETRIEVED, SELECTED
from react_ray.pairs.retrieval import ARMS, has_artifact, open_retrieval
from react_ray.recipe import load_recipe
from react_ray.report.class_gallery import render
from react_ray.stages.showing.describe import Description, describe
from react_ray.stages.showing.gallery import gallery_of
from react_ray.stages.showing.overview import Entry, Overview, overview, recipe_of_run
from react_ray.storage import absolute, join, open_storage
from react_ray.uri import target

GALLERY = "gallery.html"
RECIPES = (".yaml", ".yml")
RETRIEVALS = (RETRIEVED.name, SELECTED.name)


@dataclass
class Shown:
    """What `show` found. root: the folder with the retrieval that a gallery is made of; "" if there is none."""

    found: list[Description | Overview]
    root: str = ""
    hints: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        return [line for one in self.found if isinstance(one, Overview) for line in one.problems]

    def text(self) -> str:
        return "\n\n".join(one.text() for one in self.found)

    def json(self) -> dict[str, Any] | list[dict[str, Any]]:
        values = [one.json() for one in self.found]
        return values[0] if len(values) == 1 else values


def show(uri: str, overrides: list[str] | None = None, arm: str = "", num_rows: int = 3) -> Shown:
    """arm: the arm whose retrieval is meant, of a run or a recipe. Raises ArtifactMissing if nothing is there."""
    if is_recipe(uri):
        recipe = load_recipe(uri, overrides)
        shown = _show_run(recipe.out, arm) if _is_there(recipe.out) else Shown([])
        within_run = bool(shown.found) and recipe.database.startswith(f"{recipe.out}/")  # and so it is listed already
        if not within_run and _is_there(recipe.database):
            shown.found.append(overview(recipe.database))
        if not shown.found:
            raise ArtifactMissing(
                f"{uri}: neither its run {recipe.out} nor its database {recipe.database} has begun; run `react-ray run "
                f"{uri}` first"
            )
        return shown
    if overrides:
        raise ConfigError(f"{overrides[0]}: fields are of a recipe, and {uri} is none; remove them, or name a recipe")
    _require_folder(uri)
    if not has_artifact(uri):
        return _show_run(uri, arm)
    if arm:
        raise ConfigError(f"--arm {arm}: {uri} is one artifact; name the run that has the arm")
    described = describe(uri, num_rows)
    folder, _, _ = described.uri.rpartition("/")
    return Shown([described], folder if described.kind in RETRIEVALS and described.parts_done else "")


def write_gallery(root: str, out: str = "") -> str:
    """Writes the gallery of the retrieval below `root`; returns the line that names it. A page is whole or not there.

    out: the URI of the page; "" = `gallery.html` in the folder of the retrieval.
    """
    retrieval = open_retrieval(root)
    recipe = recipe_of_run(retrieval.root)
    above, _, folder = retrieval.root.rpartition("/")
    name = recipe.name if recipe else folder
    title = f"{name}, arm {folder}" if recipe and above.endswith(f"/{ARMS}") else name
    page = render(gallery_of(retrieval, recipe, title))
    page_uri = target(out, "--out") if out else join(retrieval.root, GALLERY)
    place, _, file = page_uri.rpartition("/")
    try:
        open_storage(place or "/").write(file, page.encode())
    except StorageError as error:
        raise StorageError(f"{error}; or name another file with --out") from error
    return f"gallery of {len(retrieval.classes()):,} classes: {page_uri}"


def is_recipe(uri: str) -> bool:
    return uri.lower().endswith(RECIPES)


def _show_run(uri: str, arm: str) -> Shown:
    found = overview(uri)
    retrieved: dict[str, list[Entry]] = {}  # arm, or "" for the run itself -> its retrieved and selected pairs
    for one in found.artifacts:
        *above, name = one.path.split("/")
        if name in RETRIEVALS and (not above or (len(above) == 2 and above[0] == ARMS)):
            retrieved.setdefault("".join(above[1:]), []).append(one)
    if arm and arm not in {*retrieved, *found.arms}:
        known = ", ".join(dict.fromkeys([*found.arms, *filter(None, retrieved)])) or "no arms"
        raise ConfigError(f"--arm {arm}: {found.uri} has {known}; name one of its arms")
    chosen = arm if arm in retrieved else "" if "" in retrieved else next(iter(retrieved), "")
    others = [one for one in retrieved if one not in ("", chosen)]
    hints = [f"arm {one} retrieves for itself: react-ray show {found.uri} --arm {one}" for one in others]
    pairs = retrieved.get(chosen, [])
    if not any(one.parts_done for one in pairs) or any(one.problem for one in pairs):
        return Shown([found], "", hints)
    return Shown([found], join(found.uri, ARMS, chosen) if chosen else found.uri, hints)


def _is_there(uri: str) -> bool:
    return bool(open_storage(uri).list())


def _require_folder(uri: str) -> None:
    place, _, name = absolute(uri).rpartition("/")
    if name and place != "s3:/" and open_storage(place or "/").exists(name):
        raise ArtifactMissing(
            f"{uri} is a file; name the folder of an artifact, a database, a run, or a recipe (.yaml)"
        )
