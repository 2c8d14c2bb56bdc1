"""choose: queries -> hits -> the pairs that are taken, `selected/`, with the report of the set, `selection.json`.

Hits come from a search, from names in captions, or (the random control) from nowhere. Classes that stay short of
`pairs_per_class` are asked for again with a larger k, while there is more to find and up to `max_k`.
Next: selection/select.py, then collect.py.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.identity import same_image_tower
from react_ray.draft import create
from react_ray.errors import ArtifactMismatch, ConfigError, RetrievalError
from react_ray.index.allowed import Allowed
from react_ray.index.config import Key
from react_ray.index.deleted import deleted_pairs
from react_ray.index.shards import deltas
from react_ray.kinds import EMBEDDINGS, INDEX, PAIRS, QUERIES, RETRIEVED, SELECTED, SelectedFacts
from react_ray.manifest import MANIFEST
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.selection.random_pairs import select_random
from react_ray.selection.report import lines, set_report
from react_ray.selection.screen import Screen
from react_ray.selection.select import candidates, coverage, select
from react_ray.stages.retrieval import filter_pairs, search, string_match
from react_ray.stages.retrieval.gather_pairs import gather
from react_ray.stages.retrieval.screen_pairs import OTHER_IMAGES, Screening
from react_ray.storage import join, open_storage

REPORT = "selection.json"
PAIRS_PER_PART = 2048
GROWTH = 4


def run(recipe: Recipe, root: str, queries: Artifact, main: str) -> Artifact:
    """Gives the sealed `selected` below `root`; the random control is as large as `main`'s retrieval."""
    chooser = Chooser(recipe, root, queries, main)
    uri, storage = join(root, "selected"), open_storage(join(root, "selected"))
    if storage.exists(MANIFEST):
        found = open_artifact(uri, SELECTED)
        return create(uri, SELECTED, chooser.config, chooser.parents, found.num_parts).open()
    chosen, funnel = chooser.choose()
    selected = create(uri, SELECTED, chooser.config, chooser.parents, -(-chosen.num_rows // PAIRS_PER_PART))
    for part in selected.pending():  # by disk, so that a task carries the number of its part and no more
        selected.commit(part, chosen.slice(part * PAIRS_PER_PART, PAIRS_PER_PART), 0.0)
    report = set_report(chosen, chooser.queries, funnel, recipe.retrieve.poor_below, recipe.retrieve.exclusive)
    open_storage(root).write(REPORT, (json.dumps(report, indent=1) + "\n").encode())
    return selected.seal(SelectedFacts(lines(report)))


class Chooser:
    def __init__(self, recipe: Recipe, root: str, queries: Artifact, main: str) -> None:
        self.recipe, self.root, self.asked, self.wanted = recipe, root, queries, recipe.retrieve
        if self.wanted.selection == "string":  # captions are what is looked at
            self.wanted = self.wanted.model_copy(update={"keys": ["text"]})
        layout = Layout(recipe)
        self.pairs, self.embeddings = (
            layout.open_database(PAIRS),
            layout.open_database(EMBEDDINGS),
        )
        self.num_pairs = self.pairs.rows
        _check(recipe, self.embeddings, queries)
        narrowed = self.wanted.filters or len(deleted_pairs(recipe.database))
        self.allowed = filter_pairs.run(recipe, join(root, "allowed")) if narrowed else None
        self.queries = pa.concat_tables(
            queries.tables(["query_id", "class_id", "task", "class_name", "prompt", "modality"])
        )
        random = self.wanted.selection == "random"
        self.count = random_count(self.wanted.max_pairs, root, main) if random else 0
        self.config: dict[str, Any] = self.wanted.digested() | {
            "seed": recipe.seed if random else 0,
            "count": self.count,
        }
        self.parents: dict[str, Artifact] = {"pairs": self.pairs, "embeddings": self.embeddings, "queries": queries}
        if self.allowed is not None:
            self.parents["allowed"] = self.allowed
        if self.wanted.selection == "hits" and self.wanted.search == "index":
            index = layout.open_database(INDEX)
            self.parents |= {"index": index} | {f"delta{number}": delta for number, delta in enumerate(deltas(index))}

    def choose(self) -> tuple[pa.Table, dict[str, int]]:
        """The chosen pairs (select.SELECTED), and what became of how many."""
        screening = Screening(self.recipe, self.root)
        funnel = {"pairs in the database": self.num_pairs}
        if self.allowed is not None:
            funnel["pass the filters"] = int(self.allowed.facts.kept)
        if self.wanted.selection == "random":
            chosen, dropped = self._random(screening)
            return chosen, funnel | dropped | {"chosen": chosen.num_rows}
        if self.wanted.selection == "string":
            hits = string_match.run(self.recipe, join(self.root, "matched"), self.asked, self.allowed)
            chosen, dropped = self._select(hits, screening)
        else:
            hits, chosen, dropped = self._search(screening)
        if chosen.num_rows == 0:
            raise RetrievalError(
                "no pair was retrieved for any class; lower retrieve.min_score, relax retrieve.filters or look at the class names"
            )
        return chosen, funnel | {"hits": hits.num_rows} | dropped | {"chosen": chosen.num_rows}

    def _random(self, screening: Screening) -> tuple[pa.Table, dict[str, int]]:
        """Pairs that a training can use, and that pass what the retrieved ones have to pass."""
        bits = None if self.allowed is None else Allowed.load(self.allowed)
        dropped: dict[str, int] = {}

        def passes(drawn: np.ndarray) -> np.ndarray:
            left = np.arange(len(drawn)) if bits is None else np.flatnonzero(bits.contains(drawn))
            left = left[self._usable(drawn[left])]
            if screening.needed:
                order = np.argsort(drawn[left])
                screen = screening(drawn[left][order], -order.astype(np.float32))
                dropped.update(screen.dropped)
                left = left[order[screen.kept]]
            kept = np.zeros(len(drawn), dtype=bool)
            kept[left] = True
            return kept

        parts = [(receipt.part, receipt.rows) for receipt in self.pairs.receipts()]
        return select_random(
            parts, self.count, self.recipe.seed, passes, "can be used and pass filters, dedup and decontaminate"
        ), dropped

    def _usable(self, pair_ids: np.ndarray) -> np.ndarray:
        """bool [N]: neither image nor caption has failed, as far as they were embedded."""
        if not len(pair_ids):
            return np.zeros(0, dtype=bool)
        rows = gather(self.embeddings, pair_ids, ["pair_id", "status", "similarity"])
        usable: np.ndarray = pc.equal(rows["status"], schema.OK).to_numpy()
        both: np.ndarray = pc.is_valid(rows["similarity"]).to_numpy()
        return usable & both if both.any() else usable

    def _search(self, screening: Screening) -> tuple[pa.Table, pa.Table, dict[str, int]]:
        """Rounds of search: all queries with k, then those of classes that are short, with more."""
        k, limit = min(self.wanted.k, self.num_pairs), min(self.wanted.max_k, self.num_pairs)
        again = np.ones(self.queries.num_rows, dtype=bool)
        hits: pa.Table | None = None
        number = 1
        while True:
            new = self._hits(again, k, number)
            hits = (
                new if hits is None else pa.concat_tables([_without(hits, self.queries.filter(pa.array(again))), new])
            )
            chosen, dropped = self._select(hits, screening)
            again = self._short(chosen, new, k)
            if k >= limit or not again.any():
                return hits, chosen, dropped
            k, number = min(GROWTH * k, limit), number + 1

    def _select(self, hits: pa.Table, screening: Screening) -> tuple[pa.Table, dict[str, int]]:
        screen: Screen | None = None
        pair_ids, score = candidates(hits, self.queries, self.wanted)
        counts = {"distinct pairs above the floor": len(pair_ids)}
        if screening.needed:
            screen = screening(pair_ids, score)
            counts |= screen.dropped
        return select(hits, self.queries, self.wanted, screen), counts

    def _short(self, chosen: pa.Table, hits: pa.Table, k: int) -> np.ndarray:
        """bool [Q]: queries of classes short of pairs_per_class that were given all k hits that they asked for."""
        if not self.wanted.pairs_per_class:
            return np.zeros(self.queries.num_rows, dtype=bool)
        short = {
            number
            for number, _, count in coverage(chosen, self.queries, self.wanted.exclusive)
            if count < self.wanted.pairs_per_class
        }
        full = set(hits["query_id"].filter(pa.array(hits["rank"].to_numpy() == k - 1)).to_pylist())
        rows = zip(self.queries["query_id"].to_pylist(), self.queries["class_id"].to_pylist(), strict=True)
        return np.array([query in full and number in short for query, number in rows], dtype=bool)

    def _hits(self, again: np.ndarray, k: int, number: int) -> pa.Table:
        """One round: sentences against all keys, images against image keys."""
        modality = self.queries["modality"].to_pylist()
        allowed = self.allowed if self.wanted.filters else None  # searches leave out what is deleted themselves
        tables = [schema.HITS.empty_table()]
        for kind in ("text", "image"):
            rows = again & np.array([m == kind for m in modality], dtype=bool)
            keys: list[Key] = list(self.wanted.keys) if kind == "text" else ["image"]
            if rows.any():
                suffix = ("" if kind == "text" else "_images") + ("" if number == 1 else f"_{number}")
                asked = self.asked if rows.all() else self._some(rows, f"asked{suffix}")
                wanted = self.wanted.model_copy(update={"k": k, "keys": keys})
                recipe = self.recipe.model_copy(update={"retrieve": wanted})
                hits = search.run(recipe, join(self.root, f"hits{suffix}"), asked, allowed)
                tables += hits.tables()
        return pa.concat_tables(tables)

    def _some(self, rows: np.ndarray, name: str) -> Artifact:
        """Some of the queries, as an artifact of their own."""
        kept = pa.array(np.flatnonzero(rows))
        table = pa.concat_tables(self.asked.tables()).take(kept)
        some = create(join(self.root, name), QUERIES, {"rows": kept.to_pylist()}, {"queries": self.asked}, 1)
        if some.sealed:
            return some.open()
        some.commit(0, table.combine_chunks(), 0.0)
        return some.seal(self.asked.facts)


def _check(recipe: Recipe, embeddings: Artifact, queries: Artifact) -> None:
    """ConfigError or RetrievalError for what would find nothing."""
    if not embeddings.rows:
        raise RetrievalError(
            f"{embeddings.uri} is empty, so nothing can be retrieved; run `react-ray ingest` with a source that has pairs"
        )
    for key in recipe.retrieve.keys:
        side = {"image": "images", "text": "captions"}[key]
        if recipe.retrieve.selection == "hits" and not embeddings.manifest.config.get(side, True):
            raise ConfigError(
                f"retrieve.keys has {key}, but embed.{side}=false leaves no vectors of them; take {key} out of retrieve.keys"
            )
    if recipe.tasks.seed_images and "image" not in recipe.retrieve.keys:
        raise ConfigError("tasks.seed_images are compared with images; add image to retrieve.keys")
    if recipe.tasks.seed_images and not same_image_tower(embeddings.facts.backbone, queries.facts.backbone):
        raise ArtifactMismatch(OTHER_IMAGES.format(embeddings.uri, "tasks.seed_images"))


def random_count(max_pairs: int, root: str, main: str) -> int:
    """Of random pairs: as many as the run's own retrieval found, max_pairs at most; a run that has none must say max_pairs."""
    if root == main:
        if not max_pairs:
            raise ConfigError(
                "retrieve.selection=random is as large as what the run itself retrieves: use it in an arm, or set retrieve.max_pairs"
            )
        return max_pairs
    manifest = open_artifact(join(main, "retrieved"), RETRIEVED, "retrieve").manifest
    assert manifest is not None
    return min(max_pairs or manifest.rows, manifest.rows)


def _without(hits: pa.Table, queries: pa.Table) -> pa.Table:
    """The hits of other queries than these."""
    return hits.filter(pa.array(~np.isin(hits["query_id"].to_numpy(), queries["query_id"].to_numpy())))
