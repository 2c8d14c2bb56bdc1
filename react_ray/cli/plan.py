"""plan: what a recipe will take."""

from __future__ import annotations

import typer

from react_ray.cli.app import Overrides, RecipeArgument, app


@app.command("plan", help="Compute parameters and peak memory of each training.")
def _plan(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    from react_ray.recipe import load_recipe
    from react_ray.training.memory_plan import plan

    loaded = load_recipe(recipe, overrides)
    for arm in loaded.arm_names():
        wanted = loaded.arm(arm)
        if wanted.customize.method == "linear":
            typer.echo(f"{arm}: a head on stored vectors, no model runs".removeprefix(": "))
        else:
            typer.echo(f"{arm}: {plan(wanted.customized, wanted.customize, wanted.backbone).text()}".removeprefix(": "))
