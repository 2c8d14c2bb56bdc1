"""serve: answers queries over HTTP, with a page to look at what a database returns."""

from __future__ import annotations

from typing import Annotated

import typer

from react_ray.cli.app import Overrides, app, complete_recipe, interruption, logger

DEMO = "recipes://sample.yaml"


@app.command("serve", help="Answer queries over HTTP, with a page to look at what a database returns.")
def _serve(
    recipe: Annotated[
        str, typer.Argument(help="URI of a recipe (YAML)", metavar="[RECIPE]", autocompletion=complete_recipe)
    ] = "",
    overrides: Overrides = None,
    host: Annotated[str, typer.Option("--host", help="address to listen at, instead of serve.host")] = "",
    port: Annotated[int | None, typer.Option("--port", help="port to listen at, instead of serve.port", min=0)] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="let others in without a key")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="serve the sample, which is embedded first if need be")] = False,
) -> None:
    import logging

    from react_ray.cli.verbs import run_stages
    from react_ray.errors import ConfigError
    from react_ray.manifest import MANIFEST
    from react_ray.progress import say
    from react_ray.recipe import load_recipe
    from react_ray.storage import open_storage

    if demo and recipe and "=" in recipe:
        overrides, recipe = [recipe, *(overrides or [])], ""
    if demo == bool(recipe):
        raise ConfigError("name one thing to serve: a RECIPE, or --demo for the sample")
    more = [f"serve.host={host}"] * bool(host) + [f"serve.port={port}"] * (port is not None)
    uri, wanted = DEMO if demo else recipe, [*(overrides or []), *more]
    loaded = load_recipe(uri, wanted)
    from react_ray.stages import serve

    serve.check_open(loaded, insecure)
    if demo and not open_storage(loaded.database).exists(f"index/{MANIFEST}"):
        say("the sample is embedded first: 42,000 captions, a minute or two on two cores")
        run_stages(uri, wanted, last="index", tells=False)
    interruption.hint = "serving has ended"
    serve.run(loaded, insecure, logger.isEnabledFor(logging.INFO))
