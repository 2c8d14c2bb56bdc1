"""Lists the queries to search for: the prompts of every task, free sentences and seed images.

Takes a TasksConfig, gives one Query per search. Class ids run over all tasks, then over the free sentences, then over
the seed images of new classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from react_ray.clip.prompts import TargetTask, TasksConfig, load_tasks, prompts
from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.formats.image_folder import is_image
from react_ray.storage import absolute, list_files

Modality = Literal["text", "image"]
FREE, SEEDS = "queries", "seed images"  # stand in the column `task` for sentences and images without a class name


@dataclass(frozen=True)
class Query:
    class_id: int  # unique over all tasks
    task: str
    class_name: str
    prompt: str  # names the query in the matches that it finds
    modality: Modality = "text"
    parts: tuple[str, ...] = ()  # sentences or image URIs; the query is the mean of their vectors


def make_queries(config: TasksConfig, averaged: bool) -> list[Query]:
    """Returns the text queries of each task, then free sentences, then images; raises ConfigError for invalid ones.

    averaged: one query per class, the mean of its prompts, instead of one query per prompt.
    """
    tasks = load_tasks(config)
    out = task_queries(tasks, averaged)
    first_class = sum(len(task.class_names) for task in tasks)
    out += _free(config.queries, first_class)
    return out + _seeds(config, tasks, first_class + len(config.queries), averaged)


def task_queries(tasks: list[TargetTask], averaged: bool) -> list[Query]:
    """Returns the queries of the prompts of each task; class ids run over all tasks."""
    out: list[Query] = []
    first_class = 0
    for task in tasks:
        out += _of_task(task, first_class, averaged)
        first_class += len(task.class_names)
    return out


def _of_task(task: TargetTask, first_class: int, averaged: bool) -> list[Query]:
    found = prompts(task)
    if not averaged:
        return [Query(first_class + p.class_id, task.name, p.class_name, p.prompt, parts=(p.prompt,)) for p in found]
    parts: list[list[str]] = [[] for _ in task.class_names]
    for prompt in found:
        parts[prompt.class_id].append(prompt.prompt)
    return [
        Query(first_class + i, task.name, name, name, parts=tuple(parts[i])) for i, name in enumerate(task.class_names)
    ]


def _free(sentences: list[str], first_class: int) -> list[Query]:
    for sentence in sentences:
        if not sentence.strip():
            raise ConfigError("tasks.queries: a sentence is empty; write what to search for, or remove it")
    if len(set(sentences)) < len(sentences):
        raise ConfigError("tasks.queries: a sentence is listed twice; keep one")
    return [Query(first_class + i, FREE, text, text, parts=(text,)) for i, text in enumerate(sentences)]


def _seeds(config: TasksConfig, tasks: list[TargetTask], first_class: int, averaged: bool) -> list[Query]:
    known: dict[str, tuple[int, str]] = {}
    number = 0
    for task in tasks:
        for name in task.class_names:
            known.setdefault(name, (number, task.name))
            number += 1
    out = []
    for name, uris in config.seed_images.items():
        if name not in known:
            known[name] = (first_class, SEEDS)
            first_class += 1
        class_id, task_name = known[name]
        images = [image for uri in uris for image in _images(name, uri)]
        if not images:
            raise ConfigError(f"tasks.seed_images: {name!r} has no image; list at least one, or remove the class")
        groups = [tuple(images)] if averaged else [(image,) for image in images]
        out += [Query(class_id, task_name, name, " ".join(group[:3]), "image", group) for group in groups]
    return out


def _images(name: str, uri: str) -> list[str]:
    """Returns the file itself, whatever its suffix, or the images below a folder."""
    if is_image(uri):
        return [uri]
    try:
        files = list_files(uri)
    except StorageError as error:
        raise ConfigError(f"tasks.seed_images: {name!r}: {error}") from error
    if files == [absolute(uri)]:
        return files
    found = [file for file in files if is_image(file)]
    if not found:
        raise ConfigError(
            f"tasks.seed_images: {name!r}: {uri} is no image and has none below it; name .jpg, .png or .webp files"
        )
    return sorted(found)
