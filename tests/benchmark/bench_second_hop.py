"""Times the second hop of a two-stage search: two processes that propose candidates, are told which of them are among
the best of both, and re-rank these; beside one stage, in which each re-ranks its own best.

    second_hop          seconds of two stages / of one, with batches in flight, as searches do it
    second_hop_alone    the same with one batch at a time, so that the processes wait between the hops
    hidden              share of what the second hop costs alone that batches in flight save
    one_stage_s, two_stages_s, one_stage_alone_s, two_stages_alone_s   medians of alternating runs
    cpu_ratio           CPU seconds of both processes and this one, two stages / one, with batches in flight
    recall, recall_of_one   of the hits of two stages and of one: the latter re-ranks twice the candidates

Vectors and queries come from a seed, and both ways search with the parameters of the index's calibration. The last line
is one JSON object.

    python tests/benchmark/bench_second_hop.py [--n 1000000] [--k 100] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests is no installed package

from react_ray.index.merge import Hits
from react_ray.index.recall import recall_at_k
from react_ray.index.shards import params_for
from react_ray.stages.retrieval import fan_out
from react_ray.stages.retrieval.fan_out import BATCHES_AHEAD
from react_ray.stages.retrieval.scanners import search_exactly
from react_ray.stages.retrieval.shard_actors import ShardFanOut
from tests.benchmark.bench_retrieve import NOTHING, built
from tests.benchmark.made_vectors import write
from tests.support.three_nodes import cluster_of

PROCESSES, SHARDS = 2, 4
STAGES = {"one_stage": False, "two_stages": True}
TRUTH = 200  # queries whose recall is measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--queries", type=int, default=16_384, help="in batches of 1,024, or of fewer where k is large")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--repeats", type=int, default=5, help="the median counts")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="keeps vectors and index for the next run")
    asked = parser.parse_args()
    root = Path(asked.folder, f"made-vectors-{asked.n}-{asked.dim}")
    mixture, embeddings = write(str(root), asked.n, asked.dim)
    queries_QD = mixture.draw(asked.queries, 10**6 + 4, text=True).astype(np.float32)
    index, recipe = built(root, PROCESSES * asked.threads, SHARDS)
    cluster = recipe.cluster.model_copy(
        update={"num_searchers": PROCESSES, "min_searchers": PROCESSES, "threads_per_actor": asked.threads}
    )
    params, _ = params_for(index, "image", 0.95, asked.k)
    assert params.k_factor, "nothing is re-ranked with these parameters, so there is one stage"
    of_way: dict[str, list[float]] = {f"{name}{alone}_s": [] for alone in ("", "_alone") for name in STAGES}
    cpu: dict[str, list[float]] = {name: [] for name in STAGES}
    recall = {}
    with cluster_of(*["any"] * PROCESSES, cpus=asked.threads):
        truth = search_exactly(embeddings, "image", queries_QD[:TRUTH], asked.k, cluster, NOTHING)
        with ShardFanOut(index, ["image"], cluster, NOTHING) as shards:
            pids = ray.get(
                [server.__ray_call__.remote(lambda _: os.getpid()) for server, _ in shards._pool.shares("image")]
            )
            processes = [psutil.Process(pid) for pid in (*pids, os.getpid())]
            for repeat in range(asked.repeats + 1):  # the first opens what is read later
                for alone, ahead in (("", BATCHES_AHEAD), ("_alone", 0)):
                    for name, two_stages in STAGES.items():
                        shards._two_stages, fan_out.BATCHES_AHEAD = two_stages, ahead
                        before, began = cpu_seconds(processes), time.perf_counter()
                        hits = shards.search("image", queries_QD, asked.k, params)
                        if repeat:
                            of_way[f"{name}{alone}_s"].append(time.perf_counter() - began)
                        if repeat and not alone:
                            cpu[name].append(cpu_seconds(processes) - before)
                        found = Hits(hits.scores[:TRUTH], hits.pair_ids[:TRUTH])
                        recall[name] = round(recall_at_k(found, truth, asked.k), 4)
    seconds = {name: float(np.median(found)) for name, found in of_way.items()}
    in_flight, alone_s = (seconds[f"two_stages{end}_s"] - seconds[f"one_stage{end}_s"] for end in ("", "_alone"))
    out: dict[str, Any] = {
        "second_hop": round(seconds["two_stages_s"] / seconds["one_stage_s"], 3),
        "second_hop_alone": round(seconds["two_stages_alone_s"] / seconds["one_stage_alone_s"], 3),
        "hidden": round(1 - in_flight / alone_s, 3) if alone_s > 0 else None,
        "cpu_ratio": round(float(np.median(cpu["two_stages"]) / np.median(cpu["one_stage"])), 3),
    }
    out |= {name: round(one, 2) for name, one in seconds.items()}
    out |= {"recall": recall["two_stages"], "recall_of_one": recall["one_stage"]}
    out |= {"nprobe": params.nprobe, "k_factor": params.k_factor, "k": asked.k, "queries": asked.queries, "n": asked.n}
    print(json.dumps(out))


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    main()
