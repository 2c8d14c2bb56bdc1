"""Makes pairs of labelled images (customize.labelled): each with the prompt of its class as its caption.

They lie below `labelled/` as `retrieved` and `images`, in the form of what retrieval gives, so that all that trains on
retrieved pairs trains on them as well. An image that is in an evaluation set is never among them, nor is one that looks
like an image of these sets where retrieval is kept from them too. Next: mixed_rows.py.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from react_ray import schema
from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.prompts import TargetTask, load_tasks
from react_ray.counted import counted
from react_ray.draft import Draft, create
from react_ray.errors import ConfigError
from react_ray.evals.copies import copies
from react_ray.evals.few_shot import in_order
from react_ray.evals.labelled import IMAGES_PER_PART, class_ids
from react_ray.evals.set_digest import set_digest
from react_ray.evals.set_files import SetFiles
from react_ray.evals.set_name import LABELLED
from react_ray.evals.tested import classified_set, other_sets
from react_ray.gated.config import CustomizeConfig
from react_ray.kinds import IMAGES, QUERIES, REFERENCES, RETRIEVED, RetrievedFacts
from react_ray.pairs.image import ImageFacts, inspect
from react_ray.parquet import group_rows
from react_ray.progress import Progress, say
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.selection.duplicates import within_hashes
from react_ray.selection.references import References
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
    plan: dict[str, Any] = {
        "set": set_digest(config.labelled, labels),
        "shots": config.labelled_shots,
        "seed": recipe.seed if config.labelled_shots else 0,
    }
    num_parts = max(1, -(-choice.most // IMAGES_PER_PART))
    parents: dict[str, Artifact] = {"queries": queries}
    if (radius := wanted.retrieve.decontaminate.phash) >= 0:
        references = open_artifact(join(Layout(recipe, arm).retrieved_root(), "references"), REFERENCES)
        parents, plan = parents | {"references": references}, plan | {"phash": radius}
    retrieved = create(join(root, "retrieved"), RETRIEVED, plan, parents, num_parts)
    images = create(join(root, "images"), IMAGES, plan, parents, num_parts)
    if not retrieved.sealed:
        hashes = References.load(parents["references"]).hashes if radius >= 0 else np.zeros(0, np.uint64)
        sets = (classified_set(name, uri) for name, uri in recipe.evaluate.datasets.items())
        tested = [*sets, *other_sets(recipe.evaluate, load_tasks(recipe.tasks))]
        choice.look(_Excluded(evaluated(tested), hashes, max(0, radius)))
        if not len(choice.rows):
            raise ConfigError(
                f"{LABELLED}={config.labelled}: no image is left to train on ({', '.join(choice.left_out)}); name a "
                "set of images of the recipe's classes that is no evaluation set"
            )
        captions, class_CD = _captions(tasks), class_vectors(queries).astype(np.float16)
        pending, parts = retrieved.pending(), np.array_split(choice.rows, num_parts)
        missing = [n for n, rows in enumerate(parts) if n in pending or not _holds(retrieved, n, rows)]
        if missing and images.sealed:
            images = images.reopen()
        for part in missing:
            _commit(part, parts[part], choice, captions, class_CD, retrieved, images)
        told = choice.summary(len(captions))
        images.seal()
        retrieved.seal(RetrievedFacts(queries.facts.backbone, queries.facts.dim, told))
        for line in told:
            say(f"customize {arm}".strip() + f"  {line}")
    return LabelledPairs(retrieved.open(), images.open())


class _Excluded(NamedTuple):
    """The images of evaluation sets, none of which may train."""

    fields: dict[str, str]  # as from `evaluated`
    hashes: np.ndarray  # uint64, of the sets that nothing may look like
    radius: int  # bits of a hash

    def reasons(self, facts: list[ImageFacts]) -> list[str]:
        """Why each image may not train, "" if it may."""
        hash_N = np.array([fact.phash or 0 for fact in facts], np.uint64)
        near_N = within_hashes(hash_N, self.hashes, self.radius)
        found = []
        for fact, near in zip(facts, near_N.tolist(), strict=True):
            field = self.fields.get(fact.sha256 or "", "")
            looks_alike = near and fact.phash is not None
            where = "that look like an image of retrieve.decontaminate.datasets" if looks_alike else ""
            readable = where if fact.status == schema.OK else "that cannot be decoded"
            found.append(f"in {field}" if field else readable)
        return found


class _Choice:
    """Which rows of the set train: those with a class, whose image can be decoded and is not tested on, and of them at
    most `shots` of each class.

    class_id_N: int, -1 = no class of the recipe. `rows` is int64, in the order of the set, after `look`.
    """

    def __init__(self, files: SetFiles, class_id_N: np.ndarray, shots: int, seed: int) -> None:
        self.files, self.class_id_N, self.shots, self.seed = files, class_id_N, shots, seed
        self.usable_N = class_id_N >= 0
        self.rows = np.zeros(0, np.int64)
        self.reasons = Counter[str]()
        self.digest_of: dict[int, str | None] = {}  # sha256, by row

    @property
    def most(self) -> int:
        """The number of rows if all are usable."""
        _, size_C = np.unique(self.class_id_N[self.class_id_N >= 0], return_counts=True)
        return int(np.minimum(size_C, self.shots).sum() if self.shots else size_C.sum())

    def look(self, tested: _Excluded) -> None:
        """Looks at the images until those that are drawn are all usable."""
        seen_N = np.zeros(len(self.class_id_N), bool)
        with Progress("labelled", self.most, "images", unit="looked at") as progress:
            while not seen_N[rows := self._drawn()].all():
                new = rows[~seen_N[rows]]
                seen_N[new] = True
                for some in np.split(new, range(IMAGES_PER_PART, len(new), IMAGES_PER_PART)):
                    facts = _all_facts(_images(self.files, some))
                    reasons = tested.reasons(facts)
                    self.usable_N[some] = [not reason for reason in reasons]
                    self.reasons += Counter(filter(None, reasons))
                    self.digest_of |= zip(some.tolist(), (fact.sha256 for fact in facts), strict=True)
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
        return told + [f"{count:,} {reason}" for reason, count in sorted(self.reasons.items())]

    def summary(self, num_classes: int) -> list[str]:
        found = len(np.unique(self.class_id_N[self.rows]))
        each = f", at most {self.shots} of each" if self.shots else ""
        told = [f"{counted(len(self.rows), 'labelled image')} of {found:,} of {num_classes:,} classes{each}"]
        _, twice = copies((self.digest_of[row] for row in self.rows.tolist()), self.class_id_N[self.rows].tolist())
        told += [f"of the labelled images, {twice}"] * bool(twice)
        return told + [f"left out of the labelled images: {', '.join(self.left_out)}"] * bool(self.left_out)


def _holds(retrieved: Draft[RetrievedFacts], part: int, rows: np.ndarray) -> bool:
    """False for a part of before a kill, if the recipe has other evaluation sets since, so that other images train."""
    return np.array_equal(retrieved.read(part, ["pair_id"])["pair_id"].to_numpy(), rows)


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
