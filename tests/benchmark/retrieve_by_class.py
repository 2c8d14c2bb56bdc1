"""Times a retrieval of ImageNet's shape over made vectors: many prompts of many classes, two keys, unique pairs.

bench_retrieve.py --imagenet runs it in a process of its own, so that the memory of the driver can be told.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact, open_artifact
from react_ray.draft import create
from react_ray.index.config import Key
from react_ray.index.list_index import ListIndex
from react_ray.index.plan import SEARCHER_BYTES, plan_index
from react_ray.index.quantizer import faiss_threads
from react_ray.index.shards import open_shards, shard_places
from react_ray.kinds import EMBEDDINGS, INDEX, PAIRS, QUERIES, EmbeddingsFacts, PairsFacts, QueriesFacts
from react_ray.pair_id import pair_ids
from react_ray.runtime.cluster import connected
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.hit_columns import AskedClasses
from react_ray.selection.select import choose, with_matches
from react_ray.stages import index
from react_ray.stages.retrieval.asked_queries import AskedQueries
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.search_rounds import search_rounds
from react_ray.stages.retrieval.searchers import Searchers, SearchPlan
from react_ray.storage import open_storage
from react_ray.vectors import from_vectors
from tests.benchmark.bench_index import recipe_over
from tests.benchmark.made_vectors import BACKBONE, Mixture, write

KEYS: list[Key] = ["image", "text"]
COMPARED = 8  # classes whose prompts stock FAISS searches too
SPREAD = 0.3  # of the prompts of a class around it
SAMPLED_S = 0.05


def prepare(folder: str, num: int, dim: int, classes: int, prompts: int, cpus: int) -> str:
    """Writes pairs, embeddings of both keys, queries and the index; what is there stays. Returns the folder."""
    root = Path(folder, f"made-classes-{num}-{dim}")
    mixture, embeddings = write(str(root), num, dim, text_rows=num)
    pairs = create(str(root / "pairs"), PAIRS, {}, {}, embeddings.num_parts)
    for part in pairs.pending():
        ids = pair_ids(part, embeddings.receipt(part).rows)
        pairs.commit(part, pa.table({"pair_id": ids, "caption": [f"caption {number}" for number in ids.tolist()]}), 0.0)
    pairs.seal(PairsFacts())
    queries = create(str(root / f"queries-{classes}-{prompts}"), QUERIES, {}, {}, 1)
    if queries.pending():
        queries.commit(0, made_queries(mixture, classes, prompts), 0.0)
        queries.seal(QueriesFacts(BACKBONE, dim, classes))
    recipe = recipe_over(root, "ivf-rabitq", 0.95, cpus, keys=KEYS, build_memory_gb=4, calibration_k=10_000)
    with connected(recipe.cluster):
        index.run(recipe)
    return str(root)


def made_queries(mixture: Mixture, classes: int, prompts: int) -> pa.Table:
    random = np.random.default_rng(0)
    centre_CD = mixture.draw(classes, 10**6 + 4, text=True).astype(np.float32)
    noise_QD = random.standard_normal((classes * prompts, mixture.dim), dtype=np.float32) * mixture.spectrum
    noise_QD *= SPREAD / np.linalg.norm(noise_QD, axis=1, keepdims=True)
    query_QD = np.repeat(centre_CD, prompts, axis=0) + noise_QD
    query_QD /= np.linalg.norm(query_QD, axis=1, keepdims=True)
    class_id = np.repeat(np.arange(classes), prompts)
    columns = {
        "query_id": np.arange(len(class_id)),
        "class_id": class_id,
        "task": ["made"] * len(class_id),
        "class_name": [f"class {number}" for number in class_id.tolist()],
        "prompt": [f"prompt {number % prompts} of class {number // prompts}" for number in range(len(class_id))],
        "modality": ["text"] * len(class_id),
        "embedding": pa.array([vector.tobytes() for vector in query_QD.astype(np.float16)], schema.vector(mixture.dim)),
    }
    return schema.conform(pa.table(columns), schema.queries(mixture.dim))


def retrieve(root: str, classes: int, prompts: int, pairs_per_class: int, exclusive: bool, cpus: int) -> dict[str, Any]:
    """Returns classes, pairs, seconds, peaks of memory and what stock FAISS takes for the same queries."""
    embeddings: Artifact[EmbeddingsFacts] = open_artifact(f"{root}/embeddings", EMBEDDINGS)
    database = Database(open_artifact(f"{root}/pairs", PAIRS), embeddings, None, np.empty(0, np.int64))
    built = open_artifact(f"{root}/index", INDEX)
    asked = open_artifact(f"{root}/queries-{classes}-{prompts}", QUERIES)
    recipe = recipe_over(Path(root), "ivf-rabitq", 0.95, cpus)
    config = RetrieveConfig(pairs_per_class=pairs_per_class, exclusive=exclusive, keys=KEYS)
    plan = SearchPlan(database, built, recipe.index, recipe.cluster)
    queries = pa.concat_tables(asked.tables()).drop_columns(["embedding"])
    out = f"{root}/out"
    open_storage(out).delete_all()
    planned = plan_index(embeddings.rows, built.facts.dim, recipe.index, embeddings.num_parts)
    with connected(recipe.cluster), Peaks() as peaks:
        began = time.monotonic()
        found = search_rounds(
            out, asked, queries, KEYS, config, plan, lambda: None, lambda claims: (choose(claims, config), {})
        )
        chosen = with_matches(found.chosen, found.tables(), AskedClasses(queries), config)
        seconds = time.monotonic() - began
        num_hits = classes * prompts * len(KEYS) * min(config.first_k, embeddings.rows)
        result = {
            "classes": classes,
            "pairs": chosen.num_rows,
            "kept_claims": len(found.claims.pair_id),
            "driver_rss_gb": round(peaks.driver_gb, 2),
            "searcher_rss_gb": round(peaks.searcher_gb, 2),
            "searcher_planned_gb": round(len(KEYS) * (planned.hot_bytes + SEARCHER_BYTES) / 2**30, 2),
            "seconds": round(seconds, 1),
            "hits_per_s": round(num_hits / seconds),
        }
        del found, chosen
        return result | compare(plan, asked, config.first_k, cpus)


def compare(plan: SearchPlan, asked: Artifact[QueriesFacts], most: int, cpus: int) -> dict[str, float]:
    """The prompts of some classes against images: the best pairs of each class by our searchers, and the hits of each
    prompt by a stock IVF of 8-bit codes over the same lists in this process, without a reduction."""
    every = AskedQueries.read(asked)
    some = every.take(np.flatnonzero(every.class_Q < COMPARED))
    faiss_threads(cpus)
    assert plan.index is not None
    stock = stock_ivf(plan.index, plan.database.embeddings)
    times: list[list[float]] = [[], []]
    with Searchers(plan) as searchers:
        params = faiss.SearchParametersIVF(nprobe=searchers.params("image", most).nprobe)
        searchers.search_classes("image", some.vectors_QD[:1], some.class_Q[:1], most)  # the shards are open
        for _ in range(3):
            began = time.perf_counter()
            searchers.search_classes("image", some.vectors_QD, some.class_Q, most)
            times[0].append(time.perf_counter() - began)
            began = time.perf_counter()
            stock.search(some.vectors_QD, most, params=params)
            times[1].append(time.perf_counter() - began)
    ours_s, stock_s = (float(np.median(one)) for one in times)
    return {"ours_s": round(ours_s, 2), "faiss_s": round(stock_s, 2), "faiss_ratio": round(stock_s / ours_s, 3)}


def stock_ivf(index: Artifact[Any], embeddings: Artifact[EmbeddingsFacts]) -> Any:
    """Returns a FAISS IVF of 8-bit codes in memory, with the lists of the image index: to assign ten million vectors
    anew would take longer than the retrieval."""
    native: Any = faiss
    (ours,) = open_shards(shard_places(index, "image"))
    assert isinstance(ours, ListIndex)
    sizes, rows = zip(*((np.diff(bounds), np.arange(bounds[0], bounds[-1])) for bounds in ours.bounds), strict=True)
    list_N = np.concatenate([np.repeat(np.arange(ours.num_lists), of_shard) for of_shard in sizes])
    ids = ours.cold.pair_ids(np.concatenate(rows))
    order = np.argsort(ids)
    ids, list_N = ids[order], list_N[order]
    coarse = faiss.clone_index(ours.coarse)
    stock = native.IndexIVFScalarQuantizer(
        coarse, coarse.d, coarse.ntotal, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
    )
    for part in range(embeddings.num_parts):
        table = embeddings.read(part, ["pair_id", "image"])
        vectors_ND, of_part = from_vectors(table["image"]).astype(np.float32), table["pair_id"].to_numpy()
        if not stock.is_trained:
            stock.train(vectors_ND)
        lists = np.ascontiguousarray(list_N[np.searchsorted(ids, of_part)])
        pointers = faiss.swig_ptr(vectors_ND), faiss.swig_ptr(of_part), faiss.swig_ptr(lists)
        stock.add_core(len(of_part), *pointers)
    return stock


class Peaks:
    """The most memory that this process, and the largest searcher below it, have held."""

    def __enter__(self) -> Peaks:
        self.driver_gb = self.searcher_gb = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        me, searchers, looked = psutil.Process(), [], 0.0
        while not self._ended.wait(SAMPLED_S):
            self.driver_gb = max(self.driver_gb, me.memory_info().rss / 2**30)
            if time.monotonic() - looked > 1:
                looked = time.monotonic()
                searchers = [one for one in psutil.process_iter(["name", "cmdline"]) if _is_searcher(one)]
            for one in searchers:
                try:
                    self.searcher_gb = max(self.searcher_gb, one.memory_info().rss / 2**30)
                except psutil.NoSuchProcess:
                    continue

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def _is_searcher(process: psutil.Process) -> bool:
    return " ".join(process.info["cmdline"] or []).startswith("ray::ShardServer")
