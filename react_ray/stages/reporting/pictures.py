"""Picks the retrieved pairs that the report shows: the best of a few classes, with their pictures."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact, open_artifact
from react_ray.kinds import IMAGES, QUERIES, RETRIEVED, RetrievedFacts
from react_ray.recipe import Recipe
from react_ray.report.data import Picture
from react_ray.runtime.layout import Layout
from react_ray.stages.retrieval.embed_queries import queries_uri
from react_ray.storage import join

CLASSES_SHOWN, PICTURES_SHOWN = 12, 8


def retrieved_pictures(recipe: Recipe, arm: str) -> list[tuple[str, list[Picture]]]:
    """Returns the best pairs of up to CLASSES_SHOWN classes, spread evenly over all classes."""
    root = Layout(recipe, arm).retrieved_root()
    retrieved = open_artifact(join(root, "retrieved"), RETRIEVED, "retrieve")
    images = open_artifact(join(root, "images"), IMAGES, "retrieve")
    queries = pa.concat_tables(
        open_artifact(queries_uri(recipe, arm), QUERIES).tables(["class_id", "task", "class_name"])
    )
    names = {
        c: f"{n} ({t})"
        for c, t, n in zip(*(queries[x].to_pylist() for x in ("class_id", "task", "class_name")), strict=True)
    }
    found = _best_rows(retrieved, sorted(names))
    chosen = list(found)[:: max(1, len(found) // CLASSES_SHOWN)][:CLASSES_SHOWN]
    pictures: dict[int, dict[int, Picture]] = {one: {} for one in chosen}
    places = [(part, row, one, rank) for one in chosen for rank, (part, row) in enumerate(found[one])]
    for part in sorted({part for part, *_ in places}):
        here = [place for place in places if place[0] == part]
        rows = pa.array([row for _, row, *_ in here])
        pairs, encoded = (
            retrieved.read(part).take(rows).to_pylist(),
            images.read(part, ["image"])["image"].take(rows).to_pylist(),
        )
        for (_, _, one, rank), pair, data in zip(here, pairs, encoded, strict=True):
            if data is not None:
                credit = ", ".join(str(pair[column]) for column in ("source", "license") if column in pair)
                key = (pair["matches"] or [{}])[0].get("key", "")
                pictures[one][rank] = Picture(data, pair["caption"], pair["score"] or 0.0, key, credit)
    return [(names[one], [pictures[one][rank] for rank in sorted(pictures[one])]) for one in chosen]


def _best_rows(retrieved: Artifact[RetrievedFacts], class_ids: list[int]) -> dict[int, list[tuple[int, int]]]:
    """Returns the (part, row) of the best pairs of each class that has any, best first."""
    tables = list(retrieved.tables(["class_id", "score"]))
    part = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    row = np.concatenate([np.arange(len(table)) for table in tables])
    both = pa.concat_tables(tables)
    class_id, score = (both[name].fill_null(missing).to_numpy() for name, missing in (("class_id", -1), ("score", 0.0)))
    order = np.lexsort((row, part, -score, class_id))
    starts = np.searchsorted(class_id[order], class_ids)
    ends = np.searchsorted(class_id[order], class_ids, side="right")
    shown = {
        one: order[start : min(end, start + PICTURES_SHOWN)]
        for one, start, end in zip(class_ids, starts, ends, strict=True)
    }
    return {one: list(zip(part[at].tolist(), row[at].tolist(), strict=True)) for one, at in shown.items() if len(at)}
