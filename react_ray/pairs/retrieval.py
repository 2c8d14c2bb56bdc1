"""Reads what a run or an arm retrieved, finished or not: the pairs, their images, and the classes that asked for them.

Takes the folder that holds `retrieved/`, or only `selected/` until that exists; needs neither a recipe nor Ray. The
images lie beside `retrieved/` in the same order. An arm that asks what the run asks has no queries of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import TypedDict

from react_ray.artifact import Artifact, Parts, open_artifact, plan_of
from react_ray.draft import open_unfinished
from react_ray.errors import ArtifactCorrupt, ArtifactMissing
from react_ray.kinds import IMAGES, QUERIES, RETRIEVED, SELECTED
from react_ray.manifest import BUILDING, MANIFEST
from react_ray.metadata import read_json
from react_ray.storage import join, open_storage

REPORT = "selection.json"
ARMS = "arms"
CREDITS = ("source", "license")  # columns that name the author and the licence of a picture
NOT_THERE = "no image yet"  # the status of a pair whose image no stage has stored so far


class Place(NamedTuple):
    """Where a pair is: a row of a part of `retrieved`."""

    part: int
    row: int


class Match(TypedDict, total=False):
    """How well the pairs of a class match it; see selection/match_quality.py."""

    named: float | None
    z: float | None
    agreement: float | None
    near_duplicates: float | None
    flags: list[str]
    advice: list[str]


@dataclass(frozen=True)
class ClassOfReport:
    """A row of `classes` in selection.json, as far as readers of a retrieval need it."""

    class_id: int
    pairs: int
    match: Match | None = None


@dataclass(frozen=True)
class SelectionReport:
    classes: list[ClassOfReport] = field(default_factory=list)
    poor_below: int = 0
    dropped_classes: list[str] = field(default_factory=list)  # by retrieve.min_match, as `name (task)`


@dataclass(frozen=True)
class RetrievedClass:
    class_id: int
    task: str
    class_name: str
    prompts: list[str]
    pairs: int  # of the whole retrieval, or of the parts that are done
    score_min: float | None  # of these pairs
    score_mean: float | None
    score_max: float | None
    match: Match | None


@dataclass(frozen=True)
class RetrievedPair:
    pair_id: int
    score: float | None  # of the class that it was selected for; None for a pair drawn at random
    matches: list[dict[str, Any]]  # schema.MATCH, best first
    caption: str
    url: str
    image: bytes | None
    status: str  # of the image
    extra: dict[str, Any]  # further columns of the source


class Retrieval:
    """`open_retrieval` gives one."""

    def __init__(self, root: str, pairs: Parts[Any], images: Parts[Any] | None) -> None:
        self.root, self.pairs, self.images = root, pairs, images
        made_of = pairs.manifest.config if isinstance(pairs, Artifact) else plan_of(pairs.uri)["config"]
        self.config: dict[str, Any] = made_of
        self.done = pairs.done()
        self.is_complete = pairs.kind == RETRIEVED and len(self.done) == pairs.num_parts
        storage = open_storage(root)
        remedy = "delete it; `react-ray retrieve` writes it when it selects pairs"
        has_report = storage.exists(REPORT)
        self.report = read_json(storage, REPORT, SelectionReport, remedy) if has_report else SelectionReport()
        self._rows = self._read_rows()

    @property
    def is_random(self) -> bool:
        return bool(self.config.get("selection") == "random")

    @property
    def num_pairs(self) -> int:
        """The number of pairs in the parts that are done."""
        return int(self._rows["num_pairs"])

    def classes(self) -> list[RetrievedClass]:
        """All classes that were asked for, also those without a pair, by class_id."""
        reported = {row.class_id: row for row in self.report.classes}
        found = []
        for class_id, (task, name, prompts) in self._asked().items():
            score = self._rows["score"][self._of_class(class_id)]
            known = score[np.isfinite(score)].astype(np.float64)
            row = reported.get(class_id)
            found.append(
                RetrievedClass(
                    class_id,
                    task,
                    name,
                    prompts,
                    row.pairs if row else len(score),
                    float(known.min()) if len(known) else None,
                    float(known.mean()) if len(known) else None,
                    float(known.max()) if len(known) else None,
                    row.match if row else None,
                )
            )
        return found

    def best(self, class_id: int, num_best: int, num_last: int = 0, parts: Iterable[int] | None = None) -> list[Place]:
        """The places of the best pairs of a class, best first, and of its last ones. parts: look only there."""
        rows = np.arange(len(self._rows["score"]))[self._of_class(class_id)]
        if parts is not None:
            rows = rows[np.isin(self._rows["part"][rows], list(parts))]
        if len(rows) > num_best + num_last:
            rows = np.concatenate([rows[:num_best], rows[len(rows) - num_last :]])
        return [Place(int(self._rows["part"][row]), int(self._rows["row"][row])) for row in rows]

    def read(self, places: Iterable[Place]) -> Iterator[tuple[Place, RetrievedPair]]:
        """Yields the pairs at these places, part by part; the images of one part are in memory at a time."""
        wanted = sorted(set(places))
        has_image = set(self.images.done()) if self.images is not None else set()
        for part in sorted({place.part for place in wanted}):
            rows = [place.row for place in wanted if place.part == part]
            table = self.pairs.read(part).take(pa.array(rows))
            images = self._images(part, rows, table["pair_id"]) if part in has_image else None
            for number, pair in enumerate(table.to_pylist()):
                image: dict[str, Any] = images[number] if images else {"image": None, "status": NOT_THERE}
                yield (
                    Place(part, rows[number]),
                    RetrievedPair(
                        pair.pop("pair_id"),
                        pair.pop("score"),
                        pair.pop("matches") or [],
                        pair.pop("caption", None) or "",
                        pair.pop("url", None) or "",
                        image["image"],
                        image["status"],
                        {name: value for name, value in pair.items() if name not in ("class_id", "text_embedding")},
                    ),
                )

    def _images(self, part: int, rows: list[int], pair_ids: pa.ChunkedArray) -> list[dict[str, Any]]:
        assert self.images is not None
        table = self.images.read(part, ["pair_id", "image", "status"])
        table = table.take(pa.array(rows)) if max(rows) < len(table) else table.slice(0, 0)
        if not table["pair_id"].equals(pair_ids):
            raise ArtifactCorrupt(
                f"{self.images.uri} has other pairs than {self.pairs.uri} in part {part}; delete the images there, run "
                "the stage again"
            )
        return table.to_pylist()

    def _asked(self) -> dict[int, tuple[str, str, list[str]]]:
        """class_id -> task, name and prompts. Classes of one task that share a name count as the first of them."""
        places = [join(self.root, QUERIES.name)]
        above, _, folder = self.root.rpartition("/")[0].rpartition("/")
        places += [join(above, QUERIES.name)] if folder == ARMS else []
        uri = next((uri for uri in places if open_storage(uri).exists(MANIFEST)), None)
        if uri is None:
            numbers = np.unique(self._rows["class_id"]).tolist()
            return {number: ("", f"class {number}", []) for number in numbers if number >= 0}
        queries = pa.concat_tables(open_artifact(uri, QUERIES).tables(["class_id", "task", "class_name", "prompt"]))
        asked: dict[tuple[str, str], tuple[int, list[str]]] = {}
        rows = zip(*(column.to_pylist() for column in queries.columns), strict=True)
        for class_id, task, name, prompt in sorted(rows, key=lambda row: row[0]):
            asked.setdefault((task, name), (class_id, []))[1].append(prompt)
        return {class_id: (task, name, prompts) for (task, name), (class_id, prompts) in asked.items()}

    def _of_class(self, class_id: int) -> slice:
        ends = np.searchsorted(self._rows["class_id"], [class_id, class_id + 1])
        return slice(int(ends[0]), int(ends[1]))

    def _read_rows(self) -> dict[str, Any]:
        """One row per pair and class: class_id, score, part, row; ordered by class and within it best first."""
        shared = self.config.get("exclusive", True) is False
        columns: list[list[np.ndarray]] = [[], [], [], []]
        num_pairs = 0
        for part in self.done:
            read = _all_matches if shared else _best_match
            class_id, score, row, num_rows = read(self.pairs, part)
            for column, values in zip(columns, (class_id, score, np.full(len(row), part), row), strict=True):
                column.append(values)
            num_pairs += num_rows
        class_id, score, part_of, row = (np.concatenate(c) if c else np.empty(0, np.int64) for c in columns)
        order = np.lexsort((row, part_of, -np.nan_to_num(score.astype(np.float64)), class_id))
        rows = {"class_id": class_id[order], "score": score[order], "part": part_of[order], "row": row[order]}
        return rows | {"num_pairs": num_pairs}


def open_retrieval(root: str) -> Retrieval:
    """Opens the retrieval below `root`. ArtifactMissing if no pair has been selected there so far."""
    root = open_storage(root).uri
    pairs = None
    for kind in (RETRIEVED, SELECTED):
        uri = join(root, kind.name)
        if has_artifact(uri) and (found := open_begun(uri)).done():
            pairs = found
            break
    if pairs is None:
        raise ArtifactMissing(f"{root}: no pairs were retrieved here so far; run `react-ray retrieve RECIPE` first")
    images = join(root, IMAGES.name)
    return Retrieval(root, pairs, open_begun(images) if has_artifact(images) else None)


def class_labels(classes: list[RetrievedClass]) -> dict[int, str]:
    """class_id -> the name of the class, with its task where another task has a class of that name."""
    num_tasks = Counter(name for _, name in {(one.task, one.class_name) for one in classes})
    return {
        one.class_id: f"{one.class_name} ({one.task})" if num_tasks[one.class_name] > 1 else one.class_name
        for one in classes
    }


def credit_of(pair: RetrievedPair) -> str:
    return ", ".join(str(pair.extra[column]) for column in CREDITS if pair.extra.get(column))


def has_artifact(uri: str) -> bool:
    """True if an artifact lies here, finished or not."""
    storage = open_storage(uri)
    return storage.exists(MANIFEST) or storage.exists(BUILDING)


def open_begun(uri: str) -> Parts[Any]:
    """As draft.open_unfinished; a finished artifact is opened also if what it was begun with is gone."""
    return open_artifact(uri) if open_storage(uri).exists(MANIFEST) else open_unfinished(uri)


Rows = tuple[np.ndarray, np.ndarray, np.ndarray, int]


def _best_match(pairs: Parts[Any], part: int) -> Rows:
    table = pairs.read(part, ["class_id", "score"])
    class_id = table["class_id"].fill_null(-1).to_numpy().astype(np.int64)
    score = table["score"].cast(pa.float32()).fill_null(float("nan")).to_numpy()
    return class_id, score, np.arange(len(table)), len(table)


def _all_matches(pairs: Parts[Any], part: int) -> Rows:
    """A pair counts for every class that hit it, with the best score of that class."""
    matches = pairs.read(part, ["matches.list.element.class_id", "matches.list.element.score"])["matches"]
    flat = pc.list_flatten(matches)
    class_id = pc.struct_field(flat, "class_id").to_numpy().astype(np.int64)
    score, row = pc.struct_field(flat, "score").to_numpy(), pc.list_parent_indices(matches).to_numpy().astype(np.int64)
    order = np.lexsort((-score, class_id, row))
    class_id, score, row = class_id[order], score[order], row[order]
    first = np.flatnonzero((np.diff(row, prepend=-1) != 0) | (np.diff(class_id, prepend=-1) != 0))
    return class_id[first], score[first], row[first], len(matches)
