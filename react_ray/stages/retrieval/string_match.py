"""Finds captions that contain a name of a class, as the REAL baseline does (`selection: string`).

The result, `matched/`, is read like the hits of a search. The score of a caption is the cosine of its vector with the
class's prompts, so that the best k captions of a class are those that are most about it, as REAL ranks them.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.clip.prompts import TargetTask
from react_ray.draft import Draft, create
from react_ray.index.merge import ranking
from react_ray.kinds import MATCHED, AllowedFacts, EmbeddingsFacts, NoFacts, QueriesFacts
from react_ray.manifest import Receipt
from react_ray.recipe import ClusterConfig
from react_ray.runtime.map_parts import MapStage, ReadPart, Work, map_parts
from react_ray.selection.name_match import NameMatch
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.gather_pairs import class_vectors
from react_ray.vectors import from_vectors


def string_match(
    uri: str,
    database: Database,
    queries: Artifact[QueriesFacts],
    tasks: list[TargetTask],
    k: int,
    cluster: ClusterConfig,
    allowed: Artifact[AllowedFacts] | None = None,
) -> pa.Table:
    """Returns hits (schema.HITS) with key "text", at most k of each class, ordered by query and rank."""
    pairs, embeddings = database.pairs, database.embeddings
    given: dict[str, Artifact | None] = {
        "pairs": pairs,
        "embeddings": embeddings,
        "queries": queries,
        "allowed": allowed,
    }
    parents = {name: artifact for name, artifact in given.items() if artifact is not None}
    names, query_of = _names(tasks, queries)
    matched = create(uri, MATCHED, {"names": [list(name) for name in names], "k": k}, parents, pairs.num_parts)
    stage = MapStage(
        "match names",
        ReadPart(pairs, ["pair_id", "caption"]),
        MatchPart(names, query_of, embeddings, queries, allowed, k, matched),
        retries=cluster.part_retries,
        light=database.is_small,
    )
    map_parts(stage, matched.pending(), pairs.num_parts)
    return _best(pa.concat_tables(matched.seal().tables()), k).select(schema.HITS.names).cast(schema.HITS)


def _names(
    tasks: list[TargetTask], queries: Artifact[QueriesFacts]
) -> tuple[list[tuple[int, int, str]], dict[tuple[int, int], int]]:
    """Returns (class_id, number, name) of all names, and for each (class_id, number) the query that stands for it."""
    table = pa.concat_tables(queries.tables(["query_id", "class_id", "prompt"])).to_pylist()
    first: dict[int, int] = {}
    by_prompt = {}
    for row in table:
        first.setdefault(row["class_id"], row["query_id"])
        by_prompt[row["class_id"], row["prompt"]] = row["query_id"]
    names, query_of = [], {}
    class_id = 0
    for task in tasks:
        for synonyms in task.synonyms:
            for number, name in enumerate(synonyms):
                names.append((class_id, number, name))
                prompt = task.templates[0].replace("{}", name)
                query_of[class_id, number] = by_prompt.get((class_id, prompt), first[class_id])
            class_id += 1
    return names, query_of


def _best(matches: pa.Table, k: int) -> pa.Table:
    """Returns the k best matches of each class; a pair occurs once per class, and rank is its place there."""
    if not matches.num_rows:
        return matches.append_column("rank", pa.array([], pa.int32()))
    class_id, pair_id = matches["class_id"].to_numpy(), matches["pair_id"].to_numpy()
    order = ranking(class_id, matches["score"].to_numpy(), pair_id)
    ordered = class_id[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    best = matches.take(pa.array(order[rank < k]))
    return best.append_column("rank", pa.array(rank[rank < k].astype(np.int32)))


class MatchPart(Work):
    def __init__(
        self,
        names: list[tuple[int, int, str]],
        query_of: dict[tuple[int, int], int],
        embeddings: Artifact[EmbeddingsFacts],
        queries: Artifact[QueriesFacts],
        allowed: Artifact[AllowedFacts] | None,
        k: int,
        matched: Draft[NoFacts],
    ) -> None:
        self.names, self.query_of, self.k, self.queries = names, query_of, k, queries
        self.embeddings, self.allowed, self.matched = embeddings, allowed, matched

    def setup(self) -> None:
        self.finder, self.class_CD = NameMatch(self.names), class_vectors(self.queries)

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        captions = table["caption"].to_pylist() if table.num_rows else []
        permitted = self._permitted(part, len(captions))
        first: dict[tuple[int, int], int] = {}  # a class and a row meet once, by the first of the class's names
        for row in np.flatnonzero(permitted).tolist():
            for class_id, number in self.finder.find(captions[row]):
                first.setdefault((class_id, row), number)
        classes = np.array([class_id for class_id, _ in first], dtype=np.int64)
        rows = np.array([row for _, row in first], dtype=np.int64)
        pair_id = table["pair_id"].to_numpy()[rows] if len(rows) else rows
        out = pa.table(
            {
                "query_id": pa.array(
                    [self.query_of[class_id, number] for (class_id, _), number in first.items()], pa.int32()
                ),
                "class_id": pa.array(classes, pa.int32()),
                "pair_id": pa.array(pair_id, pa.int64()),
                "score": pa.array(self._scores(part, rows, classes), pa.float32()),
                "key": pa.array(["text"] * len(rows), pa.string()),
            }
        )
        out = _best(out, self.k).drop_columns(["rank"])
        return self.matched.commit(part, out, time.monotonic() - began)

    def _permitted(self, part: int, num_rows: int) -> np.ndarray:
        if self.allowed is None:
            return np.ones(num_rows, dtype=bool)
        return self.allowed.read(part, ["allowed"])["allowed"].to_numpy()

    def _scores(self, part: int, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """float32: the cosine of each caption with its class; 0 if the caption has no vector."""
        if not len(rows):
            return np.empty(0, np.float32)
        text_ND = from_vectors(self.embeddings.read(part, ["text"])["text"])
        cosine = np.einsum("nd,nd->n", text_ND[rows].astype(np.float64), self.class_CD[classes].astype(np.float64))
        return np.nan_to_num(cosine).astype(np.float32)
