"""help: what the sections and fields of a recipe mean."""

from __future__ import annotations

from typing import Annotated

import typer

from react_ray.cli.app import app, complete_help


@app.command("help", help="Explain a section or a field of a recipe.")
def _help(
    word: Annotated[
        str,
        typer.Argument(help="a section or a field", metavar="[SECTION|FIELD]", autocompletion=complete_help),
    ] = "",
) -> None:
    from react_ray.field_help import help_of, overview

    typer.echo(help_of(word) if word else overview())
