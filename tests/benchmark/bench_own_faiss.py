"""Measures our own index code beside stock FAISS: the same job on the same vectors, alternating; medians of --repeats.

    kmeans    k-means and assignment through two levels of centroids (kmeans.py) / over all centroids at once
              (faiss.Kmeans, IndexFlatIP): CPU-seconds, mean cosine of other vectors to their centroid
    writer    the files of a shard, sorted by list (list_shard.py) / the same codes in an IndexScalarQuantizer, and
              write_index: CPU-seconds, MB of memory above the start
    join      shards joined list by list (join_lists.py) / searched one by one and merged, with the same nprobe and
              k_factor: CPU-milliseconds per query
    cold      a search that re-ranks by mapped codes (cold_codes.py) / IndexRefine over the same codes
              read with IO_FLAG_MMAP_IFC: CPU-milliseconds per query, MB that stay mapped after 6,000 queries, of which
              cold_codes.py may keep 32 here
    bulk      many hits per query by a scan of these codes (list_index.py) / a mapped IndexIVFScalarQuantizer:
              CPU-seconds

The vectors come from a seed (made_vectors.py). The last line is one JSON object; of two values the first is ours.

    python tests/benchmark/bench_own_faiss.py [--n 250000] [--dim 512] [--repeats 3] [--only writer bulk]
"""

from __future__ import annotations

import argparse
import filecmp
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests is no installed package

from react_ray.index import cold_codes
from react_ray.index.config import IVF_RABITQ, IndexConfig, SearchParams
from react_ray.index.kmeans import ITERATIONS, Assigner, train_centroids
from react_ray.index.list_index import ListIndex
from react_ray.index.list_shard import FILES, ListShardBuilder, coarse_quantizer
from react_ray.index.merge import merge
from react_ray.index.plan import VECTORS_PER_LIST, lists_for
from react_ray.index.quantizer import as_built, faiss_threads, train
from tests.benchmark.made_vectors import Mixture

NUM_PARTS = 4  # as many shards are joined
NUM_QUERIES, NPROBE, K_FACTOR = 2000, 32, 10.0
BULK_QUERIES, BULK_K, BULK_NPROBE = 1000, 10_000, 160
KEPT_BYTES = 32 << 20  # of mapped codes, here: the gigabyte of cold_codes.py is more than all codes of this benchmark


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=250_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="some of kmeans, writer, join, cold, bulk")
    asked = parser.parse_args()
    faiss_threads(asked.threads)
    mixture, num_lists = Mixture(asked.dim), lists_for(asked.n)
    out: dict[str, Any] = {"n": asked.n, "dim": asked.dim, "lists": num_lists}
    sample = mixture.draw(min(asked.n, VECTORS_PER_LIST * num_lists), 10**6).astype(np.float32)
    quantizer = train(sample, IndexConfig(kind=IVF_RABITQ, num_lists=num_lists), 0, asked.threads)
    assert quantizer is not None
    queries = mixture.draw(NUM_QUERIES, 10**6 + 2, text=True).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "quantizer").write_bytes(quantizer)
        for part in range(NUM_PARTS):
            np.save(root / f"vectors-{part}.npy", mixture.draw(asked.n // NUM_PARTS, part))
            write_shard(root, str(part), quantizer, parts_of(root, [part]))
        write_shard(root, "all", quantizer, parts_of(root, list(range(NUM_PARTS))))
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "kmeans": lambda: kmeans(
                sample, mixture.draw(50_000, 10**6 + 1).astype(np.float32), num_lists, asked.repeats
            ),
            "writer": lambda: writer(root, asked.repeats, asked.threads),
            "join": lambda: join(root, quantizer, queries, asked.repeats),
            "cold": lambda: cold(root, quantizer, queries, asked.repeats),
            "bulk": lambda: bulk(root, quantizer, queries[:BULK_QUERIES], asked.repeats),
        }
        for name in asked.only or measures:
            out |= measures[name]()
            print(json.dumps(out), flush=True)


def kmeans(sample: np.ndarray, others: np.ndarray, num_lists: int, repeats: int) -> dict[str, Any]:
    def plain() -> np.ndarray:
        clustering = faiss.Kmeans(
            sample.shape[1],
            num_lists,
            niter=ITERATIONS,
            spherical=True,
            min_points_per_centroid=1,
            max_points_per_centroid=len(sample),
        )
        clustering.train(sample)
        return np.asarray(clustering.centroids)

    found: list[np.ndarray] = []
    train_s = cpu_seconds(
        lambda: found.append(train_centroids(sample, num_lists, 0)), lambda: found.append(plain()), repeats
    )
    flat = [faiss.IndexFlatIP(sample.shape[1]) for _ in range(2)]
    for index, centroids in zip(flat, found[-2:], strict=True):
        index.add(centroids)
    cosine = [float(index.search(others, 1)[0].mean()) for index in flat]
    assigner = Assigner(found[-2])
    assign_s = cpu_seconds(lambda: assigner.assign(others), lambda: flat[0].search(others, 1), repeats)
    nearest = float((assigner.assign(others) == flat[0].search(others, 1)[1][:, 0]).mean())
    return {
        "kmeans_cpu_s": train_s,
        "kmeans_cosine": [round(value, 4) for value in cosine],
        "assign_us": [round(1e6 * value / len(others), 1) for value in assign_s],
        "assign_nearest": [round(nearest, 4), 1.0],
    }


def writer(root: Path, repeats: int, num_threads: int) -> dict[str, Any]:
    """Builds each time in a new process, so that its memory can be told."""
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "stock": []}
    for _ in range(repeats):
        for kind, values in found.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                values.append(pool.apply(build, (str(root), kind, num_threads)))
    for suffix in FILES[:2]:
        assert filecmp.cmp(root / f"ours-{suffix}", root / f"stock-{suffix}", shallow=False), suffix
    medians = [np.median(values, axis=0) for values in found.values()]
    return {
        "writer_cpu_s": [round(float(one[0]), 2) for one in medians],
        "writer_mb": [round(float(one[1])) for one in medians],
    }


def build(folder: str, kind: str, num_threads: int) -> tuple[float, float]:
    """Returns (CPU-seconds, MB above the start) of writing one shard of all parts."""
    faiss_threads(num_threads)
    root = Path(folder)
    quantizer = (root / "quantizer").read_bytes()
    write = write_shard if kind == "ours" else write_stock
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, VmHWM
    start, began = status_mb("VmRSS"), time.process_time()
    write(root, kind, quantizer, parts_of(root, list(range(NUM_PARTS))))
    return time.process_time() - began, status_mb("VmHWM") - start


def write_shard(root: Path, name: str, quantizer: bytes, parts: Iterator[tuple[np.ndarray, np.ndarray]]) -> None:
    builder = ListShardBuilder(quantizer)
    for ids, vectors in parts:
        builder.add(ids, vectors)
    for suffix, pieces in builder.finish()[1].items():
        with open(root / f"{name}-{suffix}", "wb") as file:
            for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                file.write(piece)


def write_stock(root: Path, name: str, quantizer: bytes, parts: Iterator[tuple[np.ndarray, np.ndarray]]) -> None:
    """Writes the same bytes as `write_shard`, the codes by FAISS's own writer: it needs them in an index of its own."""
    builder = ListShardBuilder(quantizer)
    for ids, vectors in parts:
        builder.add(ids, vectors)
    order = np.lexsort((np.concatenate(builder._ids), np.concatenate(builder._lists)))
    codes = np.concatenate(builder._cold_codes)
    builder._cold_codes.clear()
    faiss.copy_array_to_vector(codes[order].ravel(), builder._cold.codes)
    builder._cold.ntotal = len(order)
    faiss.write_index(builder._cold, str(root / f"{name}-cold.faiss"))
    with open(root / f"{name}-hot.faiss", "wb") as file:
        for piece in builder._hot_pieces(order, np.concatenate(builder._lists)[order]):
            file.write(piece)


def parts_of(root: Path, parts: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    first = 0
    for part in parts:
        vectors = np.load(root / f"vectors-{part}.npy").astype(np.float32)
        yield np.arange(first, first + len(vectors)), vectors
        first += len(vectors)


def join(root: Path, quantizer: bytes, queries: np.ndarray, repeats: int) -> dict[str, Any]:
    shards = [files(root, str(part)) for part in range(NUM_PARTS)]
    coarse = [coarse_quantizer(quantizer) for _ in range(NUM_PARTS + 1)]
    began = time.process_time()
    joined = ListIndex(shards, coarse[-1])
    open_s = time.process_time() - began
    apart = [ListIndex([shard], one) for shard, one in zip(shards, coarse, strict=False)]
    params = SearchParams(NPROBE, K_FACTOR)
    search_s = cpu_seconds(
        lambda: joined.search(queries, 10, params),
        lambda: merge([shard.search(queries, 10, params) for shard in apart], 10),
        repeats,
    )
    return {"join_open_cpu_s": round(open_s, 2), "join_ms": per_query(search_s, queries)}


def cold(root: Path, quantizer: bytes, queries: np.ndarray, repeats: int) -> dict[str, Any]:
    coarse = [coarse_quantizer(quantizer) for _ in range(4)]
    native: Any = faiss

    def ours(number: int) -> Callable[[int], Any]:
        index = ListIndex([files(root, "all")], coarse[number])
        return lambda k: index.search(queries, k, SearchParams(NPROBE, K_FACTOR))

    def stock(number: int) -> Callable[[int], Any]:
        hot, codes = (
            faiss.read_index(path, flags)
            for path, flags in zip(files(root, "all"), (0, faiss.IO_FLAG_MMAP_IFC), strict=False)
        )
        ivf = as_built(hot)
        ivf.quantizer, ivf.own_fields = coarse[number], False
        index = faiss.IndexRefine(ivf, codes)
        params = native.IndexRefineSearchParameters(
            k_factor=K_FACTOR, base_index_params=native.SearchParametersIVF(nprobe=NPROBE)
        )
        return lambda k: (index.search(queries, k, params=params), hot, codes)

    first, second = ours(0), stock(1)
    search_s = cpu_seconds(lambda: first(10), lambda: second(10), repeats)
    kept, cold_codes.KEPT_BYTES = cold_codes.KEPT_BYTES, KEPT_BYTES
    mapped = []
    for fresh in (ours(2), stock(3)):
        before = status_mb("RssFile")
        for k in (10, 50, 100):
            fresh(k)
        mapped.append(round(status_mb("RssFile") - before))
    cold_codes.KEPT_BYTES = kept
    return {"cold_ms": per_query(search_s, queries), "cold_mapped_mb": mapped}


def bulk(root: Path, quantizer: bytes, queries: np.ndarray, repeats: int) -> dict[str, Any]:
    ours = ListIndex([files(root, "all")], coarse_quantizer(quantizer))
    coarse = coarse_quantizer(quantizer)
    native: Any = faiss
    built = native.IndexIVFScalarQuantizer(
        coarse, coarse.d, coarse.ntotal, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
    )
    built.train(np.load(root / "vectors-0.npy").astype(np.float32))
    for ids, vectors in parts_of(root, list(range(NUM_PARTS))):
        built.add_with_ids(vectors, ids)
    faiss.write_index(built, str(root / "ivf-sq8.faiss"))
    stock = faiss.read_index(str(root / "ivf-sq8.faiss"), faiss.IO_FLAG_MMAP_IFC)
    params = native.SearchParametersIVF(nprobe=BULK_NPROBE)
    return {
        "bulk_cpu_s": cpu_seconds(
            lambda: ours.search(queries, BULK_K, SearchParams(BULK_NPROBE, 0.0)),
            lambda: stock.search(queries, BULK_K, params=params),
            repeats,
        )
    }


def files(root: Path, name: str) -> list[str]:
    return [str(root / f"{name}-{suffix}") for suffix in FILES]


def status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def cpu_seconds(ours: Callable[[], Any], stock: Callable[[], Any], repeats: int) -> list[float]:
    """Medians of both, one after the other."""
    found: list[list[float]] = [[], []]
    for _ in range(repeats):
        for action, values in zip((ours, stock), found, strict=True):
            began = time.process_time()
            action()
            values.append(time.process_time() - began)
    return [round(float(np.median(values)), 3) for values in found]


def per_query(seconds: list[float], queries: np.ndarray) -> list[float]:
    return [round(1e3 * value / len(queries), 4) for value in seconds]


if __name__ == "__main__":
    main()
