"""Says what a labelled set lacks, so that a mean over fewer tasks or classes is not taken for one over all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from react_ray.clip.prompts import TargetTask
from react_ray.evals.set_name import field_of

SHOWN = 5


def gaps(labels: pa.Table, dataset: str, tasks: Sequence[TargetTask]) -> list[str]:
    """Returns a sentence for rows of no task, one for tasks that have no images in the set, and one for classes of the
    others.

    labels: columns task, label and also, of all rows. tasks: those that the set may have images of.
    """
    seen: dict[str, set[str]] = {}
    columns = (labels[name].to_pylist() for name in ("task", "label", "also"))
    for task, label, also in zip(*columns, strict=True):
        seen.setdefault(task, set()).update((label, *(also or [])))
    told = []
    others = Counter(labels["task"].drop_null().to_pylist())
    for task in tasks:
        others.pop(task.name, None)
    if others:
        told.append(
            f"{field_of(dataset)}: {sum(others.values()):,} of {labels.num_rows:,} rows are of tasks that are none of "
            f"the recipe's ({_some(list(others))}), and are left out"
        )
    if absent := [task.name for task in tasks if task.name not in seen]:
        told.append(
            f"{field_of(dataset)} has no images of {len(absent)} of {len(tasks)} tasks ({_some(absent)}): they "
            f"have no scores there, and its mean is over {len(tasks) - len(absent)}"
        )
    present = [task for task in tasks if task.name in seen]
    empty = {
        task.name: [name for name in dict.fromkeys(task.class_names) if name not in seen[task.name]] for task in present
    }
    empty = {task: names for task, names in empty.items() if names}
    if empty:
        num_classes = sum(len(task.class_names) for task in present)
        shown = (
            [f"{len(names)} of {task}" for task, names in empty.items()]
            if len(present) > 1
            else next(iter(empty.values()))
        )
        told.append(
            f"{field_of(dataset)} has no images of {sum(map(len, empty.values()))} of {num_classes} classes "
            f"({_some(shown)}), which take no part in a mean per class"
        )
    return told


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
