"""show: describe what lies at a URI, and write the gallery of what was retrieved."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from react_ray.cli.app import Json, Overrides, app


@app.command("show", help="Describe an artifact, a database or a run, and write the gallery of what was retrieved.")
def _show(
    uri: Annotated[
        str, typer.Argument(help="URI of an artifact, a database, a run, an arm of it, or a recipe", metavar="URI")
    ],
    overrides: Overrides = None,
    as_json: Json = False,
    arm: Annotated[str, typer.Option("--arm", help="the arm whose retrieved pairs the gallery shows")] = "",
    out: Annotated[
        str,
        typer.Option(
            "--out", help="URI of the gallery; default gallery.html beside the retrieved pairs, with --json none"
        ),
    ] = "",
    rows: Annotated[int, typer.Option("--rows", help="first rows to show", min=0, max=1000)] = 3,
) -> None:
    from react_ray.errors import ConfigError
    from react_ray.redact import redact
    from react_ray.stages.show import show, write_gallery

    found = show(uri, overrides, arm, rows)
    if out and not found.root:
        raise ConfigError(f"--out {out}: {uri} has no retrieved pairs to make a gallery of; leave it out")
    if as_json:
        written = write_gallery(found.root, out) if out else ""
        typer.echo(redact(json.dumps(found.json(), indent=1, ensure_ascii=False)))
        typer.echo(written, err=True, nl=bool(written))
    else:
        typer.echo(redact(found.text()))
        if found.root:
            typer.echo(write_gallery(found.root, out))
        typer.echo("\n".join(found.hints), nl=bool(found.hints))
    if found.problems:
        raise typer.Exit(1)
