"""Looks at everything that a job will use, and keeps what is wrong with it: all of it, not the first thing alone.

Takes a recipe, gives a Survey: the source as it is seen, the classes, the evaluation sets, the models. Files are listed
and their first rows read; no URL is fetched, nothing is downloaded and nothing is written. Next: throughput.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from react_ray.artifact import plan_of
from react_ray.clip.architecture import architecture, embedding_dim, num_parameters, settled
from react_ray.clip.config import RANDOM, BackboneConfig
from react_ray.clip.identity import WEIGHT_FILES, short_name, tag_of
from react_ray.clip.pretrained import HUB, local_weights, tag_config
from react_ray.clip.prompts import load_tasks, prompts
from react_ray.clip.queries import make_queries
from react_ray.counted import counted
from react_ray.errors import ConfigError, ReactRayError
from react_ray.evals.check_sets import check_other_sets
from react_ray.evals.labelled import check_set, check_shots, class_ids, slices_of
from react_ray.gated.config import needs_text_tower, runs_no_model
from react_ray.pairs.published import check_dimensions
from react_ray.pairs.source import Source, open_source, to_images, to_pairs
from react_ray.planning.machine import existing
from react_ray.planning.made import Made, made
from react_ray.recipe import Recipe
from react_ray.runtime.changes import check_changes
from react_ray.runtime.layout import Layout
from react_ray.schema import OK
from react_ray.section import differences
from react_ray.selection.filters import parse
from react_ray.storage import absolute, check_writable, open_storage
from react_ray.uri import is_local

T = TypeVar("T")
SAMPLE_ROWS = 64


@dataclass(frozen=True)
class Sample:
    """The first rows of the source."""

    images: list[bytes] = field(default_factory=list)  # encoded, those that can be decoded
    captions: list[str] = field(default_factory=list)  # those that are not empty
    read_s: float = 0.0  # per row, of one core: reading, checking and hashing


@dataclass
class Survey:
    recipe: Recipe
    source: Source | None = None
    pairs: Made = field(default_factory=Made)  # the artifact, as far as it is there
    sample: Sample = field(default_factory=Sample)
    dim: int = 0
    model_gb: float = 0.0  # the weights of the largest model
    num_classes: int = 0
    num_queries: int = 0
    num_prompts: int = 0  # texts that are embedded for the queries, or for a classifier
    sets: dict[str, int] = field(default_factory=dict)  # evaluation set -> images
    labelled: dict[str, np.ndarray] = field(default_factory=dict)  # arm -> class ids of its labelled images
    facts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """The pairs of the database once it is complete."""
        return max(self.source.num_rows if self.source else 0, self.pairs.rows)

    @property
    def has_images(self) -> bool:
        return self.source.has_images if self.source else bool(made(Layout(self.recipe).database("images")).rows)

    @property
    def has_vectors(self) -> bool:
        return self.source.has_vectors if self.source else Layout(self.recipe).has_published_vectors()

    @property
    def row_bytes(self) -> float:
        """Of the source, per row."""
        return self.source.num_bytes / max(1, self.source.num_rows) if self.source else 0.0

    def attempt(self, action: Callable[..., T], *arguments: Any) -> T | None:
        """The result, or None if there is a problem, which is kept."""
        try:
            return action(*arguments)
        except ReactRayError as error:
            self.problem(str(error))
            return None

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)


def look(recipe: Recipe) -> Survey:
    found = Survey(recipe)
    _source(found)
    _classes(found)
    _sets(found)
    _labelled(found)
    _models(found)
    _sections(found)
    found.attempt(check_changes, recipe)
    for place in dict.fromkeys([recipe.database, recipe.out]):
        found.attempt(_writable, place)
    return found


def _source(found: Survey) -> None:
    recipe, uri = found.recipe, Layout(found.recipe).database("pairs")
    found.pairs = found.attempt(made, uri) or Made()
    found.source = found.attempt(open_source, recipe.ingest)
    if found.source is None:
        return
    found.facts.append(("source", f"{recipe.ingest.source}: {found.source.summary()[0]}"))
    found.facts += [("", line) for line in found.source.summary()[1:]]
    found.attempt(_same_source, recipe, uri)
    found.sample = found.attempt(_sample, recipe) or Sample()


def _same_source(recipe: Recipe, uri: str) -> None:
    before = plan_of(uri).get("config", {})
    if before and (differing := differences(before, recipe.ingest.digested(), "ingest")):
        raise ConfigError(
            f"{uri} was made of another source: {'; '.join(differing[:3])}; name another `database`, or delete that one"
        )


def _sample(recipe: Recipe) -> Sample:
    config = recipe.ingest.model_copy(update={"max_rows": SAMPLE_ROWS, "max_unusable": 1})
    source = open_source(config)
    _rows(source, source.read(0).slice(0, 2))  # loads the libraries that decode
    began = time.process_time()
    table = source.read(0)
    if source.has_vectors:
        check_dimensions(table, config, embedding_dim(recipe.backbone))
    pairs, images = _rows(source, table)
    read_s = (time.process_time() - began) / max(1, table.num_rows)
    good = [image for image in images["image"].to_pylist() if image] if images is not None else []
    if images is not None and not good:
        raise ConfigError(
            f"ingest.source: none of the first {table.num_rows} images of {recipe.ingest.source} can be decoded "
            f"({_reason(images)}); name the column of encoded images in ingest.image_column, or mend the source"
        )
    return Sample(good, [caption for caption in pairs["caption"].to_pylist() if caption], read_s)


def _rows(source: Source, table: pa.Table) -> tuple[pa.Table, pa.Table | None]:
    """(rows of `pairs`, rows of `images`), as ingest makes them"""
    images = to_images(table, 0, source.config) if source.has_images else None
    return to_pairs(table, 0, source.config), images


def _reason(images: pa.Table) -> str:
    reasons = zip(images["status"].to_pylist(), images["error"].to_pylist(), strict=True)
    return next((error or status for status, error in reasons if status != OK), "no reason is known")


def _classes(found: Survey) -> None:
    recipe = found.recipe
    tasks = found.attempt(load_tasks, recipe.tasks) or []
    averaged = recipe.retrieve.prompts == "averaged"
    queries = found.attempt(make_queries, recipe.tasks, averaged) or []
    found.num_classes = len({query.class_id for query in queries})
    found.num_queries = len(queries)
    found.num_prompts = sum(len(prompts(task)) for task in tasks) + len(recipe.tasks.queries)
    if queries:
        found.facts.append(
            (
                "classes",
                f"{found.num_classes:,} of {counted(len(tasks), 'task')}, {counted(found.num_prompts, 'prompt')}, "
                f"{counted(found.num_queries, 'query', 'queries')}",
            )
        )


def _sets(found: Survey) -> None:
    recipe = found.recipe
    tasks = []
    try:
        tasks = load_tasks(recipe.tasks)
    except ReactRayError:
        return  # it is among the problems already
    most = recipe.evaluate.max_unreadable
    for name, uri in recipe.evaluate.datasets.items():
        found.attempt(check_set, name, uri, tasks, most)
        slices = found.attempt(slices_of, name, uri, tasks, most)
        found.sets[name] = slices[-1].files.num_rows if slices else 0
    found.attempt(check_shots, recipe.evaluate, tasks)
    found.attempt(check_other_sets, recipe.evaluate, tasks)
    if others := [f"{protocol} on {name}" for protocol, sets in recipe.evaluate.other_sets.items() for name in sets]:
        found.note(f"what {', '.join(others)} takes is not reckoned")
    told = [f"{name} {rows:,} images" if rows else f"{name} cannot be read" for name, rows in found.sets.items()]
    found.facts.append(("sets", ", ".join(told) or "none: models are trained, and nothing is scored"))


def _labelled(found: Survey) -> None:
    """The labelled images of each arm that has some, as far as their labels tell: none is looked at."""
    for arm in found.recipe.arm_names():
        wanted = found.recipe.arm(arm)
        if not wanted.customize.labelled:
            continue
        class_id_N = found.attempt(_class_ids, wanted)
        if class_id_N is not None:
            found.labelled[arm] = class_id_N
            told = f"{len(class_id_N):,} images of {len(np.unique(class_id_N)):,} classes"
            found.facts.append((f"labelled {arm}".strip(), told))


def _class_ids(wanted: Recipe) -> np.ndarray:
    """int, of the images that would train: all of them, or customize.labelled_shots of each class."""
    _, labels = class_ids(wanted.customize.labelled, load_tasks(wanted.tasks), wanted.evaluate.max_unreadable)
    class_id_N = labels["class_id"].drop_null().to_numpy()
    classes, count_C = np.unique(class_id_N, return_counts=True)
    return np.repeat(classes, np.minimum(count_C, wanted.customize.labelled_shots or len(class_id_N)))


def _models(found: Survey) -> None:
    recipe = found.recipe
    models = [recipe.backbone, *(base for base in recipe.bases().values() if base != recipe.backbone)]
    found.dim = found.attempt(embedding_dim, recipe.backbone) or 0
    for model in models:
        found.attempt(_weights, model, found)
        found.model_gb = max(found.model_gb, 4 * (found.attempt(num_parameters, model) or 0) / 2**30)
    names = ", ".join(f"{short_name(model)} {tag_of(model)}".strip() for model in models)
    found.facts.append(("models", names))


def _weights(config: BackboneConfig, found: Survey) -> None:
    """BackboneError if the architecture or a file of weights is not there. What a hub has is left there."""
    if config.name.startswith(HUB) or config.pretrained.startswith(HUB):
        found.note(f"the first stage downloads {config.name} from its hub, unless it is in the cache")
        return
    config = settled(config)
    architecture(config)
    if tag_config(config.name, config.pretrained):
        found.note(
            f"the first stage downloads the weights {config.pretrained} of {config.name}, unless they are in the cache"
        )
    elif config.pretrained != RANDOM and is_local(absolute(config.pretrained or config.name)):
        local_weights(config)
    elif config.pretrained.endswith(WEIGHT_FILES):
        folder, _, name = config.pretrained.rpartition("/")
        if not open_storage(folder).exists(name):
            raise ConfigError(f"backbone.pretrained={config.pretrained}: there is no such object; name one")


def _sections(found: Survey) -> None:
    """Fields that contradict each other, or the source."""
    recipe = found.recipe
    trained = [recipe.arm(arm).customize for arm in recipe.arm_names()]
    stored = any(not runs_no_model(c.method) and not needs_text_tower(c) and not c.backbone.name for c in trained)
    if stored and not recipe.embed.captions:
        found.problem(
            "embed.captions=false leaves no vectors of captions, and training reads them; set embed.captions=true, or "
            "customize.live_text=true"
        )
    for arm in recipe.arm_names():
        found.attempt(parse, recipe.arm(arm).retrieve.filters)
    urls_stay = recipe.download.of == "retrieved" and not recipe.fused
    if found.source and not (found.has_images or found.has_vectors) and recipe.embed.images and urls_stay:
        found.problem(
            "embed.images needs the images of the whole database, and download.of=retrieved leaves them where they "
            "are; set embed.images=false, or download.of=pairs"
        )


def _writable(place: str) -> None:
    """Without making the folder."""
    if not is_local(place):
        check_writable(place)
    elif not os.access(existing(place), os.W_OK | os.X_OK):
        raise ConfigError(f"{existing(place)} cannot be written to, and {place} would lie there; name another folder")
