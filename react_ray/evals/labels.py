"""Turns the labels of an evaluation set into class names: names stay, and integers are positions in the class list.

A name may be spelled otherwise than the class (class_names.py). Where a file tells the names of its integers, as
Hugging Face's ClassLabel or a list of names beside it does, each integer means that name; if these names are spelled
otherwise than the recipe's classes, but contradict none of them, positions decide. So they do for the identifiers of a
file beside the set that has one line for each class, such as WordNet's in ImageNet.

Two classes of a task may share a name (ImageNet has two pairs of them). A position means one of the two, as in the
official scoring; a name means either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray.clip.prompts import MAP_11_POINT, TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.class_names import advice, class_of, spelling, spellings
from react_ray.evals.set_name import field_of
from react_ray.evals.zeroshot import check_labels
from react_ray.metadata import shortened
from react_ray.pairs.formats.seen import EXAMPLES
from react_ray.pairs.names_beside import NamesBeside

MOST_DIGITS = 18  # of a position, which fits into 64 bits
LABEL, TASK, POSITION, ALSO = "label", "task", "position", "also"


def check_columns(columns: pa.Schema, label: str, dataset: str, tasks: list[TargetTask]) -> None:
    """ConfigError without labels, or without tasks, as names, if the recipe has several."""
    shown = ", ".join(f"{field.name} ({field.type})" for field in columns)
    if not label:
        raise ConfigError(
            f"{field_of(dataset)} has no column `label`, only {shown}; rename the column of classes to label"
        )
    if TASK not in columns.names and len(tasks) != 1:
        raise ConfigError(
            f"{field_of(dataset)} has no column `task` ({shown}), and the recipe has {len(tasks)} tasks; add a "
            f"column that names one of {', '.join(task.name for task in tasks)} in each row"
        )
    if TASK in columns.names and not _is_text(_plain(columns.field(TASK).type)):
        raise ConfigError(
            f"{field_of(dataset)}: its column `task` is {columns.field(TASK).type}; write names of tasks, such as "
            f"{tasks[0].name if tasks else 'birds'}"
        )


def folder_labels(paths: list[str], tasks: list[TargetTask], beside: NamesBeside) -> tuple[pa.Table, Counter[str]]:
    """Returns columns task, label and position of images in class folders, and how many images lie in each folder of no
    class.

    The innermost folder that is a class counts; if there are several tasks, a folder above or below it names the task.
    The rows of images of no class are null.
    """
    known_of = {task.name: spellings(task) for task in tasks}
    listed = {task.name: positions_of_identifiers(task, beside) for task in tasks}
    meant = {path: _of_path(path.split("/"), tasks, known_of, listed, beside) for path in dict.fromkeys(paths)}
    found = [meant[path] for path in paths]
    unknown = Counter(path for path, (_, label, _) in zip(paths, found, strict=True) if label is None)
    task, label, position = zip(*found, strict=True) if found else ([], [], [])
    return _labelled(task, label, position), unknown


def check_folders(unknown: Counter[str], num_rows: int, most: float, dataset: str) -> str:
    """Says how many images lie in folders of no class; "" if none does. ConfigError above the share `most`."""
    if not unknown:
        return ""
    count = sum(unknown.values())
    names = [path.rpartition("/")[2] for path in unknown]
    shown = ", ".join(f"{shortened(path) or '.'} ({images:,})" for path, images in unknown.most_common(EXAMPLES))
    told = (
        f"{field_of(dataset)}: {count:,} of {num_rows:,} images lie in {len(unknown)} folders that are no "
        f"class: {shown}{', ...' if len(unknown) > EXAMPLES else ''}"
    )
    if count > most * num_rows or count == num_rows:
        raise ConfigError(f"{told}; {advice(names)}")
    return f"{told}; they are left out"


def class_labels(
    table: pa.Table, written: Sequence[str], dataset: str, tasks: list[TargetTask], beside: NamesBeside
) -> pa.Table:
    """Returns columns task and label, both text, and position: int32, the place of the class in its task where a label
    is a position or an identifier, null for a name. ConfigError for a label that is no class of its task.

    Where labels are lists, the column also has those behind the first, null if there are none.
    table: columns label, and task if there are several. written: the names of integers, () = not told.
    """
    labels = _plain_values(table[LABEL])
    if _is_list(labels.type):
        return _several_labels(table, written, dataset, tasks, beside)
    names = [tasks[0].name] * len(table) if TASK not in table.column_names else _plain_values(table[TASK]).to_pylist()
    if without := names.count(None):
        raise ConfigError(f"{field_of(dataset)}: {without} rows have no task; name it, or leave these rows out")
    kind = labels.type
    if pa.types.is_floating(kind):  # pandas makes integers beside a blank cell to floats
        labels = _whole(labels, dataset)
    elif not (pa.types.is_integer(kind) or _is_text(kind)):
        raise ConfigError(
            f"{field_of(dataset)}: its labels are {kind}; write class names, or positions in the class list"
        )
    by_task = {task.name: task for task in tasks}
    known = [row for row, name in enumerate(names) if name in by_task]
    if missing := pc.sum(pc.is_null(labels.take(pa.array(known, pa.int64())))).as_py():
        raise ConfigError(f"{field_of(dataset)}: {missing} rows have no label; leave these rows out")
    values = labels.to_pylist()
    known_of = {task.name: spellings(task) for task in tasks}
    position: list[int | None] = [None] * len(values)
    if _is_text(kind) and not _are_positions({values[row] for row in known}, known_of, beside):
        listed = {task.name: positions_of_identifiers(task, beside) for task in tasks}
        for row in known:
            position[row] = number = listed[names[row]].get(values[row])
            if number is not None:
                values[row] = by_task[names[row]].class_names[number]
            elif values[row] not in by_task[names[row]].class_names:
                values[row] = class_of(values[row], known_of[names[row]], beside) or values[row]
    else:
        of_task = {task.name: names_by_position(task, written or beside.lines) for task in tasks}
        by_place = {task.name for task in tasks if of_task[task.name] == list(task.class_names)}
        for row in known:
            number = int(values[row])
            values[row] = _at(number, of_task[names[row]], dataset, names[row])
            position[row] = number if names[row] in by_place else None
        values = [value if isinstance(value, str) else None for value in values]
    found = _labelled(names, values, position)
    check_labels(found, {task.name: list(task.class_names) for task in tasks}, dataset)
    return found


def names_by_position(task: TargetTask, written: Sequence[str]) -> list[str]:
    """Returns the class, or else the name in the file, that each integer means."""
    classes = list(task.class_names)
    same = spellings(task)
    found = [same.get(spelling(name)) for name in written]
    in_place = len(found) == len(classes) and all(
        name in (None, known) for name, known in zip(found, classes, strict=True)
    )
    if not written or in_place:
        return classes
    return [name or told for name, told in zip(found, written, strict=True)]


def positions_of_identifiers(task: TargetTask, beside: NamesBeside) -> dict[str, int]:
    """Returns the position that each identifier of the file means: the number of its line, if there is one line for
    each class, and no line names another class than the one at its position. Otherwise those that a built-in task
    knows itself, and names decide where it knows none.
    """
    own = {identifier: number for number, identifier in enumerate(task.identifiers)}
    identifiers = list(beside.names_of)
    if len(identifiers) != len(task.class_names) or not all(beside.names_of.values()):
        return own
    known = spellings(task)
    meant = [class_of(name, known, beside) for name in identifiers]
    if not any(meant) or any(name not in (None, at) for name, at in zip(meant, task.class_names, strict=True)):
        return own
    return {identifier: number for number, identifier in enumerate(identifiers)}


def _labelled(task: Sequence[str | None], label: Sequence[str | None], position: Sequence[int | None]) -> pa.Table:
    columns = (pa.array(task, pa.string()), pa.array(label, pa.string()), pa.array(position, pa.int32()))
    also = pa.nulls(len(label), pa.list_(pa.string()))
    return pa.table(dict(zip((TASK, LABEL, POSITION, ALSO), (*columns, also), strict=True)))


def _several_labels(
    table: pa.Table, written: Sequence[str], dataset: str, tasks: list[TargetTask], beside: NamesBeside
) -> pa.Table:
    """As `class_labels`, of lists of labels, such as those of VOC's images. ConfigError for an empty list."""
    lists = table[LABEL].combine_chunks()
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    if missing := int((lengths == 0).sum()):
        raise ConfigError(f"{field_of(dataset)}: {missing} rows have no label; leave these rows out")
    if _is_list(lists.type.value_type):
        raise ConfigError(f"{field_of(dataset)}: its labels are {lists.type}; write one list of names for each image")
    each = {LABEL: pc.list_flatten(lists)}
    if TASK in table.column_names:
        each[TASK] = table[TASK].take(pa.array(np.repeat(np.arange(len(lengths)), lengths)))
    found = class_labels(pa.table(each), written, dataset, tasks, beside)
    begins = np.cumsum(lengths) - lengths
    names = found[LABEL].to_pylist()
    also = [names[begin + 1 : begin + length] or None for begin, length in zip(begins, lengths, strict=True)]
    first = found.take(pa.array(begins))
    return first.set_column(first.column_names.index(ALSO), ALSO, pa.array(also, pa.list_(pa.string())))


def _of_path(
    folders: list[str],
    tasks: list[TargetTask],
    known_of: dict[str, dict[str, str]],
    listed: dict[str, dict[str, int]],
    beside: NamesBeside,
) -> tuple[str | None, str | None, int | None]:
    """Returns task, class and position of an image by its folders, outermost first."""
    for folder in reversed(folders):
        others = {spelling(name) for name in folders if name is not folder}
        for task in tasks:
            if len(tasks) == 1 or spelling(task.name) in others:
                if (number := listed[task.name].get(folder)) is not None:
                    return task.name, task.class_names[number], number
                found, number = class_of(folder, known_of[task.name], beside), None
                if found is None and folder.isdecimal():
                    classes = names_by_position(task, beside.lines)
                    found = classes[int(folder)] if int(folder) < len(classes) else None
                    number = int(folder) if classes == list(task.class_names) else None
                if found in task.class_names:
                    return task.name, found, number
    return None, None, None


def _are_positions(texts: set[str], known_of: dict[str, dict[str, str]], beside: NamesBeside) -> bool:
    """Returns True for the integers of a csv or a .cls, which are texts, unless a class has such a name."""
    if not texts or not all(text.isdecimal() and len(text) <= MOST_DIGITS for text in texts):
        return False
    return not any(class_of(text, known, beside) for text in texts for known in known_of.values())


def target_of(labels: pa.Table, task: TargetTask) -> np.ndarray:
    """The classes of rows of one task, as in target.py: the position of the label, or of the first class with its name.

    There may be several of each image if one of these images has several, or if the metric is made for that. labels:
    columns label, position and also, as from `class_labels`.
    """
    place = {name: position for position, name in reversed([*enumerate(task.class_names)])}
    of_name = np.array([place[name] for name in labels[LABEL].to_pylist()], np.int64)
    given = labels[POSITION].fill_null(-1).to_numpy().astype(np.int64)
    label_N = np.where(given >= 0, given, of_name)
    if task.metric != MAP_11_POINT and labels[ALSO].null_count == len(labels):
        return label_N
    true_NC = np.zeros((len(labels), len(task.class_names)), bool)
    true_NC[np.arange(len(labels)), label_N] = True
    for row, others in enumerate(labels[ALSO].to_pylist()):
        true_NC[row, [place[name] for name in others or []]] = True
    return true_NC


def _at(position: int, names: list[str], dataset: str, task: str) -> str:
    if 0 <= position < len(names):
        return names[position]
    raise ConfigError(
        f"{field_of(dataset)}: {position} is no position in the {len(names)} classes of task {task!r}, which "
        "are numbered from 0; correct the labels, or write class names"
    )


def _whole(labels: pa.ChunkedArray, dataset: str) -> pa.ChunkedArray:
    try:
        return labels.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"{field_of(dataset)}: its labels are {labels.type} and not whole ({error}); write class names, or "
            "positions in the class list"
        ) from error


def _plain_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(_plain(column.type))


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
