"""compare: models on labelled sets, without a recipe and without Ray."""

from __future__ import annotations

from typing import Annotated

import typer

from react_ray.cli.app import Json, answer, app, interruption

AllowMissing = Annotated[
    bool,
    typer.Option("--allow-missing", help="count images that cannot be decoded as wrong instead of refusing their set"),
]
COLOURS = {"gain": typer.colors.GREEN, "loss": typer.colors.RED}


@app.command("compare", help="Compare models on labelled images, without a recipe.")
def _compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="the base, then others: a run's folder or RUN/arms/ARM, a gated.safetensors, a folder of `export "
            "model --layout open_clip`, or an open_clip model with its weights, such as ViT-B-32,openai",
            metavar="MODEL MODEL ...",
        ),
    ],
    on: Annotated[
        list[str] | None, typer.Option("--on", help="a labelled set, as evaluate.datasets has it; NAME=URI or URI")
    ] = None,
    off_target: Annotated[
        list[str] | None,
        typer.Option("--off-target", help="a set of other classes, which shows what a model forgot; NAME=URI or URI"),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--classes",
            help="classes of all sets, or NAME=FILE of one: .txt with one class per line, or JSON as tasks.file; "
            "default: those of the run, or of the set's folders",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="a built-in task (imagenet, food-101, ...) of all sets, or NAME=TASK of one"),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option("--template", help="prompt template for class names, such as 'a drawing of a {}.'; may repeat"),
    ] = None,
    allow_missing: AllowMissing = False,
    batch_size: Annotated[int, typer.Option("--batch-size", help="images per forward pass", min=1)] = 256,
    as_json: Json = False,
) -> None:
    from react_ray.comparison.compare import compare
    from react_ray.comparison.compared_model import compared_models
    from react_ray.comparison.labelled_set import OFF_TARGET, ON, Classes, labelled_sets, named_values
    from react_ray.comparison.sentences import sentences
    from react_ray.comparison.text import notes, table, values

    interruption.hint = "interrupted; nothing was written"
    found = compared_models(models)
    targets, others = named_values(on or [], ON), named_values(off_target or [], OFF_TARGET)
    names = [*targets, *others]
    said = Classes(
        named_values(classes or [], "--classes", names), named_values(task or [], "--task", names), template or []
    )
    runs = [model.name for model in found if model.is_of_run]
    sets = labelled_sets(targets, others, said, runs)
    result = compare(found, sets, batch_size, allow_missing)
    lines = [typer.style(text, fg=COLOURS.get(kind)) for kind, text in sentences(result)]
    answer("\n".join([table(result, sets), *lines, notes(result)]), values(result, found, sets), as_json)
