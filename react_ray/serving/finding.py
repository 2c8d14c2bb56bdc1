"""Finds the hits of a request: all keys at once, merged, without duplicates, and described.

Takes a View and vectors; gives hits as the API writes them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic_core import to_json

from react_ray.index.class_hits import Classes, ClassHits
from react_ray.index.config import Key
from react_ray.index.merge import Hits
from react_ray.serving.api import SearchBody, Searching
from react_ray.serving.coordinator import Search
from react_ray.serving.queries import Queries
from react_ray.serving.ranked import NOTHING, Ranked, fused
from react_ray.serving.refusal import Refused
from react_ray.serving.service import Service
from react_ray.serving.view import View
from react_ray.serving.written_hits import written_hits

FEW_HITS = 1000  # that are ranked sooner than a thread takes them over
SPARE = 2  # hits that are searched where duplicates will be folded, in multiples of k


@dataclass
class Timer:
    """Milliseconds of each step; `total` since it was made."""

    began: float = field(default_factory=time.perf_counter)
    steps: dict[str, float] = field(default_factory=lambda: {"encode": 0.0, "search": 0.0, "metadata": 0.0})
    last: float = 0.0

    def __post_init__(self) -> None:
        self.last = self.began

    def ends(self, step: str) -> None:
        now = time.perf_counter()
        self.steps[step] += 1000 * (now - self.last)
        self.last = now

    def as_json(self) -> dict[str, float]:
        total = 1000 * (time.perf_counter() - self.began)
        return {name: round(ms, 2) for name, ms in {**self.steps, "total": total}.items()}


class Finder:
    """The searches of one request: what they have in common, and what they said of themselves."""

    def __init__(self, service: Service, view: View, asked: Searching, excluded: np.ndarray | None = None) -> None:
        """excluded: int64 pair_ids, which are not found."""
        self.service, self.view, self.asked = service, view, asked
        self.filters = tuple(asked.filters)
        self.excluded = b"" if excluded is None else excluded.tobytes()
        deleted = view.database.deleted
        self.left_out = deleted if excluded is None else np.union1d(deleted, excluded)
        self.recall: float | None = 1.0
        self.coverage = 1.0
        self.timer = Timer()

    @property
    def share_of_time(self) -> float:
        """What has passed of the time in which the request must be answered, from 0 to 1."""
        most_s = self.service.time_of(self.asked.timeout_ms)
        return (time.perf_counter() - self.timer.began) / most_s

    async def check(self) -> None:
        if self.filters:
            await self.service.in_thread(self.view.check_filters, self.filters)

    async def search(self, key: Key, queries_QD: np.ndarray, k: int) -> Hits:
        """Returns Hits [Q, k], and notes recall and coverage."""
        hits: Hits = await self._search(key, queries_QD, k, None)
        return hits

    async def search_classes(self, key: Key, queries_QD: np.ndarray, classes: Classes, most: int) -> ClassHits:
        """Returns the `most` best pairs of each class, and notes recall and coverage."""
        hits: ClassHits = await self._search(key, queries_QD, most, classes)
        return hits

    async def _search(self, key: Key, queries_QD: np.ndarray, k: int, classes: Classes | None) -> Any:
        view = self.view
        k = min(k, view.database.embeddings.rows)
        params, recall = view.database.key_search(key).params(k, self.asked.recall)
        one = Search(view.plans[key], view.stamp, self.filters, self.asked.allow_partial, self.excluded)
        asked = queries_QD, k, params
        hits = await (one.hits(*asked) if classes is None else one.class_hits(queries_QD, classes, k, params))
        if self.filters and recall != 1.0:
            recall = None  # it was measured without filters
        self.recall = None if recall is None or self.recall is None else min(self.recall, recall)
        self.coverage = min(self.coverage, one.coverage)
        return hits

    async def ranked(self, keys: Sequence[Key], queries_QD: np.ndarray, k: int) -> list[Ranked]:
        """The k best hits of each query."""
        found = await asyncio.gather(*(self.search(key, queries_QD, k) for key in keys))
        if len(queries_QD) * k <= FEW_HITS:
            return self._ranked(keys, queries_QD, found, k)
        return await self.service.in_thread(self._ranked, keys, queries_QD, found, k)

    def _ranked(self, keys: Sequence[Key], queries_QD: np.ndarray, found: Sequence[Hits], k: int) -> list[Ranked]:
        of_keys = []
        for key, hits in zip(keys, found, strict=True):
            z_QK = self.view.database.key_search(key).z_scores(queries_QD, hits.scores)
            columns = zip(hits.pair_ids, hits.scores, z_QK, hits.valid, strict=True)
            of_keys.append([Ranked(ids[valid], score[valid], z[valid], key) for ids, score, z, valid in columns])
        return of_keys[0] if len(keys) == 1 else [fused(some, k) for some in zip(*of_keys, strict=True)]

    def answer(self) -> dict[str, Any]:
        return {
            "recall": None if self.recall is None else round(self.recall, 4),
            "coverage": round(self.coverage, 4),
            "index_version": str(self.view.stamp),
            "timings_ms": self.timer.as_json(),
        }


async def find(service: Service, view: View, body: SearchBody) -> tuple[Finder, list[Ranked]]:
    """The hits of each query of POST /v1/search, and what their searches have to say."""
    limits = service.config
    if (body.query is None) == (body.queries is None):
        raise Refused("a search has either query or queries; give one of them", code="bad_query", field="query")
    queries = body.queries if body.query is None else [body.query]
    assert queries is not None
    if not queries or len(queries) > limits.max_batch:
        said = f"a request has 1 to {limits.max_batch} queries, and this one {len(queries)}; split it"
        raise Refused(said, field="queries")
    if body.k > limits.max_k:
        raise Refused(f"k is at most {limits.max_k:,} here, not {body.k:,}; ask for fewer hits", field="k")
    finder = Finder(service, view, body)
    view.records.check_columns(body.columns)
    if body.dedup and "image" not in view.plans:
        raise Refused("dedup compares images, and none is embedded here; set it to 0", field="dedup")
    await finder.check()
    where = ["query"] if body.query is not None else [f"queries.{number}" for number in range(len(queries))]
    asked = Queries(view, service.encoder, service.fetched)
    keys = asked.keys(queries, body.key)
    queries_QD = await asked.vectors(queries, where)
    finder.timer.ends("encode")
    found = await _without_duplicates(finder, keys, queries_QD, body.k, body.dedup)
    finder.timer.ends("search")
    return finder, found


async def search(service: Service, view: View, body: SearchBody) -> bytes:
    """The answer of POST /v1/search, as JSON."""
    finder, found = await find(service, view, body)
    hits = await service.in_thread(written_hits, view, found, body.columns)
    finder.timer.ends("metadata")
    results = b",".join(b'{"hits":%b}' % some for some in hits)
    return b'{"results":[%b],%b' % (results, to_json(finder.answer())[1:])


async def _without_duplicates(
    finder: Finder, keys: Sequence[Key], queries_QD: np.ndarray, k: int, cosine: float
) -> list[Ranked]:
    """Searches deeper until each query has k hits that are no duplicates of one another, or has all there are."""
    if not cosine:
        return await finder.ranked(keys, queries_QD, k)
    out: list[Ranked] = [NOTHING] * len(queries_QD)
    left, depth, most = np.arange(len(queries_QD)), SPARE * k, max(finder.service.config.max_k, SPARE * k)
    while True:
        found = await finder.ranked(keys, queries_QD[left], depth)
        for row, hits in zip(left.tolist(), found, strict=True):
            out[row] = await finder.service.in_thread(hits.folded, finder.view, cosine)
        counts = [len(out[row].pair_ids) for row in left.tolist()]
        more = [count < k and len(hits.pair_ids) >= depth for count, hits in zip(counts, found, strict=True)]
        left = left[np.array(more, bool)]
        if not len(left) or depth >= most:
            return [hits.first(k) for hits in out]
        depth = min(4 * depth, most)


def as_json(view: View, pair_ids: np.ndarray) -> list[dict[str, Any]]:
    """What the API says of these pairs, whoever found them."""
    values = view.records.columns_of(pair_ids, ["caption", "url"])
    stored = view.records.stored(pair_ids).tolist()
    return [
        {
            "pair_id": pair,
            "caption": caption,
            "url": url,
            "image": f"/v1/pairs/{pair}/image" if is_stored else None,
            "columns": {},
        }
        for pair, caption, url, is_stored in zip(
            pair_ids.tolist(), values["caption"], values["url"], stored, strict=True
        )
    ]
