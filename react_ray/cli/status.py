"""status: what of a run is done, what comes next, and who is at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from react_ray.cli.app import Json, Overrides, answer, app

if TYPE_CHECKING:
    from react_ray.stages.status import Stage, Status

RECIPE = "recipe.yaml"  # the first file of a run


@app.command("status", help="Show what of a run is done, what comes next, and who is at work.")
def _status(
    uri: Annotated[str, typer.Argument(help="URI of a recipe (YAML) or of a run", metavar="RECIPE_OR_RUN")],
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    from react_ray.recipe import load_recipe
    from react_ray.stages.reporting.steps import evaluates_alone
    from react_ray.stages.status import status_of

    where = _recipe_uri(uri)
    recipe = load_recipe(where, overrides)
    verb = "evaluate" if evaluates_alone(recipe) else "run"
    found = status_of(recipe, " ".join(["react-ray", verb, where, *(overrides or [])]))
    answer(text(found), found.as_dict(), as_json)


def text(status: Status) -> str:
    same = f"{status.run.rstrip('/')}/database" == status.database
    lines = [f"{status.name}: {status.run}" + ("" if same else f", database {status.database}")]
    for stage in status.stages:
        lines.append(f"  {stage.verb:<10} {stage.state:<6} {_how_far(stage)}".rstrip())
        lines += [f"  {'':<17} {one.problem}" for one in stage.artifacts if one.problem]
    lines += [f"at work: {holder.text}" for holder in status.holders]
    if not status.next:
        lines.append("complete")
    elif not any(holder.lives is not False for holder in status.holders):
        lines.append(f"next: {status.next}")
    return "\n".join(lines)


def _recipe_uri(uri: str) -> str:
    """The recipe itself, or the one in the folder of a run. ArtifactMissing if the folder has none."""
    from react_ray.errors import ArtifactMissing
    from react_ray.storage import join, open_storage

    if uri.endswith((".yaml", ".yml")):
        return uri
    if not open_storage(uri).exists(RECIPE):
        raise ArtifactMissing(f"{uri}: no run here, since there is no {RECIPE}; name a recipe, or the `out` of one")
    return join(uri, RECIPE)


def _how_far(stage: Stage) -> str:
    """Of a stage with several artifacts, how many are done, and how far those are that have begun."""
    several = len(stage.artifacts) > 1
    done = sum(one.state == "done" for one in stage.artifacts)
    said = [f"{done} of {len(stage.artifacts)}"] if several and stage.state == "begun" else []
    for one in stage.artifacts:
        if one.state == "begun" and not one.problem:
            name = f"{one.uri.split('/')[-2]}: " if several else ""
            total = "?" if one.total is None else f"{one.total:,}"
            said.append(f"{name}{one.done:,} of {total} {one.unit}, since {one.since}")
    return "; ".join([*said, *([stage.note] if stage.note else [])])
