"""Writes the recipe that retrieves what a class list showed: POST /v1/recipe. `react-ray retrieve` runs it as it is."""

from __future__ import annotations

from typing import Any

import yaml

from react_ray.recipe import Recipe, as_recipe
from react_ray.serving.api import RecipeBody
from react_ray.serving.class_list import load, tasks_config
from react_ray.serving.rules import rules
from react_ray.serving.view import View
from react_ray.uri import absolute

OF_OTHER_CLASSES = (
    "arms",
    "evaluate",
    "tasks",
    "retrieve",
    "serve",
    "out",
    "name",
)  # what the new recipe has its own of
HEAD = """\
# Written by react-ray serve over the same database. Next:
#   react-ray retrieve {file}    # finds these pairs; look at them with: react-ray show {file}
#   react-ray run {file}         # goes on to the model and the report
"""


def written_recipe(recipe: Recipe, view: View, body: RecipeBody) -> dict[str, str]:
    tasks = tasks_config(recipe, body)
    load(tasks)
    config = rules(recipe, view, body)
    sets = [absolute(uri) for uri in config.decontaminate.sources(recipe.evaluate.datasets)]  # a name has no slash
    decontaminate = config.decontaminate.model_copy(update={"datasets": sets})
    retrieve = config.model_copy(update={"decontaminate": decontaminate})
    values: dict[str, Any] = {"name": body.name, "database": view.database.uri}
    values["tasks"] = tasks.model_dump(mode="json", exclude_defaults=True)
    kept = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"database", *OF_OTHER_CLASSES})
    values |= {section: said for section, said in kept.items() if said != {}}
    values["retrieve"] = retrieve.model_dump(mode="json", exclude_defaults=True)
    as_recipe(values)
    file = f"{body.name.replace(' ', '_')}.yaml"
    text = HEAD.format(file=file) + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1 << 20)
    return {"yaml": text, "command": f"react-ray retrieve {file}"}
