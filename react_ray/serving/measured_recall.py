"""Measures recall now: held-out captions are searched as a request would be, and exactly. GET /v1/recall."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from react_ray.errors import StorageError
from react_ray.index.config import Key
from react_ray.index.held_out import read_queries
from react_ray.index.merge import Hits
from react_ray.index.recall import recall_at_k, without
from react_ray.search.scan import Scan
from react_ray.serving.api import Searching
from react_ray.serving.finding import Finder
from react_ray.serving.refusal import Refused
from react_ray.serving.service import Service
from react_ray.serving.view import View

MOST_QUERIES, MOST_K = 500, 1000


async def measured_recall(service: Service, view: View, n: int, k: int, key: str) -> dict[str, Any]:
    """n: queries at most; k: hits of each. The interval is that of the mean over queries (normal, 95 %)."""
    if not 1 <= n <= MOST_QUERIES:
        raise Refused(f"n is {n}; measure with 1 to {MOST_QUERIES} queries", field="n")
    if not 1 <= k <= MOST_K:
        raise Refused(f"k is {k}; measure 1 to {MOST_K} hits of each query", field="k")
    if key not in ("", "image", "text"):
        raise Refused(f"recall is that of one key, not {key[:40]!r}; name image or text", field="key")
    [wanted] = view.database.keys_of(key)
    finder = Finder(service, view, Searching())
    own, queries_QD, kind = await service.in_thread(held_out, view, wanted, n)
    finder.timer.ends("encode")
    found = await finder.search(wanted, queries_QD, k + 1)
    finder.timer.ends("search")
    truth = await service.in_thread(exact, view, wanted, queries_QD, k + 1)
    finder.timer.ends("metadata")
    found, truth = without(found, own, k), without(truth, own, k)
    each = [recall_at_k(row_of(found, row), row_of(truth, row), k) for row in range(len(own))]
    mean = float(np.mean(each))
    margin = 1.96 * float(np.std(each, ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else 1.0
    timings = finder.timer.as_json()
    timings["exact"] = timings.pop("metadata")
    return {
        "recall": round(mean, 4),
        "n": len(own),
        "k": k,
        "promised": finder.recall,
        "low": round(max(0.0, mean - margin), 4),
        "high": round(min(1.0, mean + margin), 4),
        "queries": kind,
        "index_version": str(view.stamp),
        "timings_ms": timings,
    }


def row_of(hits: Hits, row: int) -> Hits:
    return Hits(hits.scores[row : row + 1], hits.pair_ids[row : row + 1])


def held_out(view: View, key: Key, n: int) -> tuple[np.ndarray, np.ndarray, str]:
    """(the pair of each query int64 [Q], vectors float32 [Q, D], what they are): captions that the build of the index
    held out, or those of any pairs where it has none."""
    index = view.database.index
    if index is not None and key in index.facts.keys:
        try:
            found = read_queries(index.storage, key).get("text")
        except StorageError:
            found = None
        if found is not None and len(found[0]):
            rows = np.random.default_rng().permutation(len(found[0]))[:n]
            return found[0][rows], found[1][rows], "held-out captions"
    sample = view.sample_of("text" if "text" in view.plans else key)
    rows = np.random.default_rng().permutation(len(sample[0]))[:n]
    said = "captions of pairs" if "text" in view.plans else "images of pairs"
    return sample[0][rows], sample[1][rows].astype(np.float32), said


def exact(view: View, key: Key, queries_QD: np.ndarray, k: int) -> Hits:
    embeddings = view.database.embeddings
    scan = Scan(embeddings, key, list(range(embeddings.num_parts)))
    return scan.search(queries_QD, min(k, embeddings.rows), view.database.deleted)
