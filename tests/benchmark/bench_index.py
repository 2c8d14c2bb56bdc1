"""Builds and searches an index over made vectors: seconds, bytes, recall, milliseconds.

The vectors come from a seed (made_vectors.py) and are kept in --folder. Queries are held out: neither they nor their
seeds are in the index. The build is the stage itself, on a Ray of this machine. The last line is one JSON object.

`p50_ratio` compares one query at a time, on one thread, with stock FAISS in memory: IVF,RaBitQfs,Refine(SQ8) over the
same vectors and lists, which visits the fewest lists that reach our measured recall. Both answer in turns. In between,
`centroids_p50_ms` is the part of it that compares the query with the centroids of all lists: it reads num_lists x D x 4
bytes, more than a core's own cache holds, so it is as fast as the cache or memory that all cores of a machine share.

    python tests/benchmark/bench_index.py [--n 1000000] [--dim 512] [--recall 0.95]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests is no installed package

from react_ray.artifact import Artifact
from react_ray.index.config import SearchParams
from react_ray.index.list_shard import coarse_quantizer
from react_ray.index.merge import Hits
from react_ray.index.quantizer import as_built, faiss_threads
from react_ray.index.recall import recall_at_k
from react_ray.index.search_shards import search_shards
from react_ray.index.shards import open_shards, params_for, shard_places
from react_ray.recipe import Recipe
from react_ray.runtime.cluster import connected
from react_ray.runtime.memory import MemoryWatch
from react_ray.stages import index
from react_ray.stages.retrieval.scanners import search_exactly
from react_ray.vectors import from_vectors
from tests.benchmark.made_vectors import write

NUM_QUERIES = 500
NOTHING = np.empty(0, np.int64)  # no pair is deleted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--recall", type=float, default=0.95, help="target recall")
    parser.add_argument("--kind", default="ivf-rabitq")
    parser.add_argument("--build-memory-gb", type=float, default=2.5, help="index.build_memory_gb")
    parser.add_argument("--cpus", type=int, default=2, help="cores of the Ray that builds the index")
    parser.add_argument("--again", action="store_true", help="search the index of the run before; build_s is then none")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="keeps the vectors for the next run")
    asked = parser.parse_args()
    root = Path(asked.folder, f"made-vectors-{asked.n}-{asked.dim}")
    mixture, embeddings = write(str(root), asked.n, asked.dim)
    if not asked.again:
        shutil.rmtree(root / "index", ignore_errors=True)
    recipe = recipe_over(root, asked.kind, asked.recall, asked.cpus, build_memory_gb=asked.build_memory_gb)
    with connected(recipe.cluster):
        with MemoryWatch(interval_s=1.0) as memory:
            began = time.monotonic()
            built = index.run(recipe)
            build_s = time.monotonic() - began
        queries = {
            kind: mixture.draw(NUM_QUERIES, 10**6, kind == "text").astype(np.float32) for kind in ("image", "text")
        }
        truth = {
            kind: search_exactly(embeddings, "image", asking, 100, recipe.cluster, NOTHING)
            for kind, asking in queries.items()
        }
    print(json.dumps(built.facts.calibration["image"]))
    print(json.dumps(report(built, embeddings, queries, truth, asked.recall) | {
        "build_s": round(build_s, 1),
        "peak_rss_gb": round(memory.peak_gb, 2),
        "n": asked.n,
    }))  # fmt: skip


def report(
    built: Artifact, embeddings: Artifact, queries: dict[str, np.ndarray], truth: dict[str, Hits], recall: float
) -> dict[str, object]:
    shards = open_shards(shard_places(built, "image"))
    of10, _ = params_for(built, "image", recall, 10)
    of100, _ = params_for(built, "image", recall, 100)
    reached = {}
    for target in (0.90, 0.95):
        params, _ = params_for(built, "image", target, 10)
        reached[target] = [found(shards, queries, truth, kind, 10, params) for kind in ("image", "text")]
    sizes = built.storage.sizes()
    hot = sum(size for name, size in sizes.items() if name.endswith((".hot.faiss", "quantizer-image.faiss")))
    recall10 = found(shards, queries, truth, "text", 10, of10)
    faiss_threads(1)
    coarse = coarse_quantizer(shard_places(built, "image")[0].read_quantizer())
    times, raw_times, centroid_times = alternating(
        [
            lambda query: search_shards(shards, query, 10, of10),
            stock_search(built, embeddings, queries["text"], truth["text"], of10.k_factor or 10.0, recall10),
            lambda query: coarse.search(query, of10.nprobe or 1),
        ],
        queries["text"],
    )
    return {
        "hot_bytes_per_vector": round(hot / sum(shard.num_vectors for shard in shards), 1),
        "recall10_text": recall10,
        "recall10_image": found(shards, queries, truth, "image", 10, of10),
        "recall100_text": found(shards, queries, truth, "text", 100, of100),
        "p50_ms": round(1e3 * float(np.median(times)), 3),
        "raw_faiss_p50_ms": round(1e3 * float(np.median(raw_times)), 3),
        "centroids_p50_ms": round(1e3 * float(np.median(centroid_times)), 3),
        "p50_ratio": round(float(np.median(times) / np.median(raw_times)), 3),
        "recall_target": recall,
        "recall_reached": min(found(shards, queries, truth, kind, 10, of10) for kind in queries),
        "targets": {str(target): values for target, values in reached.items()},
        "nprobe": of10.nprobe,
        "k_factor": of10.k_factor,
        "shards": len(shards),
        "num_lists": built.facts.num_lists,
        "at_nprobe_16_k_factor_10": found(shards, queries, truth, "text", 10, SearchParams(16, 10.0)),
    }


def found(
    shards: list, queries: dict[str, np.ndarray], truth: dict[str, Hits], kind: str, k: int, params: SearchParams
) -> float:  # type: ignore[type-arg]
    return round(recall_at_k(search_shards(shards, queries[kind], k, params), truth[kind], k), 4)


def stock_search(
    built: Artifact, embeddings: Artifact, queries_QD: np.ndarray, truth: Hits, k_factor: float, recall: float
) -> Callable[[np.ndarray], Any]:
    """Returns a search for 10 hits by an index that FAISS built from the same vectors, as cheap as `recall` allows."""
    native: Any = faiss
    num_lists, coarse = built.facts.num_lists, coarse_quantizer(shard_places(built, "image")[0].read_quantizer())
    index = native.index_factory(coarse.d, f"IVF{num_lists},RaBitQfs,Refine(SQ8)", faiss.METRIC_INNER_PRODUCT)
    ivf = faiss.extract_index_ivf(index.base_index)
    ivf.quantizer.add(as_built(coarse).reconstruct_n())  # no k-means of its own: the lists are the same
    ids = []
    for part in range(embeddings.num_parts):
        table = embeddings.read(part, ["pair_id", "image"])
        vectors = np.ascontiguousarray(from_vectors(table["image"]), np.float32)
        if not part:
            index.train(vectors)
        index.add(vectors)
        ids.append(table["pair_id"].to_numpy())
    id_of_row = np.concatenate(ids)

    def search(asked: np.ndarray, nprobe: int) -> Hits:
        params = native.IndexRefineSearchParameters(
            k_factor=k_factor, base_index_params=native.SearchParametersIVF(nprobe=nprobe)
        )
        scores, rows = index.search(asked, 10, params=params)
        return Hits(scores, np.where(rows < 0, -1, id_of_row[rows]))

    low, high = 1, num_lists
    while low < high:
        middle = (low + high) // 2
        reached = recall_at_k(search(queries_QD, middle), truth, 10) >= recall
        low, high = (low, middle) if reached else (middle + 1, high)
    print(f"stock FAISS visits {low} lists for the recall {recall}", flush=True)
    return lambda asked: search(asked, low)


def alternating(actions: list[Callable[[np.ndarray], Any]], queries_QD: np.ndarray) -> list[list[float]]:
    """Returns the seconds of each query, asked alone, for each of the actions."""
    times: list[list[float]] = [[] for _ in actions]
    for query in queries_QD:
        for action, seconds in zip(actions, times, strict=True):
            began = time.perf_counter()
            action(query[None])
            seconds.append(time.perf_counter() - began)
    return times


def recipe_over(root: Path, kind: str, recall: float, cpus: int, **changes: object) -> Recipe:
    index_config = {
        "kind": kind,
        "keys": ["image"],
        "recall": recall,
        "train_threads": cpus,
    } | changes
    return Recipe.model_validate(
        {
            "name": "bench",
            "database": str(root),
            "out": str(root / "out"),
            "backbone": {"name": "made"},
            "ingest": {"source": "none"},
            "index": index_config,
            "cluster": {"num_cpus": cpus, "num_searchers": cpus, "object_store_gb": 0.3},
        }
    )


if __name__ == "__main__":
    main()
