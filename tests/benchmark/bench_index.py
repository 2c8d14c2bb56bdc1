"""Builds and searches an index over made vectors: seconds, bytes, recall, milliseconds.

The vectors come from a seed (made_vectors.py) and are kept in --folder. Queries are held out: neither they nor their
seeds are in the index. The build is the stage itself, on a Ray of this machine. The last line is one JSON object.

    python tests/benchmark/bench_index.py [--n 1000000] [--dim 512] [--recall 0.95]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests is no installed package

from react_ray.artifact import Artifact
from react_ray.index.config import SearchParams
from react_ray.index.merge import Hits
from react_ray.index.quantizer import faiss_threads
from react_ray.index.recall import recall_at_k
from react_ray.index.search_shards import search_shards
from react_ray.index.shards import open_shards, params_for, shard_places
from react_ray.recipe import Recipe
from react_ray.runtime.cluster import connected
from react_ray.runtime.memory import MemoryWatch
from react_ray.stages import index
from react_ray.stages.retrieval.scanners import search_exactly
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
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="keeps the vectors for the next run")
    asked = parser.parse_args()
    root = Path(asked.folder, f"made-vectors-{asked.n}-{asked.dim}")
    mixture, embeddings = write(str(root), asked.n, asked.dim)
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
    print(json.dumps(report(built, queries, truth, asked.recall) | {
        "build_s": round(build_s, 1),
        "peak_rss_gb": round(memory.peak_gb, 2),
        "n": asked.n,
    }))  # fmt: skip


def report(built: Artifact, queries: dict[str, np.ndarray], truth: dict[str, Hits], recall: float) -> dict[str, object]:
    shards = open_shards(shard_places(built, "image"))
    of10, _ = params_for(built, "image", recall, 10)
    of100, _ = params_for(built, "image", recall, 100)
    reached = {}
    for target in (0.90, 0.95):
        params, _ = params_for(built, "image", target, 10)
        reached[target] = [found(shards, queries, truth, kind, 10, params) for kind in ("image", "text")]
    sizes = built.storage.sizes()
    hot = sum(size for name, size in sizes.items() if name.endswith((".hot.faiss", "quantizer-image.faiss")))
    faiss_threads(1)
    times = []
    for query in queries["text"]:
        began = time.perf_counter()
        search_shards(shards, query[None], 10, of10)
        times.append(time.perf_counter() - began)
    return {
        "hot_bytes_per_vector": round(hot / sum(shard.num_vectors for shard in shards), 1),
        "recall10_text": found(shards, queries, truth, "text", 10, of10),
        "recall10_image": found(shards, queries, truth, "image", 10, of10),
        "recall100_text": found(shards, queries, truth, "text", 100, of100),
        "p50_ms": round(1e3 * float(np.median(times)), 3),
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
