"""`react-ray VERB RECIPE [section.field=value ...]`: the same grammar for every verb and for every file in jobs/.

Exit code 2 for a mistake that the user can correct, 1 for everything else, 130 and 143 after Ctrl-C and SIGTERM
(interrupt.py). Whatever is raised ends as one line (ending.py).
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from react_ray import __version__
from react_ray.ending import exit_code, log_to_stderr
from react_ray.field_help import fields_help
from react_ray.interrupt import Interruption

if TYPE_CHECKING:
    from react_ray.artifact import Artifact
    from react_ray.recipe import Recipe

logger = logging.getLogger("react_ray")
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
interruption = Interruption()

VERBOSE = "--verbose"  # may stand anywhere on the command line
RecipeArgument = Annotated[str, typer.Argument(help="URI of a recipe (YAML)", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="section.field=value ...", metavar="[section.field=value ...]")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="request again only the rows whose failure may pass")]
SkipCorrupt = Annotated[
    bool,
    typer.Option(
        "--skip-corrupt",
        help="keep a part whose file cannot be read as rows of status `corrupt`; the manifest names it",
    ),
]

SECTIONS = {
    "ingest": ["ingest"],
    "download": ["download"],
    "embed": ["backbone", "embed"],
    "index": ["index"],
    "retrieve": ["tasks", "retrieve"],
    "customize": ["customize"],
    "evaluate": ["tasks", "evaluate"],
    "report": [],
}


def run_verb(verb: str, recipe_uri: str, overrides: list[str] | None, option: bool = False) -> None:
    """Load the recipe, check it before anything starts, connect to Ray, run one verb for all arms, print the outcome.

    option: the verb's own option, which is --retry-failed of download or --skip-corrupt of embed.
    """
    from react_ray.recipe import load_recipe
    from react_ray.runtime import preflight

    recipe = load_recipe(recipe_uri, overrides)
    with _writing(recipe, verb):
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
def _writing(recipe: Recipe, verb: str) -> Iterator[None]:
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


@app.command("delete", help="Exclude pairs, by a file of pair_ids, from every search.")
def _delete(
    recipe_uri: RecipeArgument,
    ids: Annotated[str, typer.Argument(help="URI of a text file of pair_ids, one a line", metavar="IDS")],
    overrides: Overrides = None,
) -> None:
    from react_ray.index.deleted import delete_pairs, read_ids
    from react_ray.recipe import load_recipe

    database = load_recipe(recipe_uri, overrides).database
    typer.echo(f"{database}: {delete_pairs(database, read_ids(ids)):,} pairs are deleted")


@app.command("compact", help="Merge the index and its deltas, without deleted pairs.")
def _compact(recipe_uri: RecipeArgument, overrides: Overrides = None) -> None:
    from react_ray.recipe import load_recipe
    from react_ray.runtime import preflight
    from react_ray.runtime.cluster import connected

    recipe = load_recipe(recipe_uri, overrides)
    preflight.require(recipe, "index")
    from react_ray.stages import index

    with (
        _writing(recipe, "compact"),
        connected(recipe.cluster, verbose=logger.isEnabledFor(logging.INFO)),
    ):
        made = index.compact(recipe)
    typer.echo(f"{made.uri}: {made.manifest.rows} rows in {made.num_parts} parts, content {made.content}")


@app.command("stats", help="Show statuses, hosts, sizes and rates of a download.")
def _stats(
    uri: Annotated[str, typer.Argument(help="URI of the artifact, such as <database>/images", metavar="URI")],
) -> None:
    from react_ray.pairs.stats import stats

    typer.echo(stats(uri))


@app.command("verify", help="Compare every byte of artifacts with their receipts.")
def _verify(
    uri: Annotated[str, typer.Argument(help="URI of an artifact, a database or a run", metavar="URI")],
) -> None:
    from react_ray.stages.verify import verify

    found = verify(uri)
    typer.echo("\n".join(found.summary))
    if found.wrong:
        raise typer.Exit(1)


@app.command(
    "export",
    help="Export images, embeddings or a model for other tools.",
)
def _export(
    what: Annotated[str, typer.Argument(help="webdataset, parquet, files, clip-retrieval, or model", metavar="WHAT")],
    uri: Annotated[
        str,
        typer.Argument(
            help="URI of the artifact: <database>/images, <database>/embeddings, <run>/model", metavar="URI"
        ),
    ],
    out: Annotated[
        str, typer.Argument(help="URI of a folder that is empty or new; a file for --layout official", metavar="OUT")
    ],
    rows_per_shard: Annotated[
        int | None,
        typer.Option(
            "--rows-per-shard", help="rows per shard; default 10,000 images or 1,000,000 vectors", show_default=False
        ),
    ] = None,
    layout: Annotated[
        str, typer.Option("--layout", help="for a model: official (REACT's files) or open_clip")
    ] = "official",
    wise_ft: Annotated[float, typer.Option("--wise-ft", help="for a model: 1 = as trained, 0 = the backbone")] = 1.0,
    dtype: Annotated[str, typer.Option("--dtype", help="for a model: fp16 or fp32")] = "fp16",
) -> None:
    interruption.hint = f"interrupted; the export is not complete: delete {out} and run the same command again"
    if what == "model":
        from react_ray.gated.export import export_model

        typer.echo(export_model(uri, out, layout, wise_ft, dtype))
        return
    from react_ray.pairs.export.images import export
    from react_ray.pairs.export.vectors import LAYOUT, export_vectors

    if what == LAYOUT:
        typer.echo(export_vectors(uri, out, 1_000_000 if rows_per_shard is None else rows_per_shard))
        return
    typer.echo(export(what, uri, out, 10_000 if rows_per_shard is None else rows_per_shard))


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


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="show the version")] = False,
    verbose: Annotated[
        bool, typer.Option(VERBOSE, help="log to stderr, with the messages of Ray and all workers")
    ] = False,
) -> None:
    if version:
        typer.echo(f"react_ray {__version__}")
        raise typer.Exit()


def main(arguments: list[str] | None = None) -> None:
    """Runs one command. Whatever is raised ends as one line, and a signal as a hint how to go on."""
    with interruption:
        code = exit_code(partial(_command, sys.argv[1:] if arguments is None else arguments), interruption)
    if code:
        sys.exit(code)


def _command(arguments: list[str]) -> None:
    log_to_stderr()
    if VERBOSE in arguments:
        arguments = [argument for argument in arguments if argument != VERBOSE]
        logger.setLevel(logging.INFO)
    if len(arguments) >= 2 and arguments[0] in SECTIONS and "--help" in arguments:
        app([arguments[0], "--help"], standalone_mode=False)
        typer.echo(f"Fields (write section.field=value):\n{fields_help(SECTIONS[arguments[0]])}")
        return
    app(arguments, standalone_mode=True)


if __name__ == "__main__":
    main()
