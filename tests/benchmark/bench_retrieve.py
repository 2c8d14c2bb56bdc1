"""Times bulk retrieval over made vectors beside the bare libraries.

    bulk_s         1,000 text-like queries x k = 10,000 through the fan-out, over 160 lists each, and the distinct pairs
                   of all hits; bulk95_s: the same at a recall of 0.95
    exact_ratio    seconds of exact search by the stage (Ray, reading the embeddings) / seconds of faiss.knn over the
                   same vectors in memory, k = 100
    exact_classes_ratio   the same for the 10,000 best pairs of each of 50 classes of 80 of these queries / seconds of
                   that faiss.knn, whose products are the least work
    shards_ratio   queries per second of 4 shards through Ray / those of one FAISS index of the same kind in this
                   process, all vectors, batches of 1,000, k = 10, each with the parameters of its own calibration

With --imagenet, a whole retrieval by classes instead (retrieve_by_class.py), whose last line has

    classes, pairs      how many were asked for, and the unique pairs that were chosen
    driver_rss_gb, searcher_rss_gb   peaks of the driver and of the largest searcher; searcher_planned_gb: as planned
    seconds, hits_per_s from the queries to the chosen pairs; hits of all prompts and keys before they are reduced
    faiss_ratio         seconds of a bare FAISS batch search by an IVF of 8-bit codes over the same lists / ours

Vectors and queries come from a seed. The last line is one JSON object.

    python tests/benchmark/bench_retrieve.py [--n 1000000] [--dim 512]
    python tests/benchmark/bench_retrieve.py --imagenet --n 10000000
    python tests/benchmark/bench_retrieve.py --imagenet --n 50000 --classes 40 --prompts 20 --pairs-per-class 500
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
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
from react_ray.index.ordering import distinct
from react_ray.index.recall import recall_at_k
from react_ray.index.shards import params_for
from react_ray.recipe import Recipe
from react_ray.runtime.cluster import connected
from react_ray.stages import index
from react_ray.stages.retrieval.scanners import Scanners, search_exactly
from react_ray.stages.retrieval.shard_actors import ShardFanOut
from react_ray.vectors import from_vectors
from tests.benchmark.bench_index import recipe_over
from tests.benchmark.made_vectors import write
from tests.benchmark.retrieve_by_class import prepare, retrieve

NOTHING = np.empty(0, np.int64)  # no pair is deleted
BULK_QUERIES, BULK_K, BULK_LISTS = 1000, 10_000, 160
BATCH, BATCHES = 1000, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--queries", type=int, default=4000, help="queries of the exact search")
    parser.add_argument("--repeats", type=int, default=3, help="the median counts")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="keeps vectors and indices for the next run")
    parser.add_argument("--imagenet", action="store_true", help="a whole retrieval by classes")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--prompts", type=int, default=80, help="of each class")
    parser.add_argument("--pairs-per-class", type=int, default=10_000)
    parser.add_argument("--exclusive", action="store_true", help="a pair counts for one class, as by default")
    asked = parser.parse_args()
    if asked.imagenet:
        imagenet(asked)
        return
    root = Path(asked.folder, f"made-vectors-{asked.n}-{asked.dim}")
    mixture, embeddings = write(str(root), asked.n, asked.dim)
    bulk_QD = mixture.draw(BULK_QUERIES, 10**6 + 1, text=True).astype(np.float32)
    exact_QD = mixture.draw(asked.queries, 10**6 + 2, text=True).astype(np.float32)
    batch_QD = mixture.draw(BATCH, 10**6 + 3, text=True).astype(np.float32)
    out: dict[str, Any] = {}
    whole, whole_recipe = built(root, asked.cpus, 1)
    with connected(whole_recipe.cluster):
        of_recall, _ = params_for(whole, "image", 0.95, BULK_K)
        with ShardFanOut(whole, ["image"], whole_recipe.cluster, NOTHING) as shards:
            shards.search("image", bulk_QD[:10], 10, SearchParams(1, 1.0))  # the servers are up
            num_distinct: list[int] = []

            def bulk(params: SearchParams) -> None:
                num_distinct.append(len(distinct(shards.search("image", bulk_QD, BULK_K, params).rows()[1])))

            scan = search_exactly(embeddings, "image", bulk_QD[:50], BULK_K, whole_recipe.cluster, NOTHING)
            for name, params in (("bulk", SearchParams(BULK_LISTS)), ("bulk95", of_recall)):
                out[f"{name}_s"] = round(
                    float(np.median([seconds_of(lambda params=params: bulk(params)) for _ in range(asked.repeats)])), 2
                )  # type: ignore[misc]
                found = shards.search("image", bulk_QD[:50], BULK_K, params)
                out |= {f"{name}_nprobe": params.nprobe, f"{name}_recall": round(recall_at_k(found, scan, BULK_K), 4)}
            out["bulk_distinct"] = num_distinct[0]
        print(json.dumps(out), flush=True)
        faiss.omp_set_num_threads(asked.cpus)
        vectors_ND = np.concatenate([from_vectors(t["image"]).astype(np.float32) for t in embeddings.tables(["image"])])
        exact_s, knn_s = alternating(
            lambda: search_exactly(embeddings, "image", exact_QD, 100, whole_recipe.cluster, NOTHING),
            lambda: faiss.knn(exact_QD, vectors_ND, 100, metric=faiss.METRIC_INNER_PRODUCT),
            asked.repeats,
        )
        out |= {"exact_ratio": round(exact_s / knn_s, 3), "exact_s": round(exact_s, 2), "knn_s": round(knn_s, 2)}
        class_Q = np.arange(len(exact_QD)) // 80
        with Scanners(embeddings, whole_recipe.cluster, NOTHING) as scanners:
            classes_s = seconds_of(lambda: scanners.search_classes("image", exact_QD, class_Q, BULK_K))
        out |= {"exact_classes_ratio": round(classes_s / knn_s, 3)}
        print(json.dumps(out), flush=True)
        four, four_recipe = built(root, asked.cpus, 4)
        params, _ = params_for(four, "image", 0.95, 10)
        of_one, _ = params_for(whole, "image", 0.95, 10)
        one, *_owners = one_faiss_index(whole)
        asked_of_faiss = faiss.IndexRefineSearchParameters(
            k_factor=of_one.k_factor, base_index_params=faiss.SearchParametersIVF(nprobe=of_one.nprobe)
        )
        with ShardFanOut(four, ["image"], four_recipe.cluster, NOTHING) as shards:
            many_QD = np.concatenate([batch_QD] * BATCHES)
            shards.search("image", batch_QD, 10, params)
            ray_s, faiss_s = alternating(
                lambda: shards.search("image", many_QD, 10, params),
                lambda: [one.search(batch_QD, 10, params=asked_of_faiss) for _ in range(BATCHES)],
                3 * asked.repeats,
            )
            hits = shards.search("image", batch_QD, 10, params)
        truth = search_exactly(embeddings, "image", batch_QD, 10, four_recipe.cluster, NOTHING)
    out |= {"shards_recall": round(recall_at_k(hits, truth, 10), 4), "shards_params": [params.nprobe, params.k_factor]}
    out |= {"one_params": [of_one.nprobe, of_one.k_factor], "shards_ratio": round(faiss_s / ray_s, 3)}
    out |= {
        "shards_queries_per_s": round(BATCHES * BATCH / ray_s),
        "one_queries_per_s": round(BATCHES * BATCH / faiss_s),
    }
    print(json.dumps(out | {"n": asked.n}))


def imagenet(asked: argparse.Namespace) -> None:
    """Each step has a process of its own, so that the memory of the driver is that of a retrieval."""
    spawned = multiprocessing.get_context("spawn")
    with spawned.Pool(1) as pool:
        shape = asked.classes, asked.prompts
        root = pool.apply(prepare, (asked.folder, asked.n, asked.dim, *shape, asked.cpus))
    with spawned.Pool(1) as pool:
        found = pool.apply(retrieve, (root, *shape, asked.pairs_per_class, asked.exclusive, asked.cpus))
    print(json.dumps(found | {"n": asked.n}))


def built(root: Path, cpus: int, num_shards: int) -> tuple[Artifact, Recipe]:
    """Builds an index with this many shards, in a database of its own over the same embeddings."""
    folder = root / f"{num_shards}-shards"
    folder.mkdir(exist_ok=True)
    if not (folder / "embeddings").exists():
        (folder / "embeddings").symlink_to(root / "embeddings")
    recipe = recipe_over(
        folder, "ivf-rabitq", 0.95, cpus, num_shards=num_shards, build_memory_gb=64, calibration_k=BULK_K
    )
    with connected(recipe.cluster):
        return index.run(recipe), recipe


def one_faiss_index(artifact: Artifact) -> tuple[Any, ...]:
    """Returns the codes of the only shard as FAISS alone holds them, in memory, and the objects that must live as
    long."""
    hot = faiss.downcast_index(hot_owner := faiss.read_index(f"{artifact.uri}/image-00000.hot.faiss"))
    trained = faiss.downcast_index(trained_owner := faiss.read_index(f"{artifact.uri}/quantizer-image.faiss"))
    hot.quantizer = faiss.downcast_index(trained.base_index).quantizer
    hot.own_fields = False
    cold = faiss.read_index(f"{artifact.uri}/image-00000.cold.faiss")
    return faiss.IndexRefine(hot, cold), hot_owner, trained_owner, hot, trained, cold


def seconds_of(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def alternating(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Returns the medians of alternating runs, so that a slow minute of the machine affects both."""
    seconds = [(seconds_of(ours), seconds_of(theirs)) for _ in range(repeats)]
    return float(np.median([one for one, _ in seconds])), float(np.median([other for _, other in seconds]))


if __name__ == "__main__":
    main()
