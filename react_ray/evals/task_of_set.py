"""Finds the task whose classes a set is labelled with, where its rows do not say so themselves."""

from __future__ import annotations

from collections.abc import Sequence

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError


def task_of_set(tasks: Sequence[TargetTask], name: str, whose: str) -> TargetTask:
    """Returns the only task of the recipe, or that whose name the set has, or begins with before a dot.

    whose: the field of the recipe that names the set, for messages.
    """
    found = [task for task in tasks if len(tasks) == 1 or name.startswith(f"{task.name}.") or task.name == name]
    if not found:
        raise ConfigError(
            f"{whose}: the recipe has {len(tasks)} tasks; give the set the name of its task, one of "
            f"{', '.join(task.name for task in tasks) or 'none'}"
        )
    return found[0]
