"""The drawings of the sample's pool and base corpus whose names are classes, as a set of labelled images to train on.

No drawing of the validation or the test artist is among them. `python -m tests.support.labelled_pool FILE food weather`
writes those of two tasks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from react_ray.evals.drawing_labels import TRAINING, Labels
from react_ray.sample import __file__ as sample

SAMPLE = Path(sample).parent


def labelled_pool(path: Path, tasks: list[str]) -> str:
    """Writes Parquet with columns image, task and label; returns its place."""
    listed = json.loads((SAMPLE / "tasks.json").read_text())["tasks"]
    names = {task: [one if isinstance(one, str) else one[0] for one in listed[task]["classes"]] for task in tasks}
    found = []
    for part in TRAINING:
        table = pq.read_table(SAMPLE / f"{part}.parquet", columns=["image", "key", "caption"])
        captions = [one if isinstance(one, str) else " | ".join(one) for one in table["caption"].to_pylist()]
        labels = Labels(names).of(table["key"].to_pylist(), captions)
        rows = [row for row, label in enumerate(labels) if label]
        task, label = zip(*(one for one in labels if one), strict=True)
        image = table["image"].take(pa.array(rows)).combine_chunks()
        found.append(pa.table({"image": image, "task": list(task), "label": list(label)}))
    pq.write_table(pa.concat_tables(found), path)
    return str(path)


if __name__ == "__main__":
    print(labelled_pool(Path(sys.argv[1]), sys.argv[2:]))
