"""Commands on the artifacts of a database: delete, compact, stats, verify."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Annotated

import typer

from react_ray.cli.app import Json, Overrides, RecipeArgument, answer, app, logger
from react_ray.cli.verbs import writing


@app.command("delete", help="Exclude pairs, by a file of pair_ids, from every search.")
def _delete(
    recipe_uri: RecipeArgument,
    ids: Annotated[str, typer.Argument(help="URI of a text file of pair_ids, one a line", metavar="IDS")],
    overrides: Overrides = None,
) -> None:
    from react_ray.counted import counted
    from react_ray.index.deleted import delete_pairs, read_ids
    from react_ray.recipe import load_recipe

    database = load_recipe(recipe_uri, overrides).database
    typer.echo(f"{database}: {counted(delete_pairs(database, read_ids(ids)), 'deleted pair')}")


@app.command("compact", help="Merge the index and its deltas, without deleted pairs.")
def _compact(recipe_uri: RecipeArgument, overrides: Overrides = None) -> None:
    from react_ray.recipe import load_recipe
    from react_ray.runtime import preflight
    from react_ray.runtime.cluster import connected

    recipe = load_recipe(recipe_uri, overrides)
    preflight.require(recipe, ["index"])
    from react_ray.stages import index

    with (
        writing(recipe, "compact"),
        connected(recipe.cluster, verbose=logger.isEnabledFor(logging.INFO)),
    ):
        made = index.compact(recipe)
    typer.echo(f"{made.uri}: {made.manifest.rows} rows in {made.num_parts} parts, content {made.content}")


@app.command("stats", help="Show statuses, hosts, sizes and rates of a download.")
def _stats(
    uri: Annotated[str, typer.Argument(help="URI of the artifact, such as <database>/images", metavar="URI")],
    as_json: Json = False,
) -> None:
    from react_ray.pairs.stats import stats, stats_value

    if as_json:
        answer("", stats_value(uri), as_json)
    else:
        typer.echo(stats(uri))


@app.command("verify", help="Compare every byte of artifacts with their receipts.")
def _verify(
    uri: Annotated[str, typer.Argument(help="URI of an artifact, a database or a run", metavar="URI")],
    as_json: Json = False,
) -> None:
    from react_ray.stages.verify import verify

    found = verify(uri)
    answer("\n".join(found.summary), asdict(found), as_json)
    if found.wrong:
        raise typer.Exit(1)
