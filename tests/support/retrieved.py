"""A run after `retrieve`, made without Ray: queries, selected, retrieved and its images, finished or not."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from react_ray import schema
from react_ray.draft import create
from react_ray.kinds import (
    IMAGES,
    PAIRS,
    QUERIES,
    RETRIEVED,
    SELECTED,
    PairsFacts,
    QueriesFacts,
    RetrievedFacts,
    SelectedFacts,
)
from react_ray.pair_id import pair_ids
from react_ray.selection.select import SELECTED as SELECTED_COLUMNS
from react_ray.storage import Storage, join
from react_ray.vectors import as_vectors

DIM, PER_PART = 4, 6
EVIL = "<script>alert('x')</script> \"quoted\" & heron"
CLASSES = [("birds", "heron"), ("birds", EVIL), ("birds", "crane"), ("machines", "crane"), ("machines", "accordion")]
NO_PAIR = 4  # the class that nothing was retrieved for
BACKBONE = {"name": "made", "weights_sha256": "0" * 64}


def photo(seed: int, side: int = 300, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side * 2 // 3)).save(buffer, kind)
    return buffer.getvalue()


def rows(num_parts: int = 2) -> pa.Table:
    """Pairs of the classes 0, 1, 2, 3, 0, 1, ...; each also matches the next class, with a lower score."""
    ids = np.concatenate([pair_ids(part, PER_PART) for part in range(num_parts)])
    class_id = np.arange(len(ids)) % NO_PAIR
    score = np.round(0.9 - 0.01 * np.arange(len(ids)), 3).astype(np.float32)
    matches = [
        [
            {"class_id": int(own), "prompt": f"a photo of a {CLASSES[own][1]}.", "score": float(s), "key": "text"},
            {"class_id": int((own + 1) % NO_PAIR), "prompt": "other", "score": float(s) - 0.1, "key": "image"},
        ]
        for own, s in zip(class_id, score, strict=True)
    ]
    columns = {"pair_id": ids, "class_id": class_id.astype(np.int32), "score": score, "matches": matches}
    return pa.table(columns, schema=SELECTED_COLUMNS)


def pairs_of(table: pa.Table) -> dict[str, list[Any]]:
    ids = table["pair_id"].to_pylist()
    return {
        "url": [f"https://example.org/{pair}.jpg?a=1&b=2" if pair % 2 == 0 else "javascript:alert(1)" for pair in ids],
        "caption": [f"a heron {pair} {EVIL if pair % 3 == 0 else ''}" for pair in ids],
    }


def write_queries(root: str) -> None:
    queries = create(join(root, "queries"), QUERIES, {"prompts": "separate"}, {}, 1)
    templates = ["a photo of a {}.", "a drawing of a {}."]
    asked = [(i, task, name, t.format(name)) for i, (task, name) in enumerate(CLASSES) for t in templates]
    table = pa.table(
        {
            "query_id": range(len(asked)),
            **{
                column: [row[i] for row in asked]
                for i, column in enumerate(("class_id", "task", "class_name", "prompt"))
            },
            "modality": ["text"] * len(asked),
            "embedding": as_vectors(np.ones((len(asked), DIM), np.float16)),
        }
    )
    queries.commit(0, schema.conform(table, schema.queries(DIM)), 0.1)
    queries.seal(QueriesFacts(BACKBONE, DIM, len(CLASSES)))


def write_selected(root: str, num_parts: int = 2, **config: Any) -> None:
    selected = create(join(root, "selected"), SELECTED, config, {}, num_parts)
    for part in selected.pending():
        selected.commit(part, rows(num_parts).slice(part * PER_PART, PER_PART), 0.1)
    selected.seal(SelectedFacts(["12 pairs for 5 classes"]))


def write_retrieved(root: str, num_parts: int = 2, done: Iterable[int] | None = None, **config: Any) -> None:
    """done: the parts that are written; None writes all of them, and the manifest."""
    retrieved = create(join(root, "retrieved"), RETRIEVED, config, {}, num_parts)
    for part in range(num_parts) if done is None else done:
        here = rows(num_parts).slice(part * PER_PART, PER_PART)
        table = pa.table(
            {name: here[name] for name in here.column_names}
            | pairs_of(here)
            | {"text_embedding": as_vectors(np.ones((len(here), DIM), np.float16))}
        )
        retrieved.commit(part, schema.conform(table, schema.retrieved(DIM)), 0.1)
    if done is None:
        retrieved.seal(RetrievedFacts(BACKBONE, DIM, ["12 pairs for 5 classes"]))


def write_images(root: str, num_parts: int = 2, done: Iterable[int] | None = None) -> None:
    """Photos of the retrieved pairs; of each part, one could not be fetched and one is no image."""
    images = create(join(root, "images"), IMAGES, {}, {}, num_parts)
    for part in range(num_parts) if done is None else done:
        ids = pair_ids(part, PER_PART)
        data: list[bytes | None] = [photo(int(pair)) for pair in ids]
        status = ["ok"] * PER_PART
        data[1], status[1] = None, "http_404"
        data[2] = b"<svg onload=alert(1)>"
        nothing = dict.fromkeys(set(schema.IMAGES.names) - {"pair_id", "image", "status"}, [None] * PER_PART)
        table = pa.table({"pair_id": ids, "image": data, "status": status, **nothing})
        images.commit(part, schema.conform(table, schema.IMAGES), 0.1)
    if done is None:
        images.seal()


def write_report(place: Storage, root: str = "") -> None:
    """selection.json, in which `crane` of the machines is flagged."""
    classes = [
        {"class_id": i, "task": task, "class_name": name, "pairs": 0 if i == NO_PAIR else 3, "match": None}
        for i, (task, name) in enumerate(CLASSES)
    ]
    classes[3]["match"] = {"named": 0.0, "z": 1.25, "flags": ["far_away"], "advice": ["Try a synonym."]}
    report = {"funnel": {"chosen": 12}, "pairs": 12, "classes": classes, "poor_below": 1}
    place.write(join(root, "selection.json") if root else "selection.json", json.dumps(report).encode())


def write_run(place: Storage, root: str = "") -> str:
    """A finished retrieval with images below `place`; returns its folder."""
    where = join(place.uri, root) if root else place.uri
    write_queries(where)
    write_selected(where)
    write_retrieved(where)
    write_images(where)
    write_report(place, root)
    return where


def write_database(uri: str, num_parts: int = 2) -> None:
    pairs = create(join(uri, "pairs"), PAIRS, {}, {}, num_parts)
    for part in pairs.pending():
        here = rows(num_parts).slice(part * PER_PART, PER_PART)
        pairs.commit(part, pa.table({"pair_id": here["pair_id"], **pairs_of(here)}, schema=schema.PAIRS), 0.1)
    pairs.seal(PairsFacts())
