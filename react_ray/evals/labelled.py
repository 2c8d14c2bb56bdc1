"""Reads evaluation sets: labelled slices for `evaluate`, and row groups of images for decontamination.

A set is a Parquet file with a column of images (any that pairs/image_cells.py reads) and a column `label`; a column
`task` says which of the recipe's tasks a row belongs to, and may be missing if there is one. This file imports no
torch, so that the processes that read start in a moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError, StorageError
from react_ray.evals.labels import class_labels, label_columns, written_names
from react_ray.pairs.columns import IMAGE_NAMES
from react_ray.pairs.image import inspect
from react_ray.pairs.image_cells import holds_bytes, image_cells
from react_ray.schema import OK
from react_ray.storage import open_parquet

IMAGES_PER_PART = 1024
FIRST_IMAGES = 8  # decoded before anything is trained; if none of them is an image, the set is refused
NAMES = (*IMAGE_NAMES, "img")


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
    """Splits one evaluation set into slices. Raises ConfigError for a set that `check_set` refuses."""
    num_rows = _labels(open_parquet(source), name, tasks).num_rows
    return [Slice(name, source, start) for start in range(0, num_rows, IMAGES_PER_PART)]


def check_set(name: str, source: str, tasks: list[TargetTask]) -> None:
    """ConfigError unless there are images, each row has a class of the recipe, and a first image can be decoded."""
    try:
        file = open_parquet(source)
    except StorageError as error:
        raise ConfigError(
            f"evaluate.datasets.{name}: {error}; a set is one Parquet file with the columns image and label"
        ) from error
    _labels(file, name, tasks)
    column = image_column(file, f"evaluate.datasets.{name}: {source}")
    first = image_cells(read_rows(file, 0, FIRST_IMAGES, [column])[column], source)
    facts = [inspect(cell.data) for cell in first]
    if all(fact.status != OK for fact in facts):
        problem = first[0].problem or facts[0].error
        raise ConfigError(
            f"evaluate.datasets.{name}: none of the first {len(first)} images of {source} can be decoded ({problem}); "
            "name a file of encoded images"
        )


def row_groups(source: str) -> list[RowGroup]:
    """Raises ConfigError for a file without images."""
    file = open_parquet(source)
    image_column(file, f"retrieve.decontaminate: {source}")
    return [RowGroup(source, number) for number in range(file.num_row_groups)]


def image_column(file: pq.ParquetFile, whose: str) -> str:
    """Returns the column of images: one of the usual names, or else the only column that can hold images."""
    able = [field.name for field in file.schema_arrow if holds_bytes(field.type)]
    usual = [name for name in NAMES if name in able]
    if usual or len(able) == 1:
        return (usual or able)[0]
    raise ConfigError(
        f"{whose} has no column `image` of encoded images (binary, or a struct with `bytes`), only "
        f"{', '.join(f'{field.name} ({field.type})' for field in file.schema_arrow)}; name another file, or rename the "
        "column to image"
    )


def read_slice(part: Slice, tasks: list[TargetTask]) -> pa.Table:
    """Returns the slice's rows of these tasks: columns image (binary, null without an image), task, label, row,
    dataset.
    """
    file = open_parquet(part.source)
    labels = _labels(file, part.dataset, tasks, part.start, IMAGES_PER_PART)
    column = image_column(file, f"evaluate.datasets.{part.dataset}: {part.source}")
    images = read_rows(file, part.start, IMAGES_PER_PART, [column])[column]
    table = pa.table(
        {
            "image": _bytes(images, part.source),
            "task": labels["task"],
            "label": labels["label"],
            "row": pa.array(range(part.start, part.start + labels.num_rows), pa.int32()),
            "dataset": [part.dataset] * labels.num_rows,
        }
    )
    return table.filter(pc.is_in(table["task"], pa.array([task.name for task in tasks])))


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
    def __init__(self, slices: list[Slice], tasks: list[TargetTask]) -> None:
        self.slices, self.tasks = slices, tasks

    def __call__(self, job: int) -> pa.Table:
        return read_slice(self.slices[job], self.tasks)


class ReadRowGroups:
    def __init__(self, groups: list[RowGroup]) -> None:
        self.groups = groups

    def __call__(self, part: int) -> pa.Table:
        """Returns one column, `image`."""
        group = self.groups[part]
        file = open_parquet(group.source)
        column = image_column(file, f"retrieve.decontaminate: {group.source}")
        return pa.table({"image": _bytes(file.read_row_group(group.number, columns=[column])[column], group.source)})


def _labels(
    file: pq.ParquetFile, dataset: str, tasks: list[TargetTask], start: int = 0, count: int | None = None
) -> pa.Table:
    """Returns columns task and label (names of classes). ConfigError if a label is no class of its task."""
    columns = label_columns(file.schema_arrow, dataset, tasks)
    rows = read_rows(file, start, file.metadata.num_rows if count is None else count, columns)
    return class_labels(rows, written_names(file), dataset, tasks)


def _bytes(images: pa.ChunkedArray, source: str) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_binary(images.type):
        return images
    return pa.array([cell.data for cell in image_cells(images, source)], pa.binary())
