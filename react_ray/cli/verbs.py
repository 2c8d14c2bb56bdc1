"""The verbs of a recipe, `react-ray VERB RECIPE [section.field=value ...]`: one grammar for all of them."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from react_ray.cli.app import Overrides, RecipeArgument, app, interruption, logger

if TYPE_CHECKING:
    from react_ray.artifact import Artifact
    from react_ray.recipe import Recipe

RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="request again only the rows whose failure may pass")]
SkipCorrupt = Annotated[
    bool,
    typer.Option(
        "--skip-corrupt",
        help="keep a part whose file cannot be read as rows of status `corrupt`; the manifest names it",
    ),
]


def run_verb(verb: str, recipe_uri: str, overrides: list[str] | None, option: bool = False) -> None:
    """Load the recipe, check it before anything starts, connect to Ray, run one verb for all arms, print the outcome.

    option: the verb's own option, which is --retry-failed of download or --skip-corrupt of embed.
    """
    from react_ray.recipe import load_recipe
    from react_ray.runtime import preflight

    recipe = load_recipe(recipe_uri, overrides)
    with writing(recipe, verb):
        preflight.begin(recipe, verb)
        preflight.require(recipe, verb)
        from react_ray.runtime.cluster import connected

        with connected(recipe.cluster, verbose=logger.isEnabledFor(logging.INFO)):
            outcome = _run(verb, recipe, option)
    if isinstance(outcome, str):
        typer.echo(outcome)
        return
    for artifact in outcome:
        typer.echo(
            f"{artifact.uri}: {artifact.manifest.rows} rows in {artifact.num_parts} parts, content {artifact.content}"
        )
        for line in getattr(artifact.facts, "summary", []):
            typer.echo(f"  {line}")


@contextmanager
def writing(recipe: Recipe, verb: str) -> Iterator[None]:
    """While a command writes: where an interrupted one goes on from, and the leases that tell a second one to wait."""
    from react_ray.lease import leases

    of_database = verb in ("run", "ingest", "download", "embed", "index", "compact")
    of_run = verb not in ("ingest", "embed", "index", "compact")
    interruption.resumes_from([recipe.database] * of_database + [recipe.out] * of_run)
    with leases(verb, [recipe.out, recipe.database], lambda line: interruption.stop(1, f"error: {line}")):
        yield


def _run(verb: str, recipe: Recipe, option: bool) -> list[Artifact] | str:
    """Imports only the stage of this verb: most stages need no torch in this process."""
    stage = importlib.import_module(f"react_ray.stages.{verb}")
    if verb == "download":
        return stage.run(recipe, option)
    if verb == "embed":
        return [stage.run(recipe, option)]
    if verb == "retrieve":
        return [stage.run(recipe, arm) for arm in recipe.arms_by_dependence()]
    outcome = stage.run(recipe)
    return outcome if isinstance(outcome, (list, str)) else [outcome]


def _add(verb: str, summary: str) -> None:
    if verb == "download":

        def download(recipe: RecipeArgument, overrides: Overrides = None, retry_failed: RetryFailed = False) -> None:
            run_verb(verb, recipe, overrides, retry_failed)

        app.command(verb, help=summary)(download)
        return
    if verb == "embed":

        def embed(recipe: RecipeArgument, overrides: Overrides = None, skip_corrupt: SkipCorrupt = False) -> None:
            run_verb(verb, recipe, overrides, skip_corrupt)

        app.command(verb, help=summary)(embed)
        return

    def command(recipe: RecipeArgument, overrides: Overrides = None) -> None:
        run_verb(verb, recipe, overrides)

    command.__doc__ = summary
    app.command(verb, help=summary)(command)


for _verb, _summary in {
    "ingest": "Read your files of pairs, URLs or vectors into the database.",
    "download": "Download the images of a URL list.",
    "embed": "Embed images and captions with the frozen CLIP.",
    "index": "Build FAISS shards over the vectors.",
    "retrieve": "Search for the class prompts and select the pairs that matter.",
    "customize": "Train gated blocks on the frozen CLIP with the retrieved pairs.",
    "evaluate": "Measure the zero-shot accuracy of base and customised models.",
    "report": "Write the table and report.html of a finished run.",
    "run": "Run all of these in order; finished work is not repeated.",
}.items():
    _add(_verb, _summary)
