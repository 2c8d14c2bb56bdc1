"""doctor: whether this machine can do the work, and what to do where it cannot."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from react_ray.cli.app import Json, Overrides, answer, app, complete_recipe


@app.command("doctor", help="Look whether this machine, and what a recipe names, can do the work.")
def _doctor(
    recipe: Annotated[
        str,
        typer.Argument(help="URI of a recipe, of which also the places are checked", autocompletion=complete_recipe),
    ] = "",
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    from react_ray.recipe import load_recipe
    from react_ray.runtime.doctor import examine

    findings = []
    for finding in examine(load_recipe(recipe, overrides) if recipe else None):
        findings.append(finding)
        if not as_json:
            typer.echo(finding.line())
    problems = sum(finding.state == "problem" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    said = "everything is ready" if not problems + warnings else f"problems: {problems}, warnings: {warnings}"
    answer(said, {"findings": [asdict(finding) for finding in findings], "problems": problems}, as_json)
    if problems:
        raise typer.Exit(1)
