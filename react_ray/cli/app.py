"""The command line's application: what every command shares, and how a command ends.

Each other file of this package adds one command, or one group of them, to `app`; `commands` in __init__.py lists them.
"""

from __future__ import annotations

import glob
import json
import logging
import os
import sys
from functools import partial
from typing import Annotated, Any

import typer

from react_ray import __version__
from react_ray.ending import exit_code, log_to_stderr
from react_ray.field_help import ALL, TOP, all_fields, fields_help
from react_ray.interrupt import Interruption
from react_ray.runtime.ray_token import use_token

logger = logging.getLogger("react_ray")
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="The fields of a recipe: react-ray help.",
)
interruption = Interruption()

VERBOSE = "--verbose"  # may stand anywhere on the command line


def complete_recipe(incomplete: str) -> list[str]:
    """Folders and YAML files, for the shell."""
    found = sorted(glob.glob(f"{glob.escape(incomplete)}*"))
    return [f"{path}/" if os.path.isdir(path) else path for path in found if _may_be_recipe(path)]


def complete_field(incomplete: str) -> list[str]:
    """`section.field=` for the shell."""
    return [f"{path}=" for path, _ in all_fields() if path.startswith(incomplete)]


def complete_help(incomplete: str) -> list[str]:
    """Sections and fields, for the shell."""
    paths = [path for path, _ in all_fields()]
    sections = dict.fromkeys(path.partition(".")[0] for path in paths)
    return [word for word in [*sections, *paths] if word.startswith(incomplete)]


RecipeArgument = Annotated[
    str, typer.Argument(help="URI of a recipe (YAML)", metavar="RECIPE", autocompletion=complete_recipe)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="section.field=value ...", metavar="[section.field=value ...]", autocompletion=complete_field),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON value instead of text")]

SECTIONS = {
    "ingest": ["ingest"],
    "download": ["download"],
    "embed": ["backbone", "embed"],
    "index": ["index"],
    "retrieve": ["tasks", "retrieve"],
    "customize": ["customize"],
    "evaluate": ["tasks", "evaluate"],
    "report": [],
    "serve": ["serve"],
}


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


def answer(text: str, value: Any, as_json: bool) -> None:
    """Prints what a command found: for people, or with --json as one JSON value for programs."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False) if as_json else text)


def main(arguments: list[str] | None = None) -> None:
    """Runs one command. Whatever is raised ends as one line, and a signal as a hint how to go on."""
    with interruption:
        code = exit_code(partial(_command, sys.argv[1:] if arguments is None else arguments), interruption)
    if code:
        sys.exit(code)


def _may_be_recipe(path: str) -> bool:
    return os.path.isdir(path) or path.endswith((".yaml", ".yml"))


def _command(arguments: list[str]) -> None:
    log_to_stderr()
    use_token()
    # OpenMP's threads spin while they wait for each other. Where other programs use the cores too (2 cores, load 14), a
    # training step of 2 threads took 1.9 CPU-seconds like that, and 0.25 without. Workers of a local Ray inherit it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if VERBOSE in arguments:
        arguments = [argument for argument in arguments if argument != VERBOSE]
        logger.setLevel(logging.INFO)
    if len(arguments) >= 2 and arguments[0] in SECTIONS and "--help" in arguments:
        app([arguments[0], "--help"], standalone_mode=False)
        typer.echo(f"Fields (write section.field=value):\n\n{fields_help([*SECTIONS[arguments[0]], TOP, 'cluster'])}")
        return
    if len(arguments) >= 2 and arguments[0] == "run" and "--help" in arguments:
        app(["run", "--help"], standalone_mode=False)
        typer.echo(f"Fields (write section.field=value):\n\n{fields_help([ALL])}")
        return
    app(arguments, standalone_mode=True)
