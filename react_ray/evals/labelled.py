"""Reads evaluation sets: labelled slices for `evaluate`, and row groups of images for decontamination.

A set has images and labels in one of the forms that set_files.py opens; a column `task` says which of the recipe's
tasks a row belongs to, and may be missing if there is one. This file imports no torch, so that the processes that read
start in a moment.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from react_ray.clip.prompts import TargetTask
from react_ray.counted import counted
from react_ray.errors import ConfigError
from react_ray.evals.config import EvaluateConfig
from react_ray.evals.few_shot import draw, numbers
from react_ray.evals.labels import TASK, check_columns, check_folders, class_labels, folder_labels, target_of
from react_ray.evals.set_digest import set_digest
from react_ray.evals.set_files import SetFiles, open_files
from react_ray.evals.set_gaps import gaps
from react_ray.evals.set_name import LABELLED, TRAIN, field_of, training_set
from react_ray.pairs.image import inspect
from react_ray.pairs.image_cells import ImageCell
from react_ray.progress import say
from react_ray.schema import OK

IMAGES_PER_PART = 1024
FIRST_IMAGES = 8  # decoded before anything is trained; if none of them is an image, the set is refused
MOST_UNKNOWN = 0.05  # of the images may lie in folders of no class, or more with evaluate.max_unreadable


@dataclass(frozen=True)
class Slice:
    """IMAGES_PER_PART rows of one evaluation set, which become one part of every model's scores."""

    dataset: str
    files: SetFiles
    start: int
    digest: str = ""  # of the whole set


@dataclass(frozen=True)
class RowGroup:
    """One run of rows of one file, which becomes one part."""

    source: str
    number: int
    files: SetFiles


def slices_of(name: str, source: str, tasks: list[TargetTask], most: float = 0) -> list[Slice]:
    """Splits one evaluation set into slices. Raises ConfigError for a set that `check_set` refuses."""
    files = open_files(source, field_of(name))
    labels = _check_labels(files, name, tasks, most)
    for line in gaps(labels, name, _tasks_of(files, name, tasks)):
        say(line)
    digest = set_digest(source, labels)
    starts = range(0, files.num_rows, IMAGES_PER_PART)
    return [Slice(name, files.part(start, IMAGES_PER_PART), start, digest) for start in starts]


def check_set(name: str, source: str, tasks: list[TargetTask], most: float = 0) -> None:
    """ConfigError unless there are images, rows have classes of the recipe, and a first image can be decoded.

    most: the share of images that may lie in folders of no class, MOST_UNKNOWN at least.
    """
    files = open_files(source, field_of(name))
    _check_labels(files, name, tasks, most)
    first = files.images(0, FIRST_IMAGES)
    facts = [inspect(cell.data) for cell in first]
    if all(fact.status != OK for fact in facts):
        problem = first[0].problem or facts[0].error
        raise ConfigError(
            f"{field_of(name)}: none of the first {len(first)} images of {source} can be decoded ({problem}); "
            "name a file of encoded images"
        )


def check_shots(config: EvaluateConfig, tasks: list[TargetTask]) -> None:
    """ConfigError unless the sets of evaluate.train have as many images of each class as evaluate.shots asks for, of
    each task of the set on which they are tested."""
    most = config.max_unreadable
    for name, uri in config.train.items() if config.shots else ():
        check_set(training_set(name), uri, tasks, most)
        sources = {name: config.datasets[name], training_set(name): uri}
        tested, train = (_check_labels(open_files(at, field_of(one)), one, tasks, most) for one, at in sources.items())
        present = set(tested["task"].to_pylist())
        for task in (task for task in tasks if task.name in present):
            target = target_of(train.filter(pc.equal(train["task"], task.name)), task)
            for number in numbers(config.shots):
                draw(target, number, 0, task.class_names, name)


def row_groups(source: str) -> list[RowGroup]:
    """Raises ConfigError for a file without images."""
    files = open_files(source, "retrieve.decontaminate", needs_labels=False)
    parts = [files.part(chunk.row_start, chunk.num_rows) for chunk in files.chunks]
    return [RowGroup(source, number, part) for number, part in enumerate(parts)]


def class_ids(source: str, tasks: list[TargetTask], most: float = 0) -> tuple[SetFiles, pa.Table]:
    """Opens customize.labelled: its files, and columns task, label and class_id (int32) of all rows: the number of the
    class among those of all tasks, null for a row of no class. Of an image with several classes the first counts.

    most: as of `check_set`. ConfigError for a label that is no class.
    """
    files = open_files(source, LABELLED)
    labels, unknown = _labels(files, LABELLED, tasks, 0, files.num_rows)
    if told := check_folders(unknown, files.num_rows, max(most, MOST_UNKNOWN), LABELLED):
        say(told)
    if several := labels.num_rows - labels["also"].null_count:
        say(f"{LABELLED}: {counted(several, 'image')} with several classes, of which the first counts")
    first, names = 0, {}
    for task in tasks:
        names[task.name] = (first, {name: first + at for at, name in reversed(list(enumerate(task.class_names)))})
        first += len(task.class_names)
    found: list[int | None] = []
    for row in labels.to_pylist():
        start, of_name = names.get(row["task"], (0, {}))
        known = of_name.get(row["label"])
        found.append(known if known is None or row["position"] is None else start + row["position"])
    if not any(number is not None for number in found):
        raise ConfigError(f"{LABELLED}: no row is of a task of the recipe; name a set with the recipe's classes")
    return files, labels.select(["task", "label"]).append_column("class_id", pa.array(found, pa.int32()))


def read_slice(part: Slice, tasks: list[TargetTask]) -> pa.Table:
    """Returns the slice's rows of these tasks: columns image (binary, null without an image), task, label, position and
    also (as in labels.py), row, dataset.
    """
    labels, _ = _labels(part.files, part.dataset, tasks, part.start, IMAGES_PER_PART)
    images = part.files.images(part.start, IMAGES_PER_PART)
    table = pa.table(
        {
            "image": _bytes(images),
            "task": labels["task"],
            "label": labels["label"],
            "position": labels["position"],
            "also": labels["also"],
            "row": pa.array(range(part.start, part.start + labels.num_rows), pa.int32()),
            "dataset": [part.dataset] * labels.num_rows,
        }
    )
    return table.filter(pc.is_in(table["task"], pa.array([task.name for task in tasks])))


class ReadRowGroups:
    def __init__(self, groups: list[RowGroup]) -> None:
        self.groups = groups

    def __call__(self, part: int) -> pa.Table:
        """Returns one column, `image`."""
        files = self.groups[part].files
        first = files.chunks[0].row_start
        return pa.table({"image": _bytes(files.images(first, files.num_rows - first))})


def _check_labels(files: SetFiles, dataset: str, tasks: list[TargetTask], most: float) -> pa.Table:
    """Returns columns task, label, position and also of all rows."""
    labels, unknown = _labels(files, dataset, tasks, 0, files.num_rows)
    if told := check_folders(unknown, files.num_rows, max(most, MOST_UNKNOWN), dataset):
        say(told)
    present = set(labels["task"].to_pylist())
    for task in tasks:
        if task.name in present and len(set(task.class_names)) == 1:
            raise ConfigError(
                f"{field_of(dataset)}: {task.name} has one class, so that every image would count as correct; "
                "add classes to tell it from, or leave the set out"
            )
    return labels


def _labels(
    files: SetFiles, dataset: str, tasks: list[TargetTask], start: int, count: int
) -> tuple[pa.Table, Counter[str]]:
    """Returns columns task, label (names of classes) and position, and the images in folders that are no class.
    ConfigError if another label is no class of its task.
    """
    tasks = _tasks_of(files, dataset, tasks)
    if files.has_folders:
        return folder_labels(files.labels(start, count)["label"].to_pylist(), tasks, files.beside)
    check_columns(files.columns, files.label, dataset, tasks)
    return class_labels(files.labels(start, count), files.names, dataset, tasks, files.beside), Counter()


def _tasks_of(files: SetFiles, dataset: str, tasks: list[TargetTask]) -> list[TargetTask]:
    """A set without a column of tasks whose name is that of a task, and what is learned from for it, has images of this
    one alone."""
    own = [task for task in tasks if task.name == dataset.removeprefix(TRAIN)]
    return own if own and TASK not in files.columns.names else tasks


def _bytes(images: list[ImageCell]) -> pa.Array:
    return pa.array([cell.data for cell in images], pa.binary())
