"""The class list of a request as the tasks of a recipe: names with synonyms, or a task that is built in or its own."""

from __future__ import annotations

from typing import Any

from react_ray.clip.builtin_tasks import builtin_names, builtin_task
from react_ray.clip.prompts import TargetTask, TasksConfig, load_tasks
from react_ray.errors import ConfigError
from react_ray.recipe import Recipe
from react_ray.serving.api import ClassList
from react_ray.serving.refusal import Refused

FIRST = 20  # class names of a task that a list of tasks shows


def tasks_config(recipe: Recipe, body: ClassList) -> TasksConfig:
    """The section `tasks` of a recipe that asks for this list. Refused if it asks for nothing, or for a task that is
    not there."""
    if (body.classes is None) == (body.task is None):
        raise Refused("a class list has either classes or task; give one of them", field="classes")
    if body.task is not None:
        own = next((task for task in own_tasks(recipe) if task.name == body.task), None)
        if body.templates != "":
            task = own or load(TasksConfig(builtin=[body.task]))[0]
            return TasksConfig(
                name=body.task,
                class_names=[list(names) for names in task.synonyms],
                templates=list(body.templates),
                duplicates="share",
            )
        if own is None:
            return TasksConfig(builtin=[body.task])
        config = recipe.tasks
        if config.file and not config.file.endswith(".txt") and body.task not in config.builtin:
            return TasksConfig(file=config.file, names=[body.task], duplicates=config.duplicates)
        if body.task in config.builtin:
            return TasksConfig(builtin=[body.task])
        return config.model_copy(update={"builtin": [], "queries": [], "seed_images": {}})
    assert body.classes is not None
    if not body.classes:
        raise Refused("the class list is empty; name at least one class", field="classes")
    names = [[one.name, *one.synonyms] if one.synonyms else one.name for one in body.classes]
    templates = templates_of(recipe) if body.templates == "" else list(body.templates)
    return TasksConfig(name="classes", class_names=names, templates=templates, duplicates="share")


def tasks_of(recipe: Recipe, body: ClassList) -> list[TargetTask]:
    return load(tasks_config(recipe, body))


def load(config: TasksConfig) -> list[TargetTask]:
    try:
        return load_tasks(config)
    except ConfigError as error:
        field = "task" if config.builtin or config.file else "classes"
        raise Refused(str(error), code="bad_classes", field=field) from error


def own_tasks(recipe: Recipe) -> list[TargetTask]:
    """Those of the recipe; none if it has only sentences or images, or if its tasks are not there any more."""
    try:
        return load_tasks(recipe.tasks)
    except ConfigError:
        return []


def templates_of(recipe: Recipe) -> list[str]:
    own = own_tasks(recipe)
    return list(own[0].templates) if own else list(recipe.tasks.templates)


def task_list(recipe: Recipe) -> dict[str, Any]:
    """The answer of GET /v1/tasks: built-in tasks, then those of the recipe."""
    found = []
    for name in builtin_names():
        classes = builtin_task(name).class_names
        found.append({"name": name, "num_classes": len(classes), "classes": classes[:FIRST]})
    own = own_tasks(recipe)
    for task in own:
        names = list(task.class_names)
        found.append({"name": task.name, "num_classes": len(names), "classes": names[:FIRST]})
    return {"tasks": found, "own": [task.name for task in own]}
