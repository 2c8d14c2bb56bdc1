"""plan: what a recipe will take, and what is in its way."""

from __future__ import annotations

from typing import Annotated

import typer

from react_ray.cli.app import Json, Overrides, RecipeArgument, answer, app


@app.command("plan", help="Check a whole job and reckon its rows, bytes, requests, memory, disk and time here.")
def _plan(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    as_json: Json = False,
    quick: Annotated[bool, typer.Option("--quick", help="measure nothing; times follow from stated rates")] = False,
) -> None:
    from react_ray.planning.plan import plan_job
    from react_ray.recipe import load_recipe

    found = plan_job(load_recipe(recipe, overrides), quick)
    answer(found.text(), found.values(), as_json)
    if found.problems:
        raise typer.Exit(2)
