"""Loads tasks (class names and prompt templates), and writes their prompts.

Tasks come from a JSON file {"tasks": {name: {"classes": [...], "templates": [...]}}}, from a text file with one class
per line, from installed libraries, or from the recipe itself. A class may be a list of synonyms: the first is its
name, and all of them make prompts. This file imports no torch.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from react_ray.clip.builtin_tasks import builtin_task
from react_ray.errors import ConfigError
from react_ray.metadata import parse_json
from react_ray.section import Section, field
from react_ray.storage import local_file, read_bytes

TOP1, MEAN_PER_CLASS, MAP_11_POINT, ROC_AUC = METRICS = ("top1", "mean_per_class", "map_11_point", "roc_auc")
SYNONYMS = "|"  # separates the synonyms of a class in a text file


class TasksConfig(Section):
    file: str = field(
        "",
        "URI of a JSON with tasks, or of a .txt with one class per line (synonyms separated by |); empty = class_names",
    )
    names: list[str] = field([], "the tasks of `file` to use; empty = all")
    builtin: list[str] = field([], "tasks shipped by libraries (imagenet, food-101, ...); they precede those of `file`")
    name: str = field("task", "name of the task that class_names or a .txt file defines")
    class_names: list[str | list[str]] = field([], "classes of that task; a list holds synonyms, the name first")
    templates: list[str] = field(["a photo of a {}."], "prompt templates of that task; {} stands for the class name")
    duplicates: Literal["refuse", "share"] = field(
        "refuse", "a name that two classes have: refuse = stop, share = both classes get the pairs found by it"
    )
    queries: list[str] = field([], "sentences to search for as they are; each is a class that is not evaluated")
    seed_images: dict[str, list[str]] = field(
        {},
        "class name -> URIs of images, or folders of images, to search for; an unknown name becomes a class of its own",
    )


@dataclass(frozen=True)
class TargetTask:
    name: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]  # the names of each class, its own name first
    metric: str = TOP1  # one of METRICS: the figure that counts for this task
    identifiers: tuple[str, ...] = ()  # of the classes in published sets, such as WordNet's; () = none
    squash: bool = False  # evaluation resizes its images to a square whatever their shape, instead of cropping them


@dataclass(frozen=True)
class Prompt:
    class_id: int  # index within the task
    class_name: str
    prompt: str


def load_tasks(config: TasksConfig) -> list[TargetTask]:
    """Returns the tasks of `builtin`, then those of the file or of class_names; raises ConfigError for invalid ones.

    The list is empty if the recipe has only `queries` or `seed_images`.
    """
    if len(set(config.builtin)) < len(config.builtin):
        raise ConfigError(f"tasks.builtin: {_repeated(config.builtin)} is listed twice; keep one")
    tasks = [_builtin(name, config) for name in config.builtin]
    if not config.file:
        elsewhere = tasks or config.queries or config.seed_images
        if config.class_names or not elsewhere:
            tasks.append(_task(config.name, config.class_names, config.templates, "tasks", config))
    elif config.class_names:
        raise ConfigError("tasks.file and tasks.class_names are both given; keep one of them")
    elif config.file.endswith(".txt"):
        tasks.append(_task(config.name, _lines(config.file), config.templates, config.file, config))
    else:
        tasks += _file_tasks(config)
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"tasks: two tasks are named {_repeated(names)!r}; rename the one of tasks.file or tasks.name"
        )
    return tasks


def _builtin(name: str, config: TasksConfig) -> TargetTask:
    found = builtin_task(name)
    shares = config.model_copy(update={"duplicates": "share"})
    task = _task(name, found.class_names, found.templates, f"tasks.builtin: {name}", shares, found.metric)
    return replace(task, identifiers=found.identifiers, squash=found.squash)


def _file_tasks(config: TasksConfig) -> list[TargetTask]:
    found = _read(config.file)
    if len(set(config.names)) < len(config.names):
        raise ConfigError(f"tasks.names: {_repeated(config.names)} is listed twice; keep one")
    for name in config.names:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1, cutoff=0) or ["?"]
            raise ConfigError(f"tasks.names: {config.file} has no task {name!r}; did you mean {near[0]!r}?")
    return [
        _task(
            name,
            found[name].get("classes", []),
            found[name].get("templates", []),
            f"{config.file}: {name}",
            config,
            found[name].get("metric", TOP1),
        )
        for name in config.names or found
    ]


def prompts(task: TargetTask) -> list[Prompt]:
    """Returns each name of each class in each template, ordered by class, then name, then template."""
    return [
        Prompt(class_id, task.class_names[class_id], template.replace("{}", name))
        for class_id, names in enumerate(task.synonyms)
        for name in names
        for template in task.templates
    ]


def by_own_names(task: TargetTask) -> TargetTask:
    """The task as evaluation writes its prompts: of each class its own name alone, as ELEVATER and open_clip have it.

    A synonym that means more than the class costs accuracy as a prompt (docs/experiments.md, "Synonyms by frequency").
    """
    return replace(task, synonyms=tuple((name,) for name in task.class_names))


def _lines(uri: str) -> list[str | list[str]]:
    try:
        lines = Path(local_file(uri)).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"tasks.file={uri}: not UTF-8 text ({error}); save it as UTF-8") from error
    return [[name.strip() for name in line.split(SYNONYMS)] for line in lines if line.strip()]


def _read(uri: str) -> dict[str, Any]:
    form = "see sample://tasks.json for the form"
    found = parse_json(read_bytes(uri), f"tasks.file={uri}", form, ConfigError)
    if not isinstance(found, dict) or "tasks" not in found:
        raise ConfigError(f"tasks.file={uri}: not a JSON with 'tasks'; {form}")
    tasks = found["tasks"]
    if not isinstance(tasks, dict) or not tasks or not all(isinstance(task, dict) for task in tasks.values()):
        raise ConfigError(f"tasks.file={uri}: 'tasks' must map names to tasks; {form}")
    return tasks


def _task(name: str, classes: Any, templates: Any, where: str, config: TasksConfig, metric: Any = TOP1) -> TargetTask:
    if metric not in METRICS:
        raise ConfigError(f"{where}: no metric {metric!r}; name one of {', '.join(METRICS)}")
    listed = _list(classes, f"{where}: classes")
    for i, one in enumerate(listed):
        if not isinstance(one, (str, list, tuple)):
            raise ConfigError(f"{where}: class {i} is {one!r}; write a name, or a list of names that mean the same")
    names = [(c,) if isinstance(c, str) else tuple(c) for c in listed]
    texts = _list(templates, f"{where}: templates")
    if not names:
        raise ConfigError(f"{where}: no class names; list at least one class")
    if not texts:
        raise ConfigError(f"{where}: no templates; list at least one, '{{}}' alone will do")
    for i, synonyms in enumerate(names):
        if not synonyms or not all(isinstance(s, str) and s.strip() for s in synonyms):
            raise ConfigError(f"{where}: class {i} has an empty name; name it or remove it")
    for template in texts:
        if not isinstance(template, str) or "{}" not in template:
            raise ConfigError(f"{where}: template {template!r} has no {{}}; put {{}} where the class name belongs")
    names = [tuple(s.strip() for s in synonyms) for synonyms in names]
    own = tuple(synonyms[0] for synonyms in names)
    names = [tuple(dict.fromkeys(synonyms)) for synonyms in names]
    every = [name for synonyms in names for name in synonyms]
    if len(set(every)) < len(every) and config.duplicates == "refuse":
        raise ConfigError(
            f"{where}: {_repeated(every)!r} is a name of two classes; tell the two apart, remove one, "
            "or set tasks.duplicates=share"
        )
    if metric == ROC_AUC and len(own) != 2:
        raise ConfigError(f"{where}: {ROC_AUC} is of two classes, not {len(own)}; name another metric")
    return TargetTask(name, own, tuple(texts), tuple(names), metric)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"{where} must be a list, not {type(value).__name__}; put it in brackets")
    return value


def _repeated(names: Iterable[str]) -> str:
    return Counter(names).most_common(1)[0][0]
