"""What a labelled set lacks is said, so that a mean over fewer tasks or classes is not taken for one over all."""

from __future__ import annotations

import pyarrow as pa

from react_ray.evals.set_gaps import gaps
from tests.support.birds import BIRDS, SIZES


def labels(*rows: tuple[str, str, list[str] | None]) -> pa.Table:
    task, label, also = zip(*rows, strict=True)
    return pa.table({"task": task, "label": label, "also": pa.array(also, pa.list_(pa.string()))})


def test_tasks_and_classes_without_images_are_named() -> None:
    assert gaps(labels(("birds", "red fox", None), ("birds", "barn owl", None)), "test", [BIRDS, SIZES]) == [
        "evaluate.datasets.test has no images of 1 of 2 tasks (sizes): they have no scores there, "
        "and its mean is over 1",
        "evaluate.datasets.test has no images of 1 of 3 classes (grey heron), which take no part in a mean per class",
    ]


def test_classes_of_several_tasks_are_counted() -> None:
    rows = labels(("birds", "red fox", None), ("sizes", "big", None))
    assert gaps(rows, "train.test", [BIRDS, SIZES]) == [
        "evaluate.train.test has no images of 3 of 5 classes (2 of birds, 1 of sizes), "
        "which take no part in a mean per class"
    ]


def test_a_set_with_images_of_every_class_lacks_nothing() -> None:
    """A further label of an image counts."""
    whole = labels(("birds", "red fox", ["grey heron"]), ("birds", "barn owl", None))
    assert gaps(whole, "test", [BIRDS]) == []
