"""Makes pairs of labelled images (customize.labelled): each with the prompt of its class as its caption.

They lie below `labelled/` as `retrieved` and `images`, in the form of what retrieval gives, so that all that trains on
retrieved pairs trains on them as well. An image that is in an evaluation set is never among them. Next: mixed_rows.py.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from react_ray import schema
from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.prompts import TargetTask, load_tasks
from react_ray.draft import Draft, create
from react_ray.errors import ConfigError
from react_ray.evals.few_shot import in_order
from react_ray.evals.labelled import IMAGES_PER_PART, class_ids
from react_ray.evals.set_digest import set_digest
from react_ray.evals.set_files import SetFiles
from react_ray.evals.set_name import LABELLED
from react_ray.gated.config import CustomizeConfig
from react_ray.kinds import IMAGES, QUERIES, RETRIEVED, RetrievedFacts
from react_ray.pairs.image import ImageFacts, inspect
from react_ray.parquet import group_rows
from react_ray.progress import Progress
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.stages.retrieval.embed_queries import queries_uri
from react_ray.stages.retrieval.gather_pairs import class_vectors
from react_ray.stages.training.kept_apart import evaluated
from react_ray.storage import join
from react_ray.vectors import as_vectors


@dataclass(frozen=True)
class LabelledPairs:
    """retrieved: each labelled image that trains, with its row in the set as pair_id. images: the same rows."""

    retrieved: Artifact[RetrievedFacts]
    images: Artifact[Any]

    @property
    def class_id_N(self) -> np.ndarray:
        """int64."""
        return np.concatenate([t["class_id"].to_numpy() for t in self.retrieved.tables(["class_id"])]).astype(np.int64)

    def parents(self) -> dict[str, Artifact]:
        return {"labelled_retrieved": self.retrieved, "labelled_images": self.images}

    def card(self, config: CustomizeConfig) -> dict[str, Any]:
        """What a model card says of them."""
        class_id_N = self.class_id_N
        found = {"content": self.retrieved.content, "num_images": len(class_id_N)}
        return found | {"num_classes": len(np.unique(class_id_N)), "shots": config.labelled_shots or "all"}


def labelled_pairs(recipe: Recipe, arm: str) -> LabelledPairs:
    """The sealed pairs of an arm. ConfigError if no labelled image can train, or the set is none."""
    wanted, root = recipe.arm(arm), Layout(recipe, arm).labelled_root()
    config, tasks = wanted.customize, load_tasks(wanted.tasks)
    files, labels = class_ids(config.labelled, tasks, recipe.evaluate.max_unreadable)
    queries = open_artifact(queries_uri(recipe, arm), QUERIES)
    choice = _Choice(files, labels["class_id"].fill_null(-1).to_numpy(), config.labelled_shots, recipe.seed)
    plan = {
        "set": set_digest(config.labelled, labels),
        "shots": config.labelled_shots,
        "seed": recipe.seed if config.labelled_shots else 0,
    }
    num_parts = max(1, -(-choice.most // IMAGES_PER_PART))
    parents: dict[str, Artifact] = {"queries": queries}
    retrieved = create(join(root, "retrieved"), RETRIEVED, plan, parents, num_parts)
    images = create(join(root, "images"), IMAGES, plan, parents, num_parts)
    if not retrieved.sealed:
        choice.look(evaluated(recipe.evaluate.datasets))
        if not len(choice.rows):
            raise ConfigError(
                f"{LABELLED}={config.labelled}: no image is left to train on ({', '.join(choice.left_out)}); name a "
                "set of images of the recipe's classes that is no evaluation set"
            )
        captions, class_CD = _captions(tasks), class_vectors(queries).astype(np.float16)
        for part, rows in enumerate(np.array_split(choice.rows, num_parts)):
            _commit(part, rows, choice, captions, class_CD, retrieved, images)
        told = choice.summary(len(captions))
        images.seal()
        retrieved.seal(RetrievedFacts(queries.facts.backbone, queries.facts.dim, told))
    return LabelledPairs(retrieved.open(), images.open())


class _Choice:
    """Which rows of the set train: those with a class, whose image can be decoded and is in no evaluation set, and of
    them at most `shots` of each class.

    class_id_N: int, -1 = no class of the recipe. `rows` is int64, in the order of the set, after `look`.
    """

    def __init__(self, files: SetFiles, class_id_N: np.ndarray, shots: int, seed: int) -> None:
        self.files, self.class_id_N, self.shots, self.seed = files, class_id_N, shots, seed
        self.usable_N = class_id_N >= 0
        self.rows = np.zeros(0, np.int64)
        self.in_set, self.unreadable = Counter[str](), 0

    @property
    def most(self) -> int:
        """The number of rows if all are usable."""
        _, size_C = np.unique(self.class_id_N[self.class_id_N >= 0], return_counts=True)
        return int(np.minimum(size_C, self.shots).sum() if self.shots else size_C.sum())

    def look(self, known: dict[str, str]) -> None:
        """Looks at the images until those that are drawn are all usable. known: as from `evaluated`."""
        seen_N = np.zeros(len(self.class_id_N), bool)
        with Progress("labelled", self.most, "images", unit="looked at") as progress:
            while not seen_N[rows := self._drawn()].all():
                new = rows[~seen_N[rows]]
                seen_N[new] = True
                for some in np.split(new, range(IMAGES_PER_PART, len(new), IMAGES_PER_PART)):
                    for row, fact in zip(some.tolist(), _all_facts(_images(self.files, some)), strict=True):
                        name = known.get(fact.sha256 or "", "")
                        self.usable_N[row] = fact.status == schema.OK and not name
                        self.in_set[name] += bool(name)
                        self.unreadable += fact.status != schema.OK and not name
                    progress.advance(rows=len(some), done=len(some))
        self.rows = rows

    def _drawn(self) -> np.ndarray:
        if not self.shots:
            return np.flatnonzero(self.usable_N)
        classes = np.unique(self.class_id_N[self.usable_N]).tolist()
        drawn = [in_order(self.class_id_N, one, self.seed, self.usable_N)[: self.shots] for one in classes]
        return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)

    @property
    def left_out(self) -> list[str]:
        """Counts of the images that do not train, with their reasons."""
        no_class = int((self.class_id_N < 0).sum())
        told = [f"{no_class:,} of no class of the recipe"] * bool(no_class)
        told += [f"{count:,} in evaluate.datasets.{name}" for name, count in sorted((+self.in_set).items())]
        return told + [f"{self.unreadable:,} that cannot be decoded"] * bool(self.unreadable)

    def summary(self, num_classes: int) -> list[str]:
        found = len(np.unique(self.class_id_N[self.rows]))
        each = f", at most {self.shots} of each" if self.shots else ""
        told = [f"{len(self.rows):,} labelled images of {found:,} of {num_classes:,} classes{each}"]
        return told + [f"left out of the labelled images: {', '.join(self.left_out)}"] * bool(self.left_out)


def _commit(
    part: int,
    rows: np.ndarray,
    choice: _Choice,
    captions: list[str],
    class_CD: np.ndarray,
    retrieved: Draft[RetrievedFacts],
    images: Draft[Any],
) -> None:
    began = time.monotonic()
    data, class_id_N = _images(choice.files, rows), choice.class_id_N[rows]
    about = pa.Table.from_pylist(
        [asdict(fact) for fact in _all_facts(data)],
        schema=pa.schema([schema.IMAGES.field(name) for name in ImageFacts.__dataclass_fields__]),
    )
    shared = {"pair_id": pa.array(rows, pa.int64()), "caption": [captions[one] for one in class_id_N]}
    sizes = {f"original_{name}": about[name] for name in ("width", "height")}
    table = pa.table(
        shared | {"image": pa.array(data, pa.binary())} | sizes | {n: about[n] for n in about.column_names}
    )
    table = schema.conform(table, schema.IMAGES)
    images.commit(part, table, time.monotonic() - began)
    nothing = pa.array([[]] * len(rows), pa.list_(schema.MATCH))
    pairs = pa.table(
        shared
        | {"url": pa.nulls(len(rows), pa.string()), "class_id": pa.array(class_id_N, pa.int32())}
        | {"score": pa.nulls(len(rows), pa.float32()), "matches": nothing}
        | {"text_embedding": as_vectors(class_CD[class_id_N])}
    )
    shape = schema.retrieved(class_CD.shape[1])
    retrieved.commit(part, schema.conform(pairs, shape), time.monotonic() - began, rows_per_group=group_rows(table))


def _captions(tasks: list[TargetTask]) -> list[str]:
    """The first prompt of each class, by class id."""
    return [task.templates[0].replace("{}", name) for task in tasks for name in task.class_names]


def _images(files: SetFiles, rows: np.ndarray) -> list[bytes | None]:
    """Of these rows, which ascend; files are read in runs of neighbouring rows."""
    found: list[bytes | None] = []
    ends = np.flatnonzero(np.diff(rows // IMAGES_PER_PART)) + 1
    for run in np.split(rows, ends) if len(rows) else ():
        cells = files.images(int(run[0]), int(run[-1] - run[0]) + 1)
        found += [cells[row].data for row in (run - run[0]).tolist()]
    return found


def _all_facts(images: list[bytes | None]) -> list[ImageFacts]:
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(inspect, images))
