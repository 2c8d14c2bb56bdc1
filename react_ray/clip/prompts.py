"""What to recognise: tasks of class names and templates, and the sentences that they make.

Takes a JSON file {"tasks": {name: {"classes": [...], "templates": [...]}}}, a text file of one class a line, tasks that
libraries ship, or the names in the recipe itself. A class may be a list of synonyms: the first is its name, all of them
make prompts. No torch here. Next: queries.py, then embedder.py.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from react_ray.clip.builtin_tasks import builtin_task
from react_ray.errors import ConfigError
from react_ray.section import Section, field
from react_ray.storage import local_file

SYNONYMS = "|"  # between the synonyms of a class in a text file
SLASH = " / "


class TasksConfig(Section):
    file: str = field(
        "",
        "URI of a JSON with tasks, or of a .txt with one class a line (synonyms between |); empty = the task given here",
    )
    names: list[str] = field([], "tasks of the file that are meant; empty = all")
    builtin: list[str] = field([], "tasks that libraries ship: imagenet, food-101, ...; before those of the file")
    name: str = field("task", "name of the task given here")
    class_names: list[str | list[str]] = field(
        [], "classes of the task given here; a list holds synonyms, the first is the name"
    )
    templates: list[str] = field(["a photo of a {}."], "sentences of the task given here, {} is the class name")
    duplicates: Literal["refuse", "share"] = field(
        "refuse", "a name that two classes have is a mistake, or (as twice in ImageNet) both classes share their pairs"
    )
    split_slashes: bool = field(False, "a name 'carton / box' is asked for as carton and as box; it stays one class")
    queries: list[str] = field(
        [], "sentences that are searched as they are; each is a class of its own, in no evaluation"
    )
    seed_images: dict[str, list[str]] = field(
        {}, "class name -> URIs of images or folders of images that are searched too; a new name is a class of its own"
    )


@dataclass(frozen=True)
class TargetTask:
    name: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]  # by class, what it is asked for by; its name too, unless that was split


@dataclass(frozen=True)
class Prompt:
    class_id: int  # index within the task
    class_name: str
    prompt: str


def load_tasks(config: TasksConfig) -> list[TargetTask]:
    """Tasks in the order of `builtin`, then of `names`, or of the file. Raises ConfigError for what cannot be meant.

    Where a recipe only has `queries` or `seed_images` there are none.
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
    classes, templates = builtin_task(name)
    return _task(name, classes, templates, f"tasks.builtin: {name}", config.model_copy(update={"duplicates": "share"}))


def _file_tasks(config: TasksConfig) -> list[TargetTask]:
    found = _read(config.file)
    if len(set(config.names)) < len(config.names):
        raise ConfigError(f"tasks.names: {_repeated(config.names)} is listed twice; keep one")
    for name in config.names:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1, cutoff=0) or ["?"]
            raise ConfigError(f"tasks.names: {config.file} has no task {name!r}; did you mean {near[0]!r}?")
    return [
        _task(name, found[name].get("classes", []), found[name].get("templates", []), f"{config.file}: {name}", config)
        for name in config.names or found
    ]


def prompts(task: TargetTask) -> list[Prompt]:
    """Every name of every class in every template: by class, then name, then template."""
    return [
        Prompt(class_id, task.class_names[class_id], template.replace("{}", name))
        for class_id, names in enumerate(task.synonyms)
        for name in names
        for template in task.templates
    ]


def _lines(uri: str) -> list[str | list[str]]:
    try:
        lines = Path(local_file(uri)).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"tasks.file={uri}: not UTF-8 text ({error}); save it as UTF-8") from error
    return [[name.strip() for name in line.split(SYNONYMS)] for line in lines if line.strip()]


def _read(uri: str) -> dict[str, Any]:
    try:
        tasks = json.loads(Path(local_file(uri)).read_text(encoding="utf-8"))["tasks"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"tasks.file={uri}: not a JSON with 'tasks' ({error}); see sample://tasks.json for the form"
        ) from error
    if not isinstance(tasks, dict) or not tasks or not all(isinstance(task, dict) for task in tasks.values()):
        raise ConfigError(f"tasks.file={uri}: 'tasks' must map names to tasks; see sample://tasks.json for the form")
    return tasks


def _task(name: str, classes: Any, templates: Any, where: str, config: TasksConfig) -> TargetTask:
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
    if config.split_slashes:
        names = [tuple(part.strip() for s in synonyms for part in s.split(SLASH) if part.strip()) for synonyms in names]
    names = [tuple(dict.fromkeys(synonyms)) for synonyms in names]
    every = [*own, *(s for first, synonyms in zip(own, names, strict=True) for s in synonyms if s != first)]
    if len(set(every)) < len(every) and config.duplicates == "refuse":
        raise ConfigError(
            f"{where}: {_repeated(every)!r} is a name of two classes; tell the two apart, remove one, or set tasks.duplicates=share"
        )
    return TargetTask(name, own, tuple(texts), tuple(names))


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"{where} must be a list, not {type(value).__name__}; put it in brackets")
    return value


def _repeated(names: Iterable[str]) -> str:
    return Counter(names).most_common(1)[0][0]
