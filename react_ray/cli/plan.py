"""plan: what a recipe will take, and what is in its way."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from react_ray.cli.app import Overrides, RecipeArgument, app


@app.command("plan", help="Check a whole job and reckon its rows, bytes, requests, memory, disk and time here.")
def _plan(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="measure nothing; times follow from stated rates")] = False,
) -> None:
    from react_ray.planning.plan import plan_job
    from react_ray.recipe import load_recipe

    found = plan_job(load_recipe(recipe, overrides), quick)
    typer.echo(json.dumps(found.values(), indent=1) if as_json else found.text())
    if found.problems:
        raise typer.Exit(2)
