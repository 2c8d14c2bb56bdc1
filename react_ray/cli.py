"""`react-ray VERB RECIPE [section.field=value ...]`: the same grammar for every verb and for every file in jobs/.

Exit code 2 for what the user can put right, 1 for everything else. Next: recipe.py.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from react_ray import __version__
from react_ray.errors import ReactRayError

if TYPE_CHECKING:
    from react_ray.artifact import Artifact
    from react_ray.recipe import Recipe

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

RecipeArgument = Annotated[str, typer.Argument(help="URI of a recipe (YAML)", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="section.field=value ...", metavar="[section.field=value ...]")
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="ask again those that failed in a way that may pass, and no other")
]
SkipCorrupt = Annotated[
    bool,
    typer.Option(
        "--skip-corrupt", help="a part whose file cannot be read gives rows of status `corrupt`; the manifest names it"
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
    """Load the recipe, look before starting, connect to Ray, run one verb for all arms, say what came of it.

    option: the verb's own, --retry-failed of download, --skip-corrupt of embed.
    """
    from react_ray.recipe import load_recipe
    from react_ray.runtime import preflight

    recipe = load_recipe(recipe_uri, overrides)
    preflight.begin(recipe, verb)
    preflight.require(recipe, verb)
    from react_ray.runtime.cluster import connected

    with connected(recipe.cluster):
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


def _run(verb: str, recipe: Recipe, option: bool) -> list[Artifact] | str:
    """Only the verb's own stage is imported: most of them need no torch in this process."""
    stage = importlib.import_module(f"react_ray.stages.{verb}")
    if verb == "download":
        return stage.run(recipe, option)
    if verb == "embed":
        return [stage.run(recipe, option)]
    if verb == "retrieve":
        return [stage.run(recipe, arm) for arm in recipe.arms_by_dependence()]
    outcome = stage.run(recipe)
    return outcome if isinstance(outcome, (list, str)) else [outcome]


def _fields(verb: str) -> str:
    """The fields of the verb's sections, with defaults and meanings, for --help."""
    from react_ray.recipe import Recipe

    return "\n".join(
        line for section in SECTIONS.get(verb, []) for line in _lines(section, Recipe.model_fields[section].annotation)
    )


def _lines(path: str, model: Any) -> list[str]:
    """One entry per field; below a section within a section, its fields."""
    from pydantic_core import PydanticUndefined

    from react_ray.section import Section

    lines = []
    for name, info in model.model_fields.items():
        default = "required" if info.default is PydanticUndefined else repr(info.default)
        lines.append(f"  {path}.{name} = {default}\n      {info.description}")
        if isinstance(info.default, Section):
            lines += _lines(f"{path}.{name}", info.annotation)
    return lines


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
    "ingest": "What people already have -> pairs/ and images/ of the database.",
    "download": "The images of a list of URLs -> images/.",
    "embed": "Vectors of images and captions by the frozen CLIP.",
    "index": "FAISS shards over the vectors.",
    "retrieve": "Class names x templates -> the pairs that matter for them.",
    "customize": "Train modular blocks on the frozen CLIP with what was retrieved.",
    "evaluate": "Zero-shot accuracy of the base and of every customised model.",
    "report": "The table and report.html of a finished run.",
    "run": "All of these, in this order; what is done is not done again.",
}.items():
    _add(_verb, _summary)


@app.command(
    "delete", help="Take pairs out of every search from now on: ids from a text file, one a line. Nothing is rebuilt."
)
def _delete(
    recipe_uri: RecipeArgument,
    ids: Annotated[str, typer.Argument(help="URI of a text file of pair_ids, one a line", metavar="IDS")],
    overrides: Overrides = None,
) -> None:
    from react_ray.index.deleted import delete_pairs, read_ids
    from react_ray.recipe import load_recipe

    database = load_recipe(recipe_uri, overrides).database
    typer.echo(f"{database}: {delete_pairs(database, read_ids(ids)):,} pairs are deleted")


@app.command("compact", help="The index and what was added to it as one again, without deleted pairs; the lists stay.")
def _compact(recipe_uri: RecipeArgument, overrides: Overrides = None) -> None:
    from react_ray.recipe import load_recipe
    from react_ray.runtime import preflight
    from react_ray.runtime.cluster import connected

    recipe = load_recipe(recipe_uri, overrides)
    preflight.require(recipe, "index")
    from react_ray.stages import index

    with connected(recipe.cluster):
        made = index.compact(recipe)
    typer.echo(f"{made.uri}: {made.manifest.rows} rows in {made.num_parts} parts, content {made.content}")


@app.command("stats", help="Statuses, hosts, sizes and rates of an artifact of images, finished or not.")
def _stats(
    uri: Annotated[str, typer.Argument(help="URI of the artifact, such as <database>/images", metavar="URI")],
) -> None:
    from react_ray.pairs.stats import stats

    typer.echo(stats(uri))


@app.command(
    "export",
    help="Images in img2dataset's layout (webdataset, parquet, files), embeddings in clip-retrieval's, or a customised model.",
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
            "--rows-per-shard", help="rows of each shard: 10,000 images, or 1,000,000 vectors", show_default=False
        ),
    ] = None,
    layout: Annotated[
        str, typer.Option("--layout", help="of a model: official (REACT's files) or open_clip")
    ] = "official",
    wise_ft: Annotated[float, typer.Option("--wise-ft", help="of a model: 1 = as trained, 0 = the backbone")] = 1.0,
    dtype: Annotated[str, typer.Option("--dtype", help="of a model: fp16 or fp32")] = "fp16",
) -> None:
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


@app.command("plan", help="Parameters and peak memory of every arm's training, on paper: nothing is started.")
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
def _root(version: Annotated[bool, typer.Option("--version", help="show the version")] = False) -> None:
    if version:
        typer.echo(f"react_ray {__version__}")
        raise typer.Exit()


def main(arguments: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) >= 2 and arguments[0] in SECTIONS and "--help" in arguments:
        app([arguments[0], "--help"], standalone_mode=False)
        typer.echo(f"Fields (write section.field=value):\n{_fields(arguments[0])}")
        return
    try:
        app(arguments, standalone_mode=True)
    except ReactRayError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted; what is done is kept, run the same command again to go on", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
