"""LabelledSet: a set as a command line names it, with the classes that its images are told apart by.

Takes `NAME=URI`, and files of classes or built-in tasks as `NAME=VALUE` or for all sets as `VALUE`. Without them, a set
that the models were customised for has the classes of the run's recipe, and any other set those that it names itself:
by its folders, by the texts of its labels, or in a file beside it. Templates are those of the command, or else of a
file beside the set, or else of the run. Next: compare.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from react_ray.clip.prompts import TargetTask, TasksConfig, load_tasks
from react_ray.errors import ConfigError
from react_ray.evals.class_names import NUMBER_BEFORE, WORDNET
from react_ray.evals.labelled import Slice, check_set, slices_of
from react_ray.evals.set_files import TASK, SetFiles, open_files
from react_ray.evals.set_name import field_of, named_by_options
from react_ray.gated.trained import RECIPE_FILE
from react_ray.metadata import shaped
from react_ray.progress import say
from react_ray.storage import join, read_bytes
from react_ray.yaml_file import parse_yaml

ON, OFF_TARGET, VALIDATION = "--on", "--off-target", "--validation"
NAMED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)
HOW = "give them by --classes FILE (one class per line) or --task imagenet"


@dataclass(frozen=True)
class LabelledSet:
    name: str
    uri: str
    tasks: list[TargetTask]
    slices: list[Slice]
    off_target: bool = False  # other classes than those that a model was customised for
    validation: bool = False  # choices are made on it, so that it shows no result

    @property
    def option(self) -> str:
        """The option of the command that named it."""
        return f"{_option(self.off_target, self.validation)} {self.name}"


@dataclass(frozen=True)
class Classes:
    """What the user says about classes, by the name of a set; "" = of all sets without an entry."""

    files: Mapping[str, str]  # as tasks.file
    builtin: Mapping[str, str]  # as tasks.builtin
    templates: Sequence[str] = ()  # of names that come without templates

    def of(self, name: str, templates: Sequence[str] = ()) -> TasksConfig | None:
        """None where nothing is said about a set. templates: instead of the usual one, where the user gave none."""
        file, task = (said.get(name, "") for said in (self.files, self.builtin))
        if not (file or task):
            file, task = (said.get("", "") for said in (self.files, self.builtin))
        return (
            TasksConfig(file=file, builtin=[task] if task else [], **self._asked(templates)) if file or task else None
        )

    def named(self, class_names: list[str], templates: Sequence[str] = ()) -> TasksConfig:
        return TasksConfig(name="classes", class_names=list(class_names), **self._asked(templates))

    def _asked(self, templates: Sequence[str]) -> dict[str, Any]:
        found = list(self.templates or templates)
        return {"templates": found} if found else {}


def named_values(given: Sequence[str], option: str, sets: Sequence[str] | None = None) -> dict[str, str]:
    """Takes NAME=VALUE apart. ConfigError for a name that is given twice.

    sets: the names that there may be; a VALUE without one of them has the name "". None = any name, and a URI without
    one has that of its file or folder.
    """
    found: dict[str, str] = {}
    for one in given:
        match = NAMED.fullmatch(one)
        name, value = (match[1], match[2]) if match else ("", one)
        if sets is None and not match:
            name = value.rstrip("/").rpartition("/")[2].partition(".")[0]
        elif sets is not None and name not in sets:
            name, value = "", one
        if name in found:
            whose = f"of {name}" if name else "of all sets"
            raise ConfigError(f"{option} {one}: there is a value {whose} already; give one, or another NAME=")
        found[name] = value
    return found


def labelled_sets(
    on: Mapping[str, str],
    off_target: Mapping[str, str],
    classes: Classes,
    runs: Sequence[str],
    validation: Mapping[str, str] | None = None,
) -> list[LabelledSet]:
    """Opens all sets. ConfigError for one that cannot be scored.

    on, off_target, validation: name -> URI. runs: artifacts `model`, beside which their recipes lie.
    """
    if not on:
        raise ConfigError("compare: there is no labelled set; name one with --on NAME=URI")
    named = [*on, *off_target, *(validation or {})]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise ConfigError(f"compare: two sets are named {twice}; give one of them another NAME=")
    of_run = _tasks_of_run(runs)
    found = []
    for name, uri in {**on, **off_target, **(validation or {})}.items():
        is_off, is_validation = name in off_target, name in (validation or {})
        with _without_recipe(name, _option(is_off, is_validation)):
            files = open_files(uri, field_of(name))
            templates = files.beside.templates or (() if is_off else _common_templates(of_run, name))
            said = classes.of(name, templates)
            tasks = load_tasks(said) if said else [] if is_off else of_run
            tasks = tasks or _own_tasks(files, name, classes, templates)
            _check_tasks(files, name, tasks)
            check_set(name, uri, tasks)
            found.append(LabelledSet(name, uri, tasks, slices_of(name, uri, tasks), is_off, is_validation))
    return found


def _option(off_target: bool, validation: bool) -> str:
    return OFF_TARGET if off_target else VALIDATION if validation else ON


def _tasks_of_run(runs: Sequence[str]) -> list[TargetTask]:
    """The tasks of the first run; [] without one, or if its recipe has none that can be evaluated."""
    for uri in runs[:1]:
        where = join(uri, RECIPE_FILE)
        values = parse_yaml(read_bytes(where), where)
        if isinstance(values, dict) and "tasks" in values:
            section = shaped(values["tasks"], TasksConfig, where, "give classes by --classes", ConfigError)
            return load_tasks(section)
    return []


def _common_templates(tasks: Sequence[TargetTask], name: str) -> Sequence[str]:
    """The templates of the task that has the set's name, or those that all tasks share; () if there are none."""
    of_all = {task.templates for task in tasks if task.name == name} or {task.templates for task in tasks}
    return of_all.pop() if len(of_all) == 1 else ()


def _check_tasks(files: SetFiles, name: str, tasks: Sequence[TargetTask]) -> None:
    """ConfigError if nothing says of which of several tasks an image is."""
    names = [task.name for task in tasks]
    if len(tasks) > 1 and not files.has_folders and TASK not in files.columns.names and name not in names:
        raise ConfigError(
            f"{field_of(name)}: there are {len(tasks)} tasks, and the set has no column `task`; give the set the "
            f"name of its task ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''}), or classes by --classes"
        )


def _own_tasks(files: SetFiles, name: str, classes: Classes, templates: Sequence[str]) -> list[TargetTask]:
    """One task with the classes that a set names itself, or one for each name in its column of tasks."""
    rows = files.labels(0, files.num_rows)
    labels = rows["label"] if files.label else pa.chunked_array([[]], pa.string())
    if _is_list(labels.type):
        labels = pc.list_flatten(labels)
    if TASK not in rows.column_names or not _is_text(rows[TASK].type):
        return load_tasks(classes.named(_own_classes(files, name, labels), templates))
    found = []
    for task in sorted(pc.unique(rows[TASK].drop_null()).to_pylist()):
        own = _own_classes(files, f"{name}, {task}", labels.filter(pc.equal(rows[TASK], task)))
        found += [replace(one, name=task) for one in load_tasks(classes.named(own, templates))]
    return found


def _own_classes(files: SetFiles, name: str, labels: pa.ChunkedArray) -> list[str]:
    """The names of classes that a set has itself, in order. ConfigError if it has none."""
    written = list(files.names or files.beside.lines)
    if files.has_folders:
        folders = {label.rpartition("/")[2] for label in labels.to_pylist()}
        found = sorted({_readable(files.beside.name_of(folder)) for folder in folders - {""}})
    elif pa.types.is_integer(labels.type) or (written and _are_numbers(labels)):
        found = written
    else:
        plain = labels.cast(labels.type.value_type) if pa.types.is_dictionary(labels.type) else labels
        found = sorted(map(str, pc.unique(plain.drop_null()).to_pylist())) if _is_text(plain.type) else []
    if not found or all(one.isdecimal() or WORDNET.match(one) for one in found):
        raise ConfigError(f"{field_of(name)}: the set does not name its classes; {HOW}")
    if twice := [one for one, count in Counter(found).items() if count > 1]:
        raise ConfigError(f"{field_of(name)}: the set names {twice[0]!r} twice; {HOW}")
    say(f"compare    {name}: the {len(found):,} classes are those that the set itself names")
    return found


def _readable(folder: str) -> str:
    """`001.Black_footed_Albatross` -> `Black footed Albatross`, which is what a prompt should say."""
    return NUMBER_BEFORE.sub("", folder).replace("_", " ").strip() or folder


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _are_numbers(labels: pa.ChunkedArray) -> bool:
    """True for the texts of WebDataset's .cls."""
    return _is_text(labels.type) and all(one.isdecimal() for one in pc.unique(labels.drop_null()).to_pylist())


@contextmanager
def _without_recipe(name: str, option: str) -> Iterator[None]:
    """Whoever has no recipe is told of the option instead of the field."""
    try:
        with named_by_options({name: f"{option} {name}"}):
            yield
    except ConfigError as error:
        raise ConfigError(str(error).replace(" or evaluate.max_unreadable", "")) from error
