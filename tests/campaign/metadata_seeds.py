"""Makes a small finished database and run, without Ray: artifacts of several kinds, costs, metrics and checkpoints."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from react_ray.draft import Draft, create
from react_ray.index.deleted import delete_pairs
from react_ray.kinds import (
    EMBEDDINGS,
    IMAGES,
    INDEX,
    PAIRS,
    PREDICTIONS,
    EmbeddingsFacts,
    IndexFacts,
    PairsFacts,
    PredictionsFacts,
)
from react_ray.pair_id import pair_ids
from react_ray.pairs.source import IngestConfig, to_images
from react_ray.recipe import Recipe, load_recipe
from react_ray.schema import conform, embeddings
from react_ray.stages.training.checkpoints import Checkpoints
from react_ray.storage import open_storage
from tests.campaign.source_truth import small_image

NUM_PARTS, NUM_ROWS, DIM = 3, 5, 4
DIGEST = "0123456789abcdef"
BACKBONE = {"name": "tiny", "weights": "random", "dim": DIM}
RECIPE = """
name: small
database: {folder}/database
out: {folder}/run
tasks: {{name: birds, class_names: [heron, egret]}}
backbone: {{name: ViT-B-32}}
ingest: {{source: "sample://pool.parquet"}}
evaluate: {{datasets: {{test: "sample://test.parquet"}}}}
"""


@cache
def finished_run() -> Path:
    """The folder with `recipe.yaml`, `database/` and `run/`, which a case copies. Made once per process."""
    folder = Path(mkdtemp(prefix="campaign-run-"))
    make_run(folder)
    return folder


def make_run(folder: Path) -> None:
    recipe = open_recipe(folder)
    database, run = Path(recipe.database), Path(recipe.out)
    pairs = _make(create(str(database / "pairs"), PAIRS, recipe.ingest.digested(), {}, NUM_PARTS), _pairs)
    sealed = pairs.seal(PairsFacts({"ends": [NUM_PARTS * NUM_ROWS]}, ["15 rows; columns: url = url"]))
    images = create(str(database / "images"), IMAGES, {"resize_mode": "no"}, {"pairs": sealed}, NUM_PARTS)
    sealed_images = _make(images, _images).seal()
    vectors = create(str(database / "embeddings"), EMBEDDINGS, {"images": True}, {"images": sealed_images}, NUM_PARTS)
    _make(vectors, _vectors).seal(EmbeddingsFacts(BACKBONE, DIM))
    unfinished = create(str(run / "images"), IMAGES, {"resize_mode": "no"}, {"pairs": sealed}, NUM_PARTS)
    unfinished.commit(1, _images(1), 1.0)
    index = create(str(database / "index"), INDEX, {"num_shards": 1}, {}, 1)
    index.commit_files(0, {"part-00000.faiss": bytes(range(256))}, 1.0, NUM_ROWS, keys=["image"])
    index.seal(IndexFacts("exact", ["image"], 1, DIM))
    for name in ("scores", "scores/base"):
        scores = create(str(run / name), PREDICTIONS, {}, {}, 1)
        scores.commit(0, pa.table({"row": [0], "label": ["heron"]}), 1.0)
        row = {
            "dataset": "test",
            "task": "mean",
            "metric": "top1",
            "value": 0.5,
            "num_images": 9,
            "model": "m",
            "seed": 0,
        }
        scores.seal(PredictionsFacts([row]))
    storage = open_storage(str(run))
    storage.write("recipe.yaml", recipe.yaml().encode())
    storage.write("costs.json", json.dumps({"seconds": {"embed": 1.5}, "peak_rss_gb": {"all": 0.5}}).encode())
    storage.write(
        "summary.json", json.dumps({"seed": 0, "tasks": {"birds": {"base": 0.5}}, "mean": {"base": 0.5}}).encode()
    )
    storage.write("metrics/model.jsonl", b'{"loss": 1.5, "step": 1}\n{"loss": 1.25, "step": 2}\n')
    checkpoints = Checkpoints(open_storage(str(run / "checkpoints")), DIGEST, 2)
    for step in (4, 8):
        checkpoints.save(step, {"gate": torch.full((2, 2), float(step))})
        checkpoints.confirm()
    checkpoints.wait()
    delete_pairs(recipe.database, np.array([1, 2]))


def open_recipe(folder: Path) -> Recipe:
    path = folder / "recipe.yaml"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(RECIPE.format(folder=folder))
    return load_recipe(str(path), [f"database={folder}/database", f"out={folder}/run"])


def _make(draft: Draft[Any], table: Any) -> Draft[Any]:
    for part in draft.pending():
        draft.commit(part, table(part), 1.0)
    return draft


def _pairs(part: int) -> pa.Table:
    urls = [f"https://h{row}.example.org/{part}.jpg" for row in range(NUM_ROWS)]
    captions = [f"a heron {part} {row}" for row in range(NUM_ROWS)]
    return pa.table({"pair_id": pair_ids(part, NUM_ROWS), "url": urls, "caption": captions})


def _images(part: int) -> pa.Table:
    encoded = [small_image("jpg", row) if row else b"damaged" for row in range(NUM_ROWS)]
    table = pa.table({"image": pa.array(encoded, pa.binary()), "caption": ["a heron"] * NUM_ROWS})
    return to_images(table, part, IngestConfig(source="none"))


def _vectors(part: int) -> pa.Table:
    vectors = np.random.default_rng(part).standard_normal((NUM_ROWS, DIM)).astype(np.float16)
    column = pa.array([row.tobytes() for row in vectors], pa.binary(2 * DIM))
    table = {"pair_id": pair_ids(part, NUM_ROWS), "image": column, "text": column, "status": ["ok"] * NUM_ROWS}
    return conform(pa.table(table | {"similarity": pa.array([0.5] * NUM_ROWS, pa.float32())}), embeddings(DIM))
