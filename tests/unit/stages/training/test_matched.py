"""The classes that a pair matched reach the batch of which it is a row, and the loss of that batch."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from react_ray import schema
from react_ray.draft import create
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.method import prepare
from react_ray.kinds import IMAGES, RETRIEVED
from react_ray.stages.training.rows import RetrievedRows
from react_ray.training.batches import Batch, Batches
from react_ray.training.class_loss import ClassTargets
from react_ray.training.step import TrainingStep
from react_ray.vectors import as_vectors
from tests.support.tiny_clip import tiny_backbone

MATCHES = [[(0, 0.9), (2, 0.9), (1, 0.5)], [(1, 0.9)], [], [(2, 0.8), (1, 0.79)]]
FOUND = [{0: 1.0, 2: 1.0}, {1: 1.0}, {}, {1: 0.368, 2: 1.0}]


def picture(row: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (60 * row, 90, 200)).save(file, "PNG")
    return file.getvalue()


def rows(folder: Path, needs_classes: bool) -> RetrievedRows:
    """Four pairs, in two parts."""
    retrieved, images = (
        create(str(folder / "retrieved"), RETRIEVED, {}, {}, 2),
        create(str(folder / "i"), IMAGES, {}, {}, 2),
    )
    for part in range(2) if not retrieved.sealed else ():
        mine = range(2 * part, 2 * part + 2)
        matches = [[{"class_id": c, "prompt": "", "score": s, "key": "text"} for c, s in MATCHES[row]] for row in mine]
        table = pa.table(
            {
                "pair_id": list(mine),
                "caption": ["a bird"] * 2,
                "class_id": pa.array([[0, 1, 2, 2][row] for row in mine], pa.int32()),
                "matches": pa.array(matches, pa.list_(schema.MATCH)),
                "text_embedding": as_vectors(np.ones((2, 16), np.float16)),
            }
        )
        retrieved.commit(part, table, 1.0)
        images.commit(part, pa.table({"image": [picture(row) for row in mine], "status": ["ok"] * 2}), 1.0)
    return RetrievedRows(retrieved.seal(), images.seal(), needs_classes=needs_classes)


def batch(folder: Path, needs_classes: bool) -> Batch:
    return Batches(rows(folder, needs_classes), batch_size=4, image_size=32, seed=0).batch(0)


def test_a_batch_has_all_classes_of_its_rows_and_the_loss_uses_them(tmp_path: Path) -> None:
    full, alone = batch(tmp_path, True), batch(tmp_path, False)
    rounded = [{number: round(weight, 3) for number, weight in one.items()} for one in full.matched]
    assert rounded == [FOUND[row] for row in full.pair_id_B]
    assert alone.matched == [] and alone.pair_id_B.tolist() == full.pair_id_B.tolist()
    config = CustomizeConfig.model_validate({"batch_size": 4, "last_k_layers": 1, "pair_loss": 0, "class_loss": 1})
    backbone = tiny_backbone(tmp_path)
    prepare(backbone.model, config, 0)
    classes = ClassTargets(np.eye(3, 16, dtype=np.float32), np.zeros(3, np.int64))
    step = TrainingStep(backbone, config, 0, classes=classes)
    with torch.no_grad():
        assert step(full) != step(alone)
