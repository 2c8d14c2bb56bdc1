"""Times a served search: `python -m tests.benchmark.bench_serve [--n 1000000] [--dim 512] [--groups 1] [--k 100]`.

The last line is one JSON object. client: a question to one group through its handle, without HTTP (with 1 group, all of
a search); http: POST /v1/search with an embedding, one client; rps_100_clients: requests per second of 100 clients;
batched_ratio: queries per second of POST /v1/search.arrow over those of the same shards in this process; k10000_ms:
HTTP with k=10,000 and metadata; noop: the same hops without any work.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve

import react_ray
from react_ray.index.deleted import deleted_pairs
from react_ray.index.search_shards import search_shards
from react_ray.index.shards import open_shards, params_for, shard_places
from react_ray.recipe import Recipe
from react_ray.search.open_database import of_recipe
from react_ray.serving.client import Client
from react_ray.serving.groups import Asked
from react_ray.serving.stamp import stamp_of
from react_ray.stages import index
from react_ray.stages.serve import served
from tests.support.vector_database import unit_vectors, write_database

ROWS_PER_PART = 20_000


@serve.deployment
class Echo:
    """A group that does nothing."""

    async def answer(self, asked: Asked) -> Any:
        return asked.queries_QD


def quantiles(work: Callable[[int], Any], times: int) -> tuple[float, float]:
    """(p50, p99) in milliseconds, after a tenth as many tries that do not count."""
    taken = []
    for number in range(times + times // 10):
        began = time.perf_counter()
        work(number)
        taken.append(1000 * (time.perf_counter() - began))
    p50, p99 = np.quantile(taken[times // 10 :], [0.5, 0.99]).round(2).tolist()
    return p50, p99


def recipe_over(folder: Path, groups: int, gb: float) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "bench",
            "database": f"{folder}/database",
            "out": f"{folder}/run",
            "backbone": {"name": "sample://base_clip.json", "pretrained": "sample://base_clip.safetensors"},
            "ingest": {"source": "none"},
            "index": {"kind": "ivf-rabitq", "num_shards": 4, "keys": ["text"]},
            "cluster": {"object_store_gb": 1.0},
            "serve": {"port": 0, "reload_s": 3600.0, "group_memory_gb": gb, "max_in_flight": 512},
        }
    )


def post(url: str, body: Any) -> Callable[[int], Any]:
    place = http.client.HTTPConnection(url.removeprefix("http://"))
    data = json.dumps(body)

    def once(number: int) -> Any:
        place.request("POST", "/v1/search", data, {"Content-Type": "application/json"})
        return json.loads(place.getresponse().read())

    return once


async def requests_per_s(url: str, vectors_QD: np.ndarray, k: int, seconds: float = 10.0) -> float:
    began, done = time.perf_counter(), 0

    async def ask(client: Any, number: int) -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            await client.search(vectors_QD[number % len(vectors_QD)], k, key="text")
            done += 1

    async with react_ray.connect(url, asynchronous=True, timeout_s=120) as client:
        await asyncio.gather(*(ask(client, number) for number in range(100)))
    return done / (time.perf_counter() - began)


def main() -> None:
    asked = argparse.ArgumentParser()
    for name, value in {"n": 1_000_000, "dim": 512, "groups": 1, "k": 100, "times": 300}.items():
        asked.add_argument(f"--{name}", type=int, default=value)
    args = asked.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_database(f"{folder}/database", -(-args.n // ROWS_PER_PART), ROWS_PER_PART, args.dim)
        recipe = recipe_over(folder, args.groups, 1e3)
        index.run(recipe)
        database = of_recipe(recipe)
        assert database.index is not None
        shards = open_shards(shard_places(database.index, "text"), deleted_pairs(recipe.database))
        size = sum(
            one["bytes"] for r in database.index.receipts() for n, one in r.files.items() if n.endswith("hot.faiss")
        )
        gb = 1e3 if args.groups == 1 else size / args.groups / 1e9
        recipe = recipe_over(folder, args.groups, gb)
        queries_QD = unit_vectors(1024, args.dim, 7).astype(np.float32)
        params, recall = params_for(database.index, "text", recipe.index.recall, args.k)
        in_process = quantiles(lambda i: search_shards(shards, queries_QD[i % 1024][None], args.k, params), args.times)
        began = time.perf_counter()
        search_shards(shards, queries_QD, args.k, params)
        faiss_qps = 1024 / (time.perf_counter() - began)
        with served(recipe) as url:
            client: Client = react_ray.connect(url, timeout_s=300)
            groups = len(client.index()["groups"])
            body = {"query": {"embedding": queries_QD[0].tolist()}, "k": args.k, "key": "text"}
            over_http = quantiles(post(url, body), args.times)
            deep = quantiles(post(url, body | {"k": 10_000}), 20)
            rps = asyncio.run(requests_per_s(url, queries_QD, args.k))
            began = time.perf_counter()
            client.search_vectors(queries_QD, args.k, key="text")
            batched = 1024 / (time.perf_counter() - began) / faiss_qps
            handle = serve.get_deployment_handle("group-0", "react-ray")
            question = Asked(stamp_of(recipe.database), "text", (), "search", queries_QD[:1], (args.k, params))
            of_group = quantiles(lambda i: handle.answer.remote(question).result(), args.times)
            noop = serve.run(Echo.bind(), name="echo", route_prefix=None)
            of_noop = quantiles(lambda i: noop.answer.remote(question).result(), args.times)
            health = http.client.HTTPConnection(url.removeprefix("http://"))

            def alive(number: int) -> None:
                health.request("GET", "/healthz")
                health.getresponse().read()

            http_noop = quantiles(alive, args.times)
        print(
            json.dumps(
                {
                    "n": args.n,
                    "groups": groups,
                    "recall": round(recall, 3),
                    "in_process_p50_ms": in_process[0],
                    "client_p50_ms": of_group[0],
                    "client_p99_ms": of_group[1],
                    "http_p50_ms": over_http[0],
                    "http_p99_ms": over_http[1],
                    "rps_100_clients": round(rps, 1),
                    "batched_ratio": round(batched, 2),
                    "k10000_ms": deep[0],
                    "noop_client_p50_ms": of_noop[0],
                    "noop_http_p50_ms": http_noop[0],
                }
            )
        )
        ray.shutdown()


if __name__ == "__main__":
    main()
