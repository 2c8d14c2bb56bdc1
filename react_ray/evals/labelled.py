"""Reads evaluation sets: labelled slices for `evaluate`, and row groups of images for decontamination.

This file imports no torch, so that the processes that read start in a moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.zeroshot import check_labels
from react_ray.storage import open_parquet

IMAGES_PER_PART = 1024


@dataclass(frozen=True)
class Slice:
    """IMAGES_PER_PART rows of one evaluation set, which become one part of every model's scores."""

    dataset: str
    source: str
    start: int


@dataclass(frozen=True)
class RowGroup:
    """One row group of one file, which becomes one part."""

    source: str
    number: int


def slices_of(name: str, source: str, tasks: list[TargetTask]) -> list[Slice]:
    """Splits one evaluation set into slices. Raises ConfigError for a label that is not a class of its task."""
    labels = open_parquet(source).read(["task", "label"])
    check_labels(labels, {task.name: list(task.class_names) for task in tasks}, name)
    return [Slice(name, source, start) for start in range(0, labels.num_rows, IMAGES_PER_PART)]


def row_groups(source: str) -> list[RowGroup]:
    file = open_parquet(source)
    if "image" not in file.schema_arrow.names:
        raise ConfigError(
            f"retrieve.decontaminate: {source} has no column image, only {', '.join(file.schema_arrow.names)}; "
            "name another file"
        )
    return [RowGroup(source, number) for number in range(file.num_row_groups)]


def read_slice(part: Slice, tasks: list[str]) -> pa.Table:
    """Returns the slice's rows of these tasks, with columns image, task, label, row, dataset."""
    table = read_rows(open_parquet(part.source), part.start, IMAGES_PER_PART, ["image", "task", "label"])
    table = table.append_column("row", pa.array(range(part.start, part.start + table.num_rows), pa.int32()))
    table = table.append_column("dataset", pa.array([part.dataset] * table.num_rows))
    return table.filter(pc.is_in(table["task"], pa.array(tasks)))


def read_rows(file: pq.ParquetFile, start: int, count: int, columns: list[str]) -> pa.Table:
    """Returns up to `count` rows from `start` on; reads only the row groups that contain them."""
    lengths = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    ends = np.cumsum(lengths)
    groups = [
        number for number, end in enumerate(ends.tolist()) if end > start and end - lengths[number] < start + count
    ]
    table = file.read_row_groups(groups, columns=columns)
    return table.slice(start - int(ends[groups[0]] - lengths[groups[0]]), count) if groups else table


class ReadSlices:
    def __init__(self, slices: list[Slice], tasks: list[str]) -> None:
        self.slices, self.tasks = slices, tasks

    def __call__(self, job: int) -> pa.Table:
        return read_slice(self.slices[job], self.tasks)


class ReadRowGroups:
    def __init__(self, groups: list[RowGroup]) -> None:
        self.groups = groups

    def __call__(self, part: int) -> pa.Table:
        return open_parquet(self.groups[part].source).read_row_group(self.groups[part].number, columns=["image"])
