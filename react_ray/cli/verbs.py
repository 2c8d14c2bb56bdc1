"""The verbs of a recipe, `react-ray VERB RECIPE [section.field=value ...]`: one grammar for all of them."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from react_ray.cli.app import Json, Overrides, RecipeArgument, answer, app, interruption, logger

if TYPE_CHECKING:
    from react_ray.recipe import Recipe

NOTHING_TO_DO = "nothing to do, it is finished already:"
From = Annotated[
    str, typer.Option("--from", metavar="STAGE", help="begin with this verb; what comes before it must be there")
]
Until = Annotated[str, typer.Option("--until", metavar="STAGE", help="end after this verb, to look at what there is")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="request again only the rows whose failure may pass")]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing",
        help="count images that cannot be decoded as wrong instead of refusing their set; scores.json has their share",
    ),
]
Elevater = Annotated[
    str,
    typer.Option(
        "--elevater",
        metavar="FOLDER",
        help="also write the probabilities, zero-shot and of evaluate.shots, as ELEVATER's toolkit submits them",
    ),
]
LmEval = Annotated[
    str,
    typer.Option(
        "--lm-eval", metavar="FOLDER", help="also write the scores as lm-evaluation-harness does, a file per model"
    ),
]
SkipCorrupt = Annotated[
    bool,
    typer.Option(
        "--skip-corrupt",
        help="keep a part whose file cannot be read as rows of status `corrupt`; the manifest names it",
    ),
]


def run_verb(
    verb: str, recipe_uri: str, overrides: list[str] | None, as_json: bool = False, option: bool = False
) -> None:
    """Load the recipe, check it before anything starts, run one verb for all arms, print the outcome.

    option: the verb's own option, which is --retry-failed of download or --skip-corrupt of embed.
    """
    from react_ray.progress import say
    from react_ray.recipe import load_recipe
    from react_ray.runtime import done, preflight

    recipe = load_recipe(recipe_uri, overrides)
    if not option and verb != "report" and (said := done.answer(recipe, verb)) is not None:
        say(NOTHING_TO_DO)
        _print(recipe, verb, said, as_json)
        return
    with writing(recipe, verb):
        preflight.begin(recipe, verb, [verb])
        with _ray(recipe) if verb != "report" else nullcontext(), done.remembering(recipe, verb) as remember:
            said = _run(verb, recipe, option)
            remember(said)
    _print(recipe, verb, said, as_json)


def _print(recipe: Recipe, verb: str, said: str, as_json: bool) -> None:
    from react_ray.runtime import done

    if verb == "evaluate" and not as_json:
        from react_ray.stages.evaluating.all_scores import tables_of

        said = f"{said}\n\n{tables_of(recipe)}".rstrip()
    answer(said, done.values(recipe, verb) if as_json else None, as_json)


def run_stages(
    recipe_uri: str,
    overrides: list[str] | None,
    as_json: bool = False,
    first: str = "",
    last: str = "",
    tells: bool = True,
) -> None:
    """As `run_verb`, of the stages from `first` to `last`; "" = from the start, to the end.

    tells: it prints what was made, and how to go on.
    """
    from react_ray.progress import say
    from react_ray.recipe import load_recipe
    from react_ray.runtime import done, preflight
    from react_ray.runtime.stage_order import answered, stages_of

    recipe = load_recipe(recipe_uri, overrides)
    stages = stages_of(recipe, first, last)
    if (said := answered(recipe, stages)) is not None:
        say(NOTHING_TO_DO)
        answer(said, done.values(recipe, stages[-1]) if as_json else None, as_json)
        return
    with writing(recipe, "run"):
        preflight.begin(recipe, "run", stages)
        with _ray(recipe):
            from react_ray.stages import run

            said = run.run(recipe, stages)
    if tells:
        answer(said, done.values(recipe, stages[-1]) if as_json else None, as_json)


def _ray(recipe: Recipe) -> AbstractContextManager[None]:
    from react_ray.runtime.cluster import on_demand

    return on_demand(recipe.cluster, verbose=logger.isEnabledFor(logging.INFO))


@contextmanager
def writing(recipe: Recipe, verb: str) -> Iterator[None]:
    """While a command writes: where an interrupted one goes on from, and the leases that tell a second one to wait."""
    from react_ray.lease import leases

    of_database = verb in ("run", "ingest", "download", "embed", "index", "compact")
    of_run = verb not in ("ingest", "embed", "index", "compact")
    interruption.resumes_from([recipe.database] * of_database + [recipe.out] * of_run)
    with leases(verb, [recipe.out, recipe.database], lambda line: interruption.stop(1, f"error: {line}")):
        yield


def _run(verb: str, recipe: Recipe, option: bool) -> str:
    """Imports only the stage of this verb: most stages need no torch in this process."""
    from react_ray.runtime.changes import RECIPE
    from react_ray.runtime.done import told
    from react_ray.storage import join

    stage = importlib.import_module(f"react_ray.stages.{verb}")
    if verb in ("download", "embed"):
        return told(stage.run(recipe, option))
    if verb == "retrieve":
        made = [stage.run(recipe, arm) for arm in recipe.arms_by_dependence()]
        served = f"on a page, also for other classes: react-ray serve {join(recipe.out, RECIPE)}"
        return f"{told(made)}\nlook at it: react-ray show {recipe.out}\n{served}"
    outcome = stage.run(recipe)
    return outcome if isinstance(outcome, str) else told(outcome)


def _download(
    recipe: RecipeArgument, overrides: Overrides = None, retry_failed: RetryFailed = False, as_json: Json = False
) -> None:
    run_verb("download", recipe, overrides, as_json, retry_failed)


def _embed(
    recipe: RecipeArgument, overrides: Overrides = None, skip_corrupt: SkipCorrupt = False, as_json: Json = False
) -> None:
    run_verb("embed", recipe, overrides, as_json, skip_corrupt)


def _evaluate(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    allow_missing: AllowMissing = False,
    elevater: Elevater = "",
    lm_eval: LmEval = "",
    as_json: Json = False,
) -> None:
    changes = [*(overrides or []), *(["evaluate.max_unreadable=1"] if allow_missing else [])]
    changes += ["evaluate.probabilities=true"] if elevater else []
    run_verb("evaluate", recipe, changes, as_json)
    if elevater or lm_eval:
        _write_results(recipe, changes, elevater, lm_eval)


def _write_results(recipe_uri: str, overrides: list[str], elevater: str, lm_eval: str) -> None:
    from react_ray.progress import say
    from react_ray.recipe import load_recipe
    from react_ray.stages.evaluating.elevater_files import write_elevater
    from react_ray.stages.evaluating.result_files import write_lm_eval

    recipe = load_recipe(recipe_uri, overrides)
    for write, folder in ((write_elevater, elevater), (write_lm_eval, lm_eval)):
        for uri in write(recipe, folder) if folder else ():
            say(f"wrote {uri}")


def _every_stage(
    recipe: RecipeArgument, overrides: Overrides = None, first: From = "", last: Until = "", as_json: Json = False
) -> None:
    run_stages(recipe, overrides, as_json, first, last)


def _plain(verb: str) -> Callable[..., None]:
    """A verb without options of its own."""

    def command(recipe: RecipeArgument, overrides: Overrides = None, as_json: Json = False) -> None:
        run_verb(verb, recipe, overrides, as_json)

    return command


WITH_OPTIONS: dict[str, Callable[..., None]] = {
    "download": _download,
    "embed": _embed,
    "evaluate": _evaluate,
    "run": _every_stage,
}
for _verb, _summary in {
    "ingest": "Read your files of pairs, URLs or vectors into the database.",
    "download": "Download the images of a URL list.",
    "embed": "Embed images and captions with the frozen CLIP.",
    "index": "Build FAISS shards over the vectors.",
    "retrieve": "Search for the class prompts and select the pairs that matter.",
    "customize": "Train gated blocks on the frozen CLIP with the retrieved pairs.",
    "evaluate": "Measure the zero-shot accuracy of base and customised models.",
    "report": "Write report.html and the table of a run, from whatever exists.",
    "run": "Run all of these in order; finished work is not repeated.",
}.items():
    app.command(_verb, help=_summary)(WITH_OPTIONS.get(_verb) or _plain(_verb))
