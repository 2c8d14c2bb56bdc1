"""Times the steps after a search: choosing pairs from hits, finding duplicates, finding names in captions.

    select_s        1,000 queries x k = 10,000 hits over --n pairs -> one row per pair with all its matches
    phash_s         --n perceptual hashes, a tenth of them copies with few bits turned, radius 3
    cosine_s        --vectors vectors of --dim, a tenth of them copies with noise, cosine 0.96
    names_per_s     captions per second that are searched for 10,000 names
    peak_rss_gb     of all steps

With --classes, what the driver of a retrieval does with the hits of so many classes and two keys instead, each as deep
as --k pairs per class need: keep, choose, and read the matches (kept_s, choose_s, matches_s; peak_rss_gb).

All data come from a seed. The last line is one JSON object.

    python tests/benchmark/bench_select.py [--n 1000000] [--k 10000] [--vectors 100000] [--dim 512]
    python tests/benchmark/bench_select.py --classes 1000 --n 10000000
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.draft import create
from react_ray.kinds import HITS
from react_ray.pair_id import ROW_BITS
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.duplicates import NONE, near_hashes, near_vectors
from react_ray.selection.hit_columns import AskedClasses
from react_ray.selection.kept_claims import KeptClaims
from react_ray.selection.name_match import NameMatch
from react_ray.selection.select import choose, chosen_pairs, select, with_matches

PROMPTS, CLASSES_PER_PART = 80, 6
NUM_QUERIES, NUM_NAMES, NUM_CAPTIONS = 1000, 10_000, 20_000
PART_ROWS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="pairs that hits are drawn from, and hashes")
    parser.add_argument("--k", type=int, default=10_000)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=0, help="choose as the driver of a retrieval by classes")
    asked = parser.parse_args()
    if asked.classes:
        by_class(asked.n, asked.k, asked.classes)
        return
    out: dict[str, float] = {"n": asked.n, "k": asked.k, "vectors": asked.vectors}

    hits, queries = made_hits(asked.n, asked.k), made_queries()
    began = time.monotonic()
    chosen = select(hits, queries, RetrieveConfig())
    out |= {"select_s": round(time.monotonic() - began, 2), "selected": chosen.num_rows}
    del hits, chosen

    hashes, copies = made_hashes(asked.n)
    began = time.monotonic()
    found = near_hashes(hashes, 3)
    out |= {
        "phash_s": round(time.monotonic() - began, 2),
        "phash_found": round(float((found[copies] != NONE).mean()), 4),
    }

    vectors, copies = made_vectors(asked.vectors, asked.dim)
    began = time.monotonic()
    found = near_vectors(vectors, 0.96)
    out |= {
        "cosine_s": round(time.monotonic() - began, 2),
        "cosine_found": round(float((found[copies] != NONE).mean()), 4),
    }

    generator = np.random.default_rng(4)
    words = [f"w{number}" for number in range(30_000)]
    names = [(i, 0, " ".join(generator.choice(words, 2))) for i in range(NUM_NAMES)]
    captions = [" ".join(generator.choice(words, 12)) for _ in range(NUM_CAPTIONS)]
    finder = NameMatch(names)
    began = time.monotonic()
    matched = sum(bool(finder.find(caption)) for caption in captions)
    out |= {"names_per_s": round(NUM_CAPTIONS / (time.monotonic() - began)), "captions_matched": matched}
    print(json.dumps(out | {"peak_rss_gb": peak_gb()}))


def by_class(num_pairs: int, pairs_per_class: int, num_classes: int) -> None:
    """The hits of captions have higher scores than those of images, and half of the pairs that an image hits are hit by
    their captions too. They come from a folder, as from the parts of a search."""
    config = RetrieveConfig(pairs_per_class=pairs_per_class, exclusive=False)
    queries, depth = made_queries(num_classes, PROMPTS), min(config.first_k, num_pairs)
    asked, kept, seconds = AskedClasses(queries), KeptClaims(queries, config), {}
    with tempfile.TemporaryDirectory() as folder:
        stored = create(folder, HITS, {}, {}, -(-num_classes // CLASSES_PER_PART))
        for part in stored.pending():
            classes = range(part * CLASSES_PER_PART, min((part + 1) * CLASSES_PER_PART, num_classes))
            stored.commit(part, pa.concat_tables([made_class(number, num_pairs, depth) for number in classes]), 0.0)
        hits, began = stored.seal(), time.monotonic()
        kept.add(hits.tables(), np.ones(queries.num_rows, bool), depth)
        seconds["kept_s"], began = time.monotonic() - began, time.monotonic()
        claims = choose(kept.claims, config)
        kept.short(claims)
        chosen = chosen_pairs(claims, config)
        seconds["choose_s"], began = time.monotonic() - began, time.monotonic()
        num_hits = with_matches(chosen, hits.tables(), asked, config)["matches"].combine_chunks().flatten()
        seconds["matches_s"] = time.monotonic() - began
    out = {"n": num_pairs, "classes": num_classes, "pairs_per_class": pairs_per_class, "hits": hits.rows}
    out |= {"kept": len(kept.claims.pair_id), "chosen": chosen.num_rows, "matches": len(num_hits)}
    print(json.dumps(out | {name: round(one, 1) for name, one in seconds.items()} | {"peak_rss_gb": peak_gb()}))


def made_class(number: int, num_pairs: int, depth: int) -> pa.Table:
    generator = np.random.default_rng([5, number])
    row = generator.choice(num_pairs, (3 * depth) // 2, replace=False)
    columns = {
        "query_id": np.sort(generator.integers(0, PROMPTS, 2 * depth)) + number * PROMPTS,
        "pair_id": np.concatenate([row[-depth:], generator.permutation(row[:depth])]),
        "score": np.concatenate(
            [0.4 - np.sort(0.2 * generator.random(depth)), 0.9 - np.sort(generator.random(depth) / 3)]
        ),
        "rank": np.tile(np.arange(depth), 2),
        "key": ["image"] * depth + ["text"] * depth,
    }
    columns["pair_id"] = columns["pair_id"] // PART_ROWS << ROW_BITS | columns["pair_id"] % PART_ROWS
    return schema.conform(pa.table(columns), schema.HITS)


def peak_gb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def made_hits(num_pairs: int, k: int) -> pa.Table:
    generator = np.random.default_rng(0)
    row = np.concatenate([generator.choice(num_pairs, k, replace=False) for _ in range(NUM_QUERIES)]).astype(np.int64)
    score = -np.sort(-generator.random((NUM_QUERIES, k)), axis=1)
    columns = {
        "query_id": np.repeat(np.arange(NUM_QUERIES), k),
        "pair_id": row // PART_ROWS << ROW_BITS | row % PART_ROWS,
        "score": score.ravel(),
        "rank": np.tile(np.arange(k), NUM_QUERIES),
        "key": pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(row), np.int8)), pa.array(["image"])),
    }
    return pa.table(columns).cast(schema.HITS)


def made_queries(num_classes: int = NUM_QUERIES, num_prompts: int = 1) -> pa.Table:
    numbers = np.repeat(np.arange(num_classes), num_prompts)
    return pa.table(
        {
            "query_id": pa.array(range(len(numbers)), pa.int32()),
            "class_id": pa.array(numbers, pa.int32()),
            "task": ["task"] * len(numbers),
            "class_name": [f"class {i}" for i in numbers],
            "prompt": [f"a photo {i} of a class {number}." for i, number in enumerate(numbers)],
        }
    )


def made_hashes(count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    hashes = generator.integers(0, 2**64, count, dtype=np.uint64)
    copies = np.arange(1, count, 10)
    turned = np.bitwise_or.reduce(np.uint64(1) << generator.integers(0, 64, (len(copies), 3)).astype(np.uint64), axis=1)
    hashes[copies] = hashes[copies - 1] ^ turned
    return hashes, copies


def made_vectors(count: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    centres = generator.normal(size=(1000, dim)).astype(np.float32)
    vectors = centres[generator.integers(0, 1000, count)] + 0.7 * generator.normal(size=(count, dim)).astype(np.float32)
    copies = np.arange(1, count, 10)
    vectors[copies] = vectors[copies - 1] + 0.2 * generator.normal(size=(len(copies), dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16), copies


if __name__ == "__main__":
    main()
