"""Says what a labelled set lacks, so that a mean over fewer tasks or classes is not taken for one over all."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from react_ray.clip.prompts import TargetTask

SHOWN = 5


def gaps(labels: pa.Table, dataset: str, tasks: Sequence[TargetTask]) -> list[str]:
    """Returns a sentence for tasks, and one for classes of each task, that have no images in the set.

    labels: columns task, label and also, of all rows. tasks: those that the set may have images of.
    """
    seen: dict[str, set[str]] = {}
    columns = (labels[name].to_pylist() for name in ("task", "label", "also"))
    for task, label, also in zip(*columns, strict=True):
        seen.setdefault(task, set()).update((label, *(also or [])))
    told = []
    if absent := [task.name for task in tasks if task.name not in seen]:
        told.append(
            f"evaluate.datasets.{dataset} has no images of {len(absent)} of {len(tasks)} tasks ({_some(absent)}): they "
            f"have no scores there, and its mean is over {len(tasks) - len(absent)}"
        )
    for task in tasks:
        empty = [name for name in dict.fromkeys(task.class_names) if name not in seen.get(task.name, {name})]
        if empty:
            told.append(
                f"evaluate.datasets.{dataset} has no images of {len(empty)} of {len(task.class_names)} classes of "
                f"{task.name} ({_some(empty)}), which take no part in a mean per class"
            )
    return told


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
