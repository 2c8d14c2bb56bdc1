"""Batches of pairs and labelled images: a function of the step, so that a training goes on with the same ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from react_ray.artifact import open_artifact
from react_ray.stages.training.labelled_pairs import labelled_pairs
from react_ray.stages.training.mixed_rows import MixedRows
from react_ray.stages.training.rows import RetrievedRows
from react_ray.storage import open_storage
from react_ray.training.batches import Batch, Batches, join
from tests.support.class_folders import class_folders
from tests.support.retrieved import write_run
from tests.unit.stages.training.test_labelled_pairs import given


def batches(folder: Path) -> Batches:
    """As a worker makes them, of rows that came to it from the driver. Two images of the pairs cannot be decoded."""
    labelled = labelled_pairs(given(folder, "evaluate.datasets={}"), "")
    retrieved, images = (open_artifact(f"{folder}/run/{name}") for name in ("retrieved", "images"))
    pairs, own = RetrievedRows(retrieved, images), RetrievedRows(labelled.retrieved, labelled.images)
    rows = pickle.loads(pickle.dumps(MixedRows(pairs, own, 0.5)))
    return Batches(rows, batch_size=8, image_size=16, seed=3, max_undecodable=1.0)


def same(one: Batch, other: Batch) -> bool:
    arrays = [(one.image_BCHW, other.image_BCHW), (one.class_id_B, other.class_id_B), (one.text_BD, other.text_BD)]
    return one.captions == other.captions and all(np.array_equal(a, b) for a, b in arrays)  # type: ignore[arg-type]


def test_a_batch_is_the_same_after_an_interruption_and_however_many_processes_make_it(tmp_path: Path) -> None:
    write_run(open_storage(str(tmp_path / "run")))
    class_folders(tmp_path / "labelled")
    whole = batches(tmp_path)
    assert whole.num_rows == 10 + 12 and whole.steps_per_epoch == 2
    undisturbed = [whole.batch(step) for step in range(6)]
    assert sum((batch.pair_id_B < 0).sum() for batch in undisturbed) > 12, "about half of the images are labelled"
    open_storage(str(tmp_path / "run" / "labelled")).delete_all()
    again = batches(tmp_path)
    assert all(same(again.batch(step), undisturbed[step]) for step in (3, 4, 5))
    shares = batches(tmp_path).split(2)
    assert all(same(join([share.batch(step) for share in shares]), undisturbed[step]) for step in range(6))
