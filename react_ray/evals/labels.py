"""Turns the labels of an evaluation set into class names: names stay, and integers are positions in the class list.

Where a Parquet file tells the names of its integers, as Hugging Face's ClassLabel does, each integer means that name.
If these names are spelled otherwise than the recipe's classes, but contradict none of them, positions decide.
"""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.zeroshot import check_labels

LABEL, TASK = "label", "task"


def label_columns(columns: pa.Schema, dataset: str, tasks: list[TargetTask]) -> list[str]:
    """Returns the columns of labels and tasks. ConfigError without labels, or without tasks if the recipe has several.

    A column of labels is text, a dictionary of texts, or whole numbers.
    """
    shown = ", ".join(f"{field.name} ({field.type})" for field in columns)
    for name in (LABEL, TASK):
        if columns.names.count(name) > 1:
            raise ConfigError(f"evaluate.datasets.{dataset} has two columns `{name}`; keep one of them")
    if LABEL not in columns.names:
        raise ConfigError(
            f"evaluate.datasets.{dataset} has no column `label`, only {shown}; rename the column of classes to label"
        )
    if TASK in columns.names:
        return [LABEL, TASK]
    if len(tasks) == 1:
        return [LABEL]
    raise ConfigError(
        f"evaluate.datasets.{dataset} has no column `task` ({shown}), and the recipe has {len(tasks)} tasks; add a "
        f"column that names one of {', '.join(task.name for task in tasks)} in each row"
    )


def class_labels(table: pa.Table, written: list[str], dataset: str, tasks: list[TargetTask]) -> pa.Table:
    """Returns columns task and label, both text. ConfigError for a label that is no class of its task.

    table: columns label, and task if there are several. written: from `written_names`.
    """
    labels = _plain_values(table[LABEL])
    names = [tasks[0].name] * len(table) if TASK not in table.column_names else _plain_values(table[TASK]).to_pylist()
    kind = labels.type
    if pa.types.is_floating(kind):  # pandas makes integers beside a blank cell to floats
        labels = _whole(labels, dataset)
    elif not (pa.types.is_integer(kind) or _is_text(kind)):
        raise ConfigError(
            f"evaluate.datasets.{dataset}: its labels are {kind}; write class names, or positions in the class list"
        )
    by_task = {task.name: task for task in tasks}
    known = [row for row, name in enumerate(names) if name in by_task]
    if missing := pc.sum(pc.is_null(labels.take(pa.array(known, pa.int64())))).as_py():
        raise ConfigError(f"evaluate.datasets.{dataset}: {missing} rows have no label; leave these rows out")
    values = labels.to_pylist()
    if not _is_text(kind):
        of_task = {task.name: names_by_position(task, written) for task in tasks}
        for row in known:
            values[row] = _at(values[row], of_task[names[row]], dataset, names[row])
        values = [value if isinstance(value, str) else None for value in values]
    found = pa.table({TASK: pa.array(names, pa.string()), LABEL: pa.array(values, pa.string())})
    check_labels(found, {task.name: list(task.class_names) for task in tasks}, dataset)
    return found


def written_names(file: pq.ParquetFile) -> list[str]:
    """Returns the names that the file's metadata give to the integers of `label`; empty if they do not tell."""
    try:
        told = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])["info"]["features"][LABEL]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    if isinstance(told, dict):  # an old form: {"0": name}
        told = [told.get(str(number)) for number in range(len(told))]
    return told if isinstance(told, list) and all(isinstance(name, str) for name in told) else []


def names_by_position(task: TargetTask, written: list[str]) -> list[str]:
    """Returns the class, or else the name in the file, that each integer means."""
    classes = list(task.class_names)
    same = {
        _spelling(name): known for known, names in zip(classes, task.synonyms, strict=True) for name in [known, *names]
    }
    same |= {_spelling(known): known for known in classes}
    found = [same.get(_spelling(name)) for name in written]
    in_place = len(found) == len(classes) and all(
        name in (None, known) for name, known in zip(found, classes, strict=True)
    )
    if not written or in_place:
        return classes
    return [name or told for name, told in zip(found, written, strict=True)]


def _at(position: int, names: list[str], dataset: str, task: str) -> str:
    if 0 <= position < len(names):
        return names[position]
    raise ConfigError(
        f"evaluate.datasets.{dataset}: {position} is no position in the {len(names)} classes of task {task!r}, which "
        "are numbered from 0; correct the labels, or write class names"
    )


def _whole(labels: pa.ChunkedArray, dataset: str) -> pa.ChunkedArray:
    try:
        return labels.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"evaluate.datasets.{dataset}: its labels are {labels.type} and not whole ({error}); write class names, or "
            "positions in the class list"
        ) from error


def _plain_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _spelling(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
