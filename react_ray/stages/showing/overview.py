"""Lists all artifacts below a folder, one line each: those of a database, of a run and its arms, or of any folder.

Only the listing and the manifests are read, so that a database of 100,000 parts is listed as quickly as a small one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from react_ray.artifact import Artifact, open_artifact, plan_of
from react_ray.errors import ArtifactMissing, ReactRayError
from react_ray.kinds import RETRIEVED
from react_ray.manifest import BUILDING, MANIFEST
from react_ray.metadata import shaped
from react_ray.pairs.retrieval import ARMS
from react_ray.stages.showing.cells import size
from react_ray.storage import Storage, open_storage
from react_ray.yaml_file import parse_yaml

NUM_THREADS = 16
RECIPE = "recipe.yaml"
MOST_FILES = 12


@dataclass
class Entry:
    """One artifact of a folder. Rows are known of a finished one."""

    path: str
    kind: str
    finished: bool
    parts: int
    parts_done: int
    rows: int | None
    ok: int | None
    bytes: int
    problem: str = ""  # why it cannot be read, with what to do


@dataclass
class Overview:
    uri: str
    artifacts: list[Entry]
    files: dict[str, int] = field(default_factory=dict)  # that belong to no artifact: path -> bytes
    recipe: str = ""  # its name, of a run
    database: str = ""
    arms: dict[str, bool] = field(default_factory=dict)  # name -> whether it has a retrieval of its own
    problems: list[str] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        what = f"the run of recipe {self.recipe}, over {self.database}" if self.recipe else "artifacts"
        rows = [("artifact", "kind", "parts", "rows", "ok", "size")]
        rows += [
            (
                one.path,
                one.kind,
                f"{one.parts_done:,}/{one.parts:,}",
                "" if one.rows is None else f"{one.rows:,}",
                "" if one.ok is None else f"{one.ok:,}",
                size(one.bytes),
            )
            for one in self.artifacts
            if not one.problem
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [f"{self.uri}: {what}"]
        for row in rows:
            cells = [row[i].ljust(widths[i]) if i < 2 else row[i].rjust(widths[i]) for i in range(len(row))]
            lines.append(f"  {'  '.join(cells)}".rstrip())
        unfinished = [one.path for one in self.artifacts if not one.finished and not one.problem]
        lines += [f"not finished: {', '.join(unfinished)}"] if unfinished else []
        if self.arms:
            named = [f"{arm} (retrieves for itself)" if own else arm for arm, own in self.arms.items()]
            lines.append(f"arms: {', '.join(named)}")
        if self.files:
            shown = [path for path in self.files if "/" not in path][:MOST_FILES]
            total = f"{len(self.files):,} files, {size(sum(self.files.values()))}, belong to no artifact"
            lines.append(f"{total}: {', '.join(shown)}" if shown else total)
        return "\n".join([*lines, *(f"problem: {line}" for line in self.problems)])


def overview(uri: str) -> Overview:
    """Raises ArtifactMissing if no artifact lies at or below the URI, StorageError if it cannot be listed."""
    storage = open_storage(uri)
    sizes = storage.sizes()
    roots = sorted({folder for path in sizes if (folder := path.rpartition("/")[0]) and _is_metadata(path)})
    if not roots and RECIPE not in sizes:
        what = "no artifact here" if sizes else "nothing here"
        raise ArtifactMissing(f"{storage.uri}: {what}; name an artifact, a database, the folder of a run, or a recipe")
    owner = {path: _root_of(path, set(roots)) for path in sizes}
    by_root: dict[str, dict[str, int]] = {root: {} for root in roots}
    for path, root in owner.items():
        if root:
            by_root[root][path.removeprefix(f"{root}/")] = sizes[path]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        entries = list(pool.map(partial(_entry, storage), roots, by_root.values()))
    others = {path: sizes[path] for path in sizes if not owner[path] and not path.rpartition("/")[2].startswith(".")}
    found = Overview(storage.uri, entries, others)
    found.problems = [one.problem for one in entries if one.problem]
    if RECIPE in sizes:
        _add_recipe(found, storage, roots)
    return found


def _add_recipe(found: Overview, storage: Storage, roots: list[str]) -> None:
    try:
        recipe = saved_recipe(storage)
    except ReactRayError as error:
        found.problems.append(str(error))
        return
    found.recipe, found.database = recipe.name, recipe.database
    begun = {path.split("/")[1] for path in roots if path.startswith(f"{ARMS}/")}
    found.arms = {arm: f"{ARMS}/{arm}/{RETRIEVED.name}" in roots for arm in [*recipe.arms, *sorted(begun)]}


def _entry(storage: Storage, root: str, files: dict[str, int]) -> Entry:
    done = sum(1 for name in files if name.startswith("part-") and name.endswith(".json"))
    num_bytes = sum(files.values())
    try:
        if MANIFEST in files:
            artifact: Artifact[Any] = open_artifact(storage.at(root).uri)
            manifest = artifact.manifest
            return Entry(
                root, manifest.kind, True, manifest.parts, manifest.parts, manifest.rows, manifest.ok, num_bytes
            )
        plan = plan_of(storage.at(root).uri)
        return Entry(root, plan["kind"], False, plan["parts"], done, None, None, num_bytes)
    except ReactRayError as error:
        return Entry(root, "", False, 0, done, None, None, num_bytes, str(error))


def _is_metadata(path: str) -> bool:
    return path.rpartition("/")[2] in (MANIFEST, BUILDING)


def _root_of(path: str, roots: set[str]) -> str:
    """The innermost artifact that a file lies in; "" if none."""
    while path := path.rpartition("/")[0]:
        if path in roots:
            return path
    return ""


@dataclass(frozen=True)
class SavedRecipe:
    """What a reader of a run needs of its recipe, which may be of another version of this package."""

    name: str
    database: str
    arms: dict[str, Any] = field(default_factory=dict)


def saved_recipe(storage: Storage) -> SavedRecipe:
    """The recipe that a run began with. Raises ConfigError or ArtifactCorrupt if the file is damaged."""
    where = f"{storage.uri}/{RECIPE}"
    return shaped(parse_yaml(storage.read(RECIPE), where), SavedRecipe, where, "name the run's artifacts one by one")


def recipe_of_run(root: str) -> SavedRecipe | None:
    """The recipe of the run that a retrieval lies in: at `root`, or above it in <run>/arms/NAME. None if none is."""
    run = root.rpartition("/")[0].rpartition("/")[0]
    for place in (root, run):
        if place and open_storage(place).exists(RECIPE):
            return saved_recipe(open_storage(place))
    return None
