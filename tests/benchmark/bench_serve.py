"""Times a served search over made vectors, beside the same search in this process and the same hops without work.

--n vectors (made_vectors.py), an ivf-rabitq index of recall 0.95, are served in one process, as `react-ray serve` does
on a laptop, and then in --groups groups by Ray Serve on this machine: the command itself takes the requests, or with
--proxy a process behind Serve's proxy, as where `serve deploy` starts the application. One client asks for one query at
a time, unless said otherwise. The last line is one JSON object:

    in_process_p50_ms           the shards, searched in this process
    http_p50_ms, _p99_ms        POST /v1/search with a vector, and k hits with captions
    rps_100_clients             requests per second of 100 clients
    batched_ratio               queries per second of POST /v1/search.arrow / those of the shards in this process
    batched_per_s               the former of the two
    k10000_ms                   POST /v1/search with k = 10,000, with captions (median)
    noop_http_p50_ms            GET /healthz
    ray_...                     the same figures of Ray Serve
    ray_noop_post_p50_ms        with --proxy: as large a body to a deployment that answers as much, of nothing
    client_p50_ms, _p99_ms      a search of the groups, as from a task of the same cluster
    noop_client_p50_ms          as many questions of processes that do nothing, one for each group
    noop_handle_p50_ms          the same by handles of Ray Serve, in the fastest way that they have
    noop_cloudpickle_p50_ms     the same by gRPC, serialised as Serve does by default
    noop_task_p50_ms            the same by tasks of an actor instead of gRPC
    peer_...                    with --peer, what clip-retrieval's back end takes at the same recall (serve_peer.py)
    dfaiss_...                  with --distributed-faiss, what its client takes for as many servers (serve_dfaiss.py)

    python tests/benchmark/bench_serve.py [--n 1000000] [--dim 512] [--groups 1] [--k 100] [--proxy]
                                          [--only-ray] [--peer] [--distributed-faiss FOLDER]

Serve's own settings (RAY_SERVE_THROUGHPUT_OPTIMIZED, RAY_SERVE_ENABLE_HA_PROXY) come from the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray import serve

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests is no installed package
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it, before FAISS loads OpenMP

import react_ray
from react_ray.draft import create
from react_ray.index.config import SearchParams
from react_ray.index.quantizer import faiss_threads
from react_ray.index.search_shards import search_shards
from react_ray.index.shards import open_shards, params_for, shard_places
from react_ray.kinds import PAIRS
from react_ray.manifest import MANIFEST
from react_ray.pair_id import pair_ids
from react_ray.recipe import Recipe, recipe_of
from react_ray.runtime.cluster import connected
from react_ray.search.open_database import of_recipe
from react_ray.serving.cutting import all_places, memory_bytes
from react_ray.stages import index
from react_ray.stages.serve import served
from tests.benchmark import serve_dfaiss, serve_peer
from tests.benchmark.bench_retrieve import seconds_of
from tests.benchmark.made_vectors import write
from tests.benchmark.quantiles import quantiles
from tests.benchmark.serve_inside import HANDLES, client_times
from tests.benchmark.serve_noop import EchoPost

NUM_QUERIES, MOST_GROUPS, TIMEOUT_S, DEEP_K = 1000, 4, 30.0, 10_000
INSIDE = ("client_", *(f"noop_{way}_" for way in ("client", *HANDLES)))  # of the cluster, without the proxy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--groups", type=int, default=1, help=f"groups of shards, at most {MOST_GROUPS}")
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--times", type=int, default=500, help="searches that are timed")
    parser.add_argument("--proxy", action="store_true", help="requests go through the proxy of Ray Serve")
    parser.add_argument("--only-ray", action="store_true", help="leave out the server in one process")
    parser.add_argument("--peer", action="store_true", help=f"measure {serve_peer.PACKAGE} too, in a venv of its own")
    parser.add_argument("--peer-venv", default="", help="where that venv is, or is made; default: below --folder")
    parser.add_argument("--distributed-faiss", default="", help=f"measure it too: a clone of {serve_dfaiss.CLONED}")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="keeps the database for the next run")
    asked = parser.parse_args()
    if asked.distributed_faiss and not serve_dfaiss.is_clone(asked.distributed_faiss):
        parser.error(f"{asked.distributed_faiss} is no distributed-faiss: git clone {serve_dfaiss.CLONED} and name it")
    root = Path(asked.folder, f"made-served-{asked.n}-{asked.dim}")
    mixture, embeddings = write(str(root), asked.n, asked.dim)
    pairs = create(f"{root}/pairs", PAIRS, {}, {}, embeddings.num_parts)
    for part in pairs.pending():
        pairs.commit(part, described(pair_ids(part, embeddings.receipt(part).rows)), 0.0)
    described_pairs = pairs.seal()
    recipe = recipe_over(root, 1e3)
    queries_QD = mixture.draw(NUM_QUERIES, 10**6, text=True).astype(np.float32)
    if not (root / "index" / MANIFEST).exists():
        with connected(recipe.cluster):
            index.run(recipe)
    built = of_recipe(recipe).index
    assert built is not None
    if asked.groups > 1:
        recipe = recipe_over(root, 1.01 * sum(map(memory_bytes, all_places(built))) / asked.groups / 1e9)
    faiss_threads(os.cpu_count() or 1)  # as the server has
    params, recall = params_for(built, "image", recipe.index.recall, asked.k)
    shards = open_shards(shard_places(built, "image"))
    alone = quantiles(
        lambda number: search_shards(shards, queries_QD[number, None], asked.k, params), asked.times, NUM_QUERIES
    )
    out = {} if asked.only_ray else measured(recipe, queries_QD, asked.k, params, shards, asked.times)
    with connected(recipe.cluster):
        joined = on_this_ray(recipe, asked.proxy)
        on_ray = measured(joined, queries_QD, asked.k, params, shards, asked.times)
    groups = on_ray.pop("groups")
    table = pa.concat_tables(described_pairs.tables(["url", "caption"]))
    if asked.peer:
        python = serve_peer.peer_python(Path(asked.peer_venv or f"{asked.folder}/serve-peer-venv"))
        lists, reached = serve_peer.write(root / "peer", embeddings, table, queries_QD, asked.k, recall)
        with serve_peer.listening(python, root / "peer") as address:
            out |= serve_peer.measured(address, queries_QD, asked.k, asked.times, DEEP_K)
        out |= {"peer_lists": lists, "peer_recall": round(reached, 3)}
    if asked.distributed_faiss:
        with serve_dfaiss.listening(asked.distributed_faiss, groups) as client:
            out |= serve_dfaiss.write(client, embeddings, table, queries_QD, asked.k, recall)
            out |= serve_dfaiss.measured(client, queries_QD, asked.k, asked.times, DEEP_K)
    found = {"n": asked.n, "groups": groups, "k": asked.k, "recall": round(recall, 3)}
    found |= {name: value for name, value in os.environ.items() if name.startswith("RAY_SERVE_")}
    out |= {name if name.startswith(INSIDE) else f"ray_{name}": value for name, value in on_ray.items()}
    print(json.dumps(found | {"in_process_p50_ms": alone[0]} | out))


def measured(
    recipe: Recipe, queries_QD: np.ndarray, k: int, params: SearchParams, shards: Sequence[Any], times: int
) -> dict[str, Any]:
    """By Ray Serve if Ray runs."""
    bodies = [json.dumps({"query": {"embedding": one.tolist()}, "k": k, "key": "image"}) for one in queries_QD[:times]]
    deep = json.dumps({"query": {"embedding": queries_QD[0].tolist()}, "k": DEEP_K, "key": "image"})
    with apart(recipe) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))

        def ask(method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> bytes:
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 200, said
            return said

        over_http = quantiles(lambda number: ask("POST", "/v1/search", bodies[number]), times, len(bodies))
        over_http_deep = quantiles(lambda number: ask("POST", "/v1/search", deep), 20, 1)
        nothing = quantiles(lambda number: ask("GET", "/healthz"), times, 1)
        client = react_ray.connect(url, timeout_s=300)
        taken = [
            [
                seconds_of(lambda: client.search_vectors(queries_QD, k, key="image")),
                seconds_of(lambda: search_shards(shards, queries_QD, k, params)),
            ]
            for _ in range(5)
        ]
        batched_s, alone_s = np.median(taken, axis=0).tolist()
        out = {
            "http_p50_ms": over_http[0],
            "http_p99_ms": over_http[1],
            "rps_100_clients": round(asyncio.run(requests_per_s(url, queries_QD, k)), 1),
            "batched_ratio": round(alone_s / batched_s, 2),
            "batched_per_s": round(len(queries_QD) / batched_s, 1),
            "k10000_ms": over_http_deep[0],
            "noop_http_p50_ms": nothing[0],
        }
        if recipe.serve.max_ingress_replicas > 1:
            app = EchoPost.options(ray_actor_options={"num_cpus": 0}).bind()
            serve.run(app, name="noop", route_prefix="/noop")
            size = {"answer": str(len(ask("POST", "/v1/search", bodies[0])))}
            posted = quantiles(lambda number: ask("POST", "/noop/", bodies[number], size), times, len(bodies))
            out["noop_post_p50_ms"] = posted[0]
        if ray.is_initialized():
            out["groups"] = groups = len(client.index()["groups"])
            search, *noops = asyncio.run(client_times(recipe, groups, queries_QD, k, params, times))
            out |= {"client_p50_ms": search[0], "client_p99_ms": search[1]}
            out |= {f"noop_{way}_p50_ms": p50 for way, (p50, _) in zip(("client", *HANDLES), noops, strict=True)}
    return out


@contextmanager
def apart(recipe: Recipe) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    spawned = multiprocessing.get_context("spawn")
    ours, theirs = spawned.Pipe()
    process = spawned.Process(target=serve_alone, args=(recipe.yaml(), theirs))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def serve_alone(recipe: str, asked: Any) -> None:
    with served(recipe_of(recipe.encode(), "the recipe")) as url:
        asked.send(url)
        asked.recv()


async def requests_per_s(url: str, queries_QD: np.ndarray, k: int, seconds: float = 10.0) -> float:
    began, done = time.perf_counter(), 0

    async def ask(client: Any, number: int) -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            await client.search(queries_QD[number % len(queries_QD)], k, key="image")
            done += 1

    async with react_ray.connect(url, asynchronous=True, timeout_s=120) as client:
        await asyncio.gather(*(ask(client, number) for number in range(100)))
    return done / (time.perf_counter() - began)


def described(ids: np.ndarray) -> pa.Table:
    captions = [f"made picture {pair}" for pair in ids.tolist()]
    return pa.table({"pair_id": ids, "url": [f"http://example.org/{pair}" for pair in ids], "caption": captions})


def on_this_ray(recipe: Recipe, proxy: bool) -> Recipe:
    """The recipe of a server in another process that joins the Ray of this one."""
    width = {"max_ingress_replicas": 2, "upscale_delay_s": 3600.0} if proxy else {}  # it stays one process
    address = ray.get_runtime_context().gcs_address
    changes = {
        "cluster": recipe.cluster.model_copy(update={"address": address}),
        "serve": recipe.serve.model_copy(update=width),
    }
    return recipe.model_copy(update=changes)


def recipe_over(root: Path, group_memory_gb: float) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "bench",
            "database": str(root),
            "out": str(root / "out"),
            "backbone": {"name": "made"},
            "ingest": {"source": "none"},
            "index": {"kind": "ivf-rabitq", "num_shards": MOST_GROUPS, "keys": ["image"]},
            "cluster": {"object_store_gb": 0.5},
            "serve": {
                "port": 0,
                "reload_s": 3600.0,
                "group_memory_gb": group_memory_gb,
                "max_in_flight": 512,
                "timeout_s": TIMEOUT_S,
                "max_batch": NUM_QUERIES,
            },
        }
    )


if __name__ == "__main__":
    main()
