"""The targets of the class loss, from sealed queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.draft import create
from react_ray.kinds import QUERIES, QueriesFacts
from react_ray.stages.retrieval.gather_pairs import class_vectors
from react_ray.stages.training.targets import tasks_of_classes
from react_ray.vectors import as_vectors

X, Y, Z = np.eye(3, dtype=np.float16)


def queries(folder: Path, *rows: tuple[int, str, str, str, np.ndarray]) -> Artifact[QueriesFacts]:
    """rows: class_id, task, class_name, modality and vector."""
    draft = create(str(folder / "queries"), QUERIES, {}, {}, 1)
    names = ("class_id", "task", "class_name", "modality")
    columns: dict[str, Any] = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    columns |= {"query_id": range(len(rows)), "prompt": [""] * len(rows)}
    columns["embedding"] = as_vectors(np.stack([row[4] for row in rows]))
    draft.commit(0, schema.conform(pa.table(columns), schema.queries(3)), 1.0)
    return draft.seal(QueriesFacts({}, 3, max(row[0] for row in rows) + 1))


def test_a_class_is_the_mean_of_its_prompts_and_of_images_only_if_it_has_no_prompt(tmp_path: Path) -> None:
    found = class_vectors(
        queries(
            tmp_path,
            (0, "birds", "heron", "text", X),
            (0, "birds", "heron", "text", Y),
            (0, "birds", "heron", "image", Z),
            (1, "seed images", "my bird", "image", Z),
            (1, "seed images", "my bird", "image", Y),
        )
    )
    half = 2**-0.5
    np.testing.assert_allclose(found, [[half, half, 0], [0, half, half]], atol=1e-6)


def test_classes_have_the_task_of_their_queries_and_one_name_is_one_class(tmp_path: Path) -> None:
    asked = queries(
        tmp_path,
        (0, "weapons", "missile", "text", X),
        (1, "weapons", "bow", "text", Y),
        (2, "weapons", "missile", "text", X),
        (3, "things", "bow", "text", Y),
        (4, "queries", "a heron at dawn", "text", Z),
    )
    assert tasks_of_classes(asked).tolist() == [0, 0, -1, 1, 2]
