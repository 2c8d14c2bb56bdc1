"""HitColumns: hits as arrays, in the order in which a selection goes through them.

Takes hits (schema.HITS) and the queries that they answer; gives their columns by pair, class and query.

Next: claims.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray.errors import RetrievalError
from react_ray.index.config import Key
from react_ray.index.ordering import order_by_pair
from react_ray.selection.config import RetrieveConfig


class AskedClasses:
    """Looks up class and prompt of a query by its id. Classes of one task that share a name are the first of them."""

    def __init__(self, queries: pa.Table) -> None:
        """queries: at least query_id, class_id (over all tasks), prompt, task, class_name."""
        query_id = queries["query_id"].to_numpy()
        order = np.argsort(query_id, kind="stable")
        self.query_id = query_id[order]
        self.class_id = first_of_name(queries)[order]
        modality = queries["modality"] if "modality" in queries.column_names else pa.nulls(len(order), pa.string())
        self.is_image = pc.fill_null(pc.equal(modality, "image"), False).to_numpy(zero_copy_only=False)[order]
        self.prompts = queries["prompt"].combine_chunks().take(pa.array(order))
        self.by_class = np.empty(len(order), dtype=np.int32)  # rank of each query, ordered by class and then by id
        self.by_class[np.argsort(self.class_id, kind="stable")] = np.arange(len(order))

    def positions(self, query_id: np.ndarray) -> np.ndarray:
        """Returns int32 [N], the places of these queries in the arrays of this object."""
        lookup = np.full(int(self.query_id.max(initial=-1)) + 1, -1, dtype=np.int32)
        lookup[self.query_id] = np.arange(len(self.query_id))
        if len(query_id) and (query_id.min() < 0 or query_id.max() >= len(lookup) or (lookup[query_id] < 0).any()):
            raise RetrievalError("the hits answer other queries than these; delete the hits and retrieve again")
        return lookup[query_id]


@dataclass(frozen=True)
class HitColumns:
    """The hits that count, ordered by pair, class, query and key (text after image): pair_id int64, query int32 (the
    position in AskedClasses), class_id int32, text bool, score float32 and rank int32, [N] each."""

    pair_id: np.ndarray
    query: np.ndarray
    class_id: np.ndarray
    text: np.ndarray
    score: np.ndarray
    rank: np.ndarray

    @classmethod
    def read(cls, hits: pa.Table, asked: AskedClasses, config: RetrieveConfig) -> HitColumns:
        row = np.flatnonzero(counted(hits, config))
        columns = ("pair_id", "query_id", "score", "rank")
        pair_id, query_id, score, rank = (hits[name].to_numpy()[row] for name in columns)
        query, text = asked.positions(query_id), pc.equal(hits["key"], "text").to_numpy()[row]
        order = order_by_pair(pair_id, asked.by_class[query], text)
        query = query[order]
        return cls(
            pair_id[order], query, asked.class_id[query].astype(np.int32), text[order], score[order], rank[order]
        )


def counted(hits: pa.Table, config: RetrieveConfig) -> np.ndarray:
    """Returns bool [N], True for hits of the keys that are searched, with their min_score at least."""
    keys = ["text"] if config.selection == "string" else config.keys  # names are found in captions, whatever keys
    least = [config.floor(key) if key in keys else np.inf for key in get_args(Key)]
    is_text = pc.equal(hits["key"], "text").to_numpy()
    found: np.ndarray = hits["score"].to_numpy() >= np.array(least, np.float32)[is_text.view(np.int8)]
    return found


def first_of_name(queries: pa.Table) -> np.ndarray:
    """Returns int64 [Q]: for each query, the smallest class_id in its task whose class has the same name."""
    class_id = queries["class_id"].to_numpy().astype(np.int64)
    if "task" not in queries.column_names:
        return class_id
    names = [
        queries[name].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        for name in ("task", "class_name")
    ]
    _, group = np.unique(names[0] * (int(names[1].max(initial=0)) + 1) + names[1], return_inverse=True)
    first = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, group, class_id)
    return first[group]
