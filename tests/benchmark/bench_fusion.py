"""Compares ways to join the hits of two keys, by the precision of what is retrieved on the sample.

Takes the folder of a run of recipes://sample.yaml with embed.images=true, up to retrieve. Precision is the share of
retrieved pairs whose caption names their class (NameMatch), and the share whose drawing is filed under the class's name
(column `key`). Every query is compared exactly with both keys. Besides the values of retrieve.fusion: one key alone;
image_share, so that images give a part of the pairs; a floor below which half of the image hits lie; and
min_image_score (T2I as a filter of T2T, as in SWAT) at the cosines below which the images of a quarter and a half of
the caption hits lie. The difference from fusion=score is that of the caption precision, with its 95% interval over
1,000 draws of classes. The last line is one JSON object.

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
from react_ray.selection.image_agreement import ImageAgreement, image_scores
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

    def image_scores(self, pair_id: np.ndarray, class_id: np.ndarray) -> np.ndarray:
        class_Q = self.queries["class_id"].to_numpy()
        order = np.argsort(class_Q)
        image_ND = self.vectors["image"][np.searchsorted(self.ids, pair_id)]  # ids ascend
        return image_scores(image_ND, class_id, self.asked_QD[order], class_Q[order])

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/keys", help="folder of a run of the sample, with its database in it")
    sample = Sample(parser.parse_args().run)
    random, out = np.random.default_rng(0), {}
    for k, wanted in SETTINGS:
        hits = {key: sample.search(key, k) for key in KEYS}
        both, better = table(hits), round(float(np.median(hits["image"].scores)), 3)
        query, pair_id, *_ = hits["text"].rows()
        cosine = sample.image_scores(pair_id, sample.queries["class_id"].to_numpy()[query])
        quarter, half = (round(float(np.quantile(cosine[np.isfinite(cosine)], share)), 3) for share in (0.25, 0.5))
        ways: list[dict[str, Any]] = [{}, {"fusion": "z-score"}, {"fusion": "rank"}]
        ways += [{"image_share": share} for share in (0.1, 0.3, 0.5)]
        ways += [{"min_score_of": {"image": better}}]
        ways += [{"min_image_score": least} for least in (quarter, half)]
        ways += [{"keys": ["text"]} | more for more in ({}, {"min_image_score": quarter}, {"min_image_score": half})]
        ways += [{"keys": ["image"]}]
        print(f"\nk={k}, pairs_per_class={wanted}\n{'':42}{'pairs':>7}{'named':>8}{'filed':>8}{'by image':>10}")
        against = None
        for way in ways:
            config = RetrieveConfig.model_validate({"k": k, "pairs_per_class": wanted} | way)
            agreement = ImageAgreement(config.min_image_score, sample.image_scores)
            chosen = select(
                both, sample.queries, config, None, sample.scales, agreement if "min_image_score" in way else None
            )
            name = ", ".join(f"{field}={value}" for field, value in way.items()) or "fusion=score"
            named, filed = (sample.right(chosen, column) for column in ("caption", "key"))
            against = named if against is None else against
            drawn = random.integers(0, named.shape[1], (DRAWS, named.shape[1]))
            share, other = (one[0][drawn].sum(axis=1) / one[1][drawn].sum(axis=1) for one in (named, against))
            low, high = np.quantile(share - other, [0.025, 0.975])
            images = np.mean([match[0]["key"] == "image" for match in chosen["matches"].to_pylist()])
            precision = [float(one[0].sum() / one[1].sum()) for one in (named, filed)]
            print(
                f"{name:42}{chosen.num_rows:>7,}{precision[0]:>8.3f}{precision[1]:>8.3f}{images:>10.2f}"
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
