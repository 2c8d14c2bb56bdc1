"""The sample pool's drawings whose file names name a class, as a labelled set, for experiments with few labels.

The labels are clean, and the drawings are by the pool's artists, as the retrieved pairs are. None is in a held-out set.

    python -m tests.support.pool_labels runs/pool_labels.parquet
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from react_ray.clip.prompts import TargetTask, TasksConfig, load_tasks
from react_ray.evals.drawing_labels import Labels
from react_ray.storage import open_parquet

HELD_OUT = {"validation": "sample://validation.parquet", "test": "sample://test.parquet"}


class Drawing(NamedTuple):
    image: bytes  # encoded
    task: str
    label: str


def labelled_pool(tasks: list[TargetTask]) -> list[Drawing]:
    held = [image for uri in HELD_OUT.values() for image in open_parquet(uri).read(["image"])["image"].to_pylist()]
    known = {hashlib.sha256(image).hexdigest() for image in held}
    pool = open_parquet("sample://pool.parquet").read(["image", "key", "caption"])
    finder = Labels({task.name: list(task.class_names) for task in tasks})
    found = finder.of(pool["key"].to_pylist(), pool["caption"].to_pylist())
    return [
        Drawing(image, *label)
        for image, label in zip(pool["image"].to_pylist(), found, strict=True)
        if label and hashlib.sha256(image).hexdigest() not in known
    ]


def write(file: Path) -> int:
    """Writes the labelled set of the sample's tasks; returns the number of drawings."""
    found = labelled_pool(load_tasks(TasksConfig(file="sample://tasks.json")))
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(zip(Drawing._fields, zip(*found, strict=True), strict=True))), file)
    return len(found)


if __name__ == "__main__":
    print(f"{sys.argv[1]}: {write(Path(sys.argv[1])):,} labelled drawings")
