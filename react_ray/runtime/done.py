"""Done: what each verb of a run has finished and of what, so that the same command again answers at once.

`<run>/done.json` has, for each verb, a digest of everything that it read (the fields of the recipe, its files by size
and time, the artifacts by their manifests, this package's own code), the manifests of what it made, and what it
printed. If all of that is still so, there is nothing to do, which is found without Ray and without torch. Otherwise the
stage itself looks. The file is a cache, and nothing else reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from react_ray.artifact import open_artifact, plan_of
from react_ray.errors import ReactRayError
from react_ray.evals.set_places import set_places
from react_ray.manifest import MANIFEST
from react_ray.metadata import parse_json, shaped
from react_ray.recipe import Recipe
from react_ray.runtime.changes import ALL
from react_ray.runtime.layout import Layout, models, other_scores, scored
from react_ray.section import digest
from react_ray.storage import join, open_storage, versions
from react_ray.uri import PACKAGE_DIR

FILE = "done.json"
VALUES = {"report": "summary.json", "evaluate": "scores.json"}  # what a verb made, for programs
LOCAL_DIR = "local-dir:"
# The sections that each verb reads, with the fields that only change its speed: one that differs is looked at anew. Of
# `evaluate`, retrieve and customize read no more than the sets that they use.
READS = {
    "ingest": ("ingest", "backbone", "embed"),
    "download": ("download", "retrieve", "tasks", "arms"),
    "embed": ("seed", "backbone", "embed", "download"),
    "index": ("seed", "index"),
    "retrieve": ("seed", "tasks", "backbone", "download", "embed", "index", "retrieve", "arms"),
    "customize": tuple(name for name in Recipe.model_fields if name not in ("index", "evaluate")),
    "evaluate": tuple(Recipe.model_fields),
    "report": tuple(Recipe.model_fields),
}


@dataclass
class Finished:
    """What one verb finished. read: digest of all that it read. made: file -> its digest. said: what it printed."""

    read: str
    made: dict[str, str]
    said: str


@dataclass
class _Kept:
    verbs: dict[str, Finished] = field(default_factory=dict)


def answer(recipe: Recipe, verb: str) -> str | None:
    """What the verb printed when it finished, if there is nothing to do since; None if its stage has to look."""
    found = _read(recipe).verbs.get(verb)
    if found is None:
        return None
    try:
        if found.read != _state(recipe, verb) or any(_digest_of(uri) != made for uri, made in found.made.items()):
            return None
    except ReactRayError:  # the stage says what is wrong
        return None
    return found.said


@contextmanager
def remembering(recipe: Recipe, verb: str) -> Iterator[Callable[[str], None]]:
    """`with remembering(recipe, verb) as remember: work(); remember("what it printed")`.

    Nothing is remembered if what the verb reads has changed while it worked.
    """
    before = _state_or_none(recipe, verb)

    def remember(said: str) -> None:
        if before is None or _state_or_none(recipe, verb) != before:
            return
        kept = _read(recipe)
        kept.verbs[verb] = Finished(before, _made(recipe, verb), said)
        open_storage(recipe.out).write(FILE, json.dumps(asdict(kept), indent=1).encode())

    yield remember


def made_of_source(uri: str) -> bool:
    """True for an artifact that was made of the source itself."""
    return plan_of(uri).get("parents") == {}


def told(made: Any) -> str:
    """What a verb prints of the artifacts that it made; arms may share one."""
    lines = []
    for artifact in {one.uri: one for one in (made if isinstance(made, list) else [made])}.values():
        rows = f"{artifact.manifest.rows} rows in {artifact.num_parts} parts"
        lines.append(f"{artifact.uri}: {rows}, content {artifact.content}")
        lines += [f"  {line}" for line in getattr(artifact.facts, "summary", [])]
    return "\n".join(lines)


def values(recipe: Recipe, verb: str) -> Any:
    """What a verb made, as a JSON value: the summary of a report, the scores of an evaluation, or else a row for each
    artifact that is finished."""
    if verb in VALUES:
        return json.loads(open_storage(recipe.out).read(VALUES[verb]))
    rows = []
    for uri in dict.fromkeys(_results(recipe, verb)):
        if open_storage(uri).exists(MANIFEST):
            one = open_artifact(uri)
            about = {"uri": one.uri, "kind": one.kind.name, "rows": one.rows, "parts": one.num_parts}
            rows.append(about | {"content": one.content, "summary": getattr(one.facts, "summary", [])})
    return rows


def said(recipe: Recipe, verb: str) -> str:
    """What the verb printed when it finished last; "" if that is not known."""
    found = _read(recipe).verbs.get(verb)
    return found.said if found else ""


def _read(recipe: Recipe) -> _Kept:
    """What is remembered; nothing if the file is not there or was not written by this version."""
    storage = open_storage(recipe.out)
    try:
        return shaped(parse_json(storage.read(FILE), FILE, ""), _Kept, FILE, "") if storage.exists(FILE) else _Kept()
    except ReactRayError:
        return _Kept()


def _state_or_none(recipe: Recipe, verb: str) -> str | None:
    try:
        return _state(recipe, verb)
    except ReactRayError:
        return None


def _state(recipe: Recipe, verb: str) -> str:
    """A digest of all that a verb reads."""
    values = recipe.model_dump(mode="json", include=set(READS[verb]))
    values |= {
        "sets": _sets(recipe, verb),
        "database": recipe.database,
        "out": recipe.out,
        "on_gpus": recipe.cluster.gpus_per_actor > 0,
    }
    files = {uri: versions(uri) for uri in sorted(_files(recipe, verb)) if uri}
    artifacts = {uri: _digest_of(join(uri, MANIFEST)) for uri in _artifacts(recipe, verb)}
    values.pop("cluster", None)
    return digest([_code(), verb, values, files, artifacts, _beside(recipe, verb)])


def _made(recipe: Recipe, verb: str) -> dict[str, str]:
    if verb == "report":
        places = [join(recipe.out, name) for name in ("summary.json", "report.html", "table.md")]
    else:
        places = [join(uri, MANIFEST) for uri in _results(recipe, verb)]
        places += [join(recipe.out, VALUES[verb])] if verb in VALUES else []
    return {uri: made for uri in places if (made := _digest_of(uri))}


def _results(recipe: Recipe, verb: str) -> list[str]:
    """The URIs of the artifacts that a verb may make."""
    layout, roots, arms = Layout(recipe), _roots(recipe), _arms(recipe)
    of_pairs = recipe.download.of == "pairs"
    match verb:
        case "ingest":
            return [uri for uri in map(layout.database, ("pairs", "images", "embeddings")) if made_of_source(uri)]
        case "download":
            return [layout.database("images")] if of_pairs else [join(root, "images") for root in roots]
        case "embed":
            fetched = ["images"] if recipe.fused and recipe.download.keep_images else []
            return [layout.database(kind) for kind in ("embeddings", *fetched)]
        case "index":
            return [layout.database("index"), *_deltas(recipe)]
        case "retrieve":
            names = ("queries", "selected", "retrieved", *(["images"] if of_pairs else []))
            return [join(root, name) for root in (recipe.out, *roots) for name in names]
        case "customize":
            return [arm.of_arm("model") for arm in arms] + _heads(recipe)
    few = [layout.scores_few(row, name) for row in models(recipe) for name in recipe.evaluate.train]
    return [*scored(recipe).values(), *few, *other_scores(recipe)]


def _artifacts(recipe: Recipe, verb: str) -> list[str]:
    """The URIs of the artifacts that a verb may read."""
    layout, roots, arms = Layout(recipe), _roots(recipe), _arms(recipe)
    database = [layout.database(kind) for kind in ("pairs", "images", "embeddings", "index")]
    retrieved = [join(root, name) for root in (recipe.out, *roots) for name in ("queries", "retrieved", "images")]
    models = [arm.of_arm("model") for arm in arms] + _heads(recipe)
    match verb:
        case "ingest":
            return []
        case "download":
            return database[:1] if recipe.download.of == "pairs" else [join(root, "retrieved") for root in roots]
        case "embed":
            return database[:1] if recipe.fused else database[:2]
        case "index":
            return [database[0], database[2]]
        case "retrieve":
            return [*database, *_deltas(recipe)]
        case "customize":
            return [database[2], *retrieved]
        case "evaluate":
            return [*models, *(retrieved if recipe.evaluate.pixel_pairs else [])]
    return [*database, *retrieved, *models, *_results(recipe, "evaluate")]


def _beside(recipe: Recipe, verb: str) -> list[Any]:
    """What else a verb finds beside the artifacts, as far as it can change without them."""
    if verb == "index":
        return [_digest_of(join(recipe.database, "index", "compacting.json"))]
    if verb == "retrieve":
        return [versions(join(recipe.database, "deleted"))]
    if verb == "report":
        others = [join(uri, "summary.json") for uri in recipe.evaluate.other_runs]
        small = [
            _digest_of(uri) for uri in [join(recipe.out, "selection.json"), join(recipe.out, "costs.json"), *others]
        ]
        return [*small, open_storage(recipe.out).exists("gallery.html")]
    return []


def _files(recipe: Recipe, verb: str) -> set[str]:
    """The URIs that the sections name; some of them may be names of models, which are no files."""
    named = {
        "ingest": {recipe.ingest.source},
        "download": {recipe.download.blocked_file, recipe.download.ca_file},
        "embed": set(recipe.embed.heads.values()),
        "backbone": _weights(recipe.backbone),
        "tasks": {recipe.tasks.file}.union(*recipe.tasks.seed_images.values()),
        "evaluate": {*set_places(recipe.evaluate), recipe.evaluate.pixel_knn},
        "arms": set().union(*(_files_of_arm(recipe.arm(arm)) for arm in recipe.arm_names())),
    }
    trains = any(recipe.arm(arm).customize.train_on == "source" for arm in recipe.arm_names())
    if verb != "ingest" and not (verb == "customize" and trains):  # its rows are in the database
        named["ingest"] = set()
    return set(_sets(recipe, verb).values()).union(*(uris for name, uris in named.items() if name in READS[verb]))


def _sets(recipe: Recipe, verb: str) -> dict[str, str]:
    """The evaluation sets that `retrieve` or `customize` keep something apart from, or that `customize` watches."""
    arms = [recipe.arm(arm) for arm in recipe.arm_names()]
    used: set[str] = set()
    if verb == "retrieve":
        used = {name for one in [recipe, *arms] for name in one.retrieve.decontaminate.datasets}
    elif verb == "customize":
        used = {arm.customize.watch_dataset for arm in arms}
        used |= {ALL for arm in arms if arm.customize.labelled}  # no labelled image of one of them trains
    return {name: uri for name, uri in recipe.evaluate.datasets.items() if name in used or ALL in used}


def _files_of_arm(arm: Recipe) -> set[str]:
    own = {arm.tasks.file, arm.customize.labelled}
    return _weights(arm.customized) | own.union(*arm.tasks.seed_images.values())


def _weights(config: Any) -> set[str]:
    """The files and folders of a model; weights may lie beside its configuration."""
    name = config.name.removeprefix(LOCAL_DIR)
    if name.endswith(".json") and not config.pretrained:
        name = name.rpartition("/")[0] or "."
    return {name, config.pretrained, config.gated}


def _roots(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys(Layout(recipe, arm).retrieved_root() for arm in recipe.arm_names()))


def _arms(recipe: Recipe) -> list[Layout]:
    return [Layout(recipe, arm) for arm in recipe.arm_names()]


def _heads(recipe: Recipe) -> list[str]:
    return [Layout(recipe, arm).of_arm("head") for arm in recipe.arm_names() if recipe.arm(arm).customize.head]


def _deltas(recipe: Recipe) -> list[str]:
    storage = open_storage(join(recipe.database, "index"))
    return [join(storage.uri, path.rpartition("/")[0]) for path in storage.list("deltas") if path.endswith(MANIFEST)]


def _digest_of(uri: str) -> str:
    """The digest of a small file, "" if there is none."""
    folder, _, name = uri.rpartition("/")
    storage = open_storage(folder)
    return hashlib.sha256(storage.read(name)).hexdigest()[:16] if storage.exists(name) else ""


@cache
def _code() -> str:
    """Changes with the files of this package: other code may make other things of the same recipe."""
    files = sorted(PACKAGE_DIR.rglob("*.py"))
    return digest([[str(path.relative_to(PACKAGE_DIR)), path.stat().st_mtime_ns] for path in files])
