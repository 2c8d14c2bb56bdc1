"""Compares ways to join the hits of two keys, by the precision of what is retrieved on the sample.

Takes the folder of a run of recipes://sample.yaml with embed.images=true, up to retrieve. Precision is the share of
retrieved pairs whose caption names their class (NameMatch), and the share whose drawing is filed under the class's name
(column `key`). Every query is compared exactly with both keys. Besides the values of retrieve.fusion: one key alone;
the best pairs of both keys in turns, so that each gives half; and captions whose image is below the median, or the
lowest quarter, of the query's hits left out (T2I as a filter of T2T, as in SWAT). The difference from fusion=score is
that of the caption precision, with its 95% interval over 1,000 draws of classes. The last line is one JSON object.

    python tests/benchmark/bench_fusion.py [--run runs/keys]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests is no installed package

from react_ray import schema
from react_ray.artifact import open_artifact
from react_ray.index.exact import RunningTopK
from react_ray.index.merge import Hits
from react_ray.kinds import EMBEDDINGS, PAIRS, QUERIES
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.key_scales import key_scales
from react_ray.selection.name_match import NameMatch
from react_ray.selection.select import select
from react_ray.vectors import from_vectors

SETTINGS = ((32, 6), (32, 20), (200, 50))  # k, pairs_per_class; the first is the demo's
KEYS = ("image", "text")
DRAWS = 1000


class Sample:
    def __init__(self, run: str) -> None:
        def whole(kind: Any, *folders: str) -> pa.Table:
            return pa.concat_tables(open_artifact(str(Path(run, *folders)), kind).tables())

        embeddings, pairs = whole(EMBEDDINGS, "database", "embeddings"), whole(PAIRS, "database", "pairs")
        self.queries = whole(QUERIES, "queries")
        self.asked_QD = from_vectors(self.queries["embedding"]).astype(np.float32)
        self.ids = embeddings["pair_id"].to_numpy()
        self.vectors = {key: from_vectors(embeddings[key]).astype(np.float32) for key in KEYS}
        samples = {key: found[np.isfinite(found).all(axis=1)][::3] for key, found in self.vectors.items()}
        self.scales = key_scales({"text": self.asked_QD}, samples)
        names = self.queries["class_name"].to_pylist()
        finder = NameMatch([(number, 0, name) for number, name in enumerate(names)])
        number_of = pairs["pair_id"].to_pylist()
        self.named = {
            column: dict(zip(number_of, ({n for n, _ in finder.find(text)} for text in texts), strict=True))
            for column, texts in ((name, pairs[name].to_pylist()) for name in ("caption", "key"))
        }

    def search(self, key: str, k: int) -> Hits:
        best = RunningTopK(k)
        best.update(self.asked_QD, self.ids, self.vectors[key])
        return best.result()

    def right(self, chosen: pa.Table, column: str) -> np.ndarray:
        """float64 [2, classes]: retrieved pairs that are named after their class, and all."""
        classes, pairs = chosen["class_id"].to_pylist(), chosen["pair_id"].to_pylist()
        good = np.array([number in self.named[column][pair] for number, pair in zip(classes, pairs, strict=True)])
        count = self.queries.num_rows
        return np.stack([np.bincount(classes, good, count), np.bincount(classes, minlength=count).astype(float)])


def table(hits: dict[str, Hits]) -> pa.Table:
    found = []
    for key, one in hits.items():
        query, pair_id, score, rank = one.rows()
        columns = {"query_id": query, "pair_id": pair_id, "score": score, "rank": rank, "key": [key] * len(query)}
        found.append(schema.conform(pa.table(columns), schema.HITS))
    return pa.concat_tables(found)


def in_turns(hits: Hits) -> Hits:
    """The place of each hit as its score."""
    places = np.arange(hits.scores.shape[1], dtype=np.float32) / hits.scores.shape[1]
    return Hits(np.broadcast_to(1 - places, hits.scores.shape).copy(), hits.pair_ids)


def filtered(sample: Sample, hits: Hits, dropped: float) -> Hits:
    """Without the share of each query's hits whose images have the lowest cosines with it."""
    row = np.searchsorted(sample.ids, hits.pair_ids)  # ids ascend
    image_QKD = np.nan_to_num(sample.vectors["image"], nan=0)[row]
    cosine_QK = np.einsum("qkd,qd->qk", image_QKD, sample.asked_QD)
    kept = cosine_QK >= np.quantile(cosine_QK, dropped, axis=1, keepdims=True)
    return Hits(np.where(kept, hits.scores, -np.inf).astype(np.float32), np.where(kept, hits.pair_ids, -1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/keys", help="folder of a run of the sample, with its database in it")
    sample = Sample(parser.parse_args().run)
    random, out = np.random.default_rng(0), {}
    for k, wanted in SETTINGS:
        config = RetrieveConfig(k=k, pairs_per_class=wanted)
        hits = {key: sample.search(key, k) for key in KEYS}
        text, both = {"text": hits["text"]}, table(hits)
        ways = {
            "score": (both, "score"),
            "z-score": (both, "z-score"),
            "rank": (both, "rank"),
            "half from each key": (table({key: in_turns(one) for key, one in hits.items()}), "score"),
            "captions alone": (table(text), "score"),
            "images alone": (table({"image": hits["image"]}), "score"),
            "captions, less a quarter by image": (table({"text": filtered(sample, hits["text"], 0.25)}), "score"),
            "captions, less half by image": (table({"text": filtered(sample, hits["text"], 0.5)}), "score"),
        }
        print(f"\nk={k}, pairs_per_class={wanted}\n{'':36}{'pairs':>7}{'named':>8}{'filed':>8}{'by image':>10}")
        against = None
        for name, (rows, fusion) in ways.items():
            chosen = select(rows, sample.queries, config.model_copy(update={"fusion": fusion}), scales=sample.scales)
            named, filed = (sample.right(chosen, column) for column in ("caption", "key"))
            against = named if against is None else against
            drawn = random.integers(0, named.shape[1], (DRAWS, named.shape[1]))
            share, other = (one[0][drawn].sum(axis=1) / one[1][drawn].sum(axis=1) for one in (named, against))
            low, high = np.quantile(share - other, [0.025, 0.975])
            images = np.mean([match[0]["key"] == "image" for match in chosen["matches"].to_pylist()])
            precision = [float(one[0].sum() / one[1].sum()) for one in (named, filed)]
            print(
                f"{name:36}{chosen.num_rows:>7,}{precision[0]:>8.3f}{precision[1]:>8.3f}{images:>10.2f}"
                f"   {low:+.3f} to {high:+.3f}",
                flush=True,
            )
            out[f"{name}, {wanted}"] = [
                chosen.num_rows,
                *(round(value, 4) for value in precision),
                round(float(images), 3),
            ]
    print(json.dumps(out))


if __name__ == "__main__":
    main()
