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


@app.command("compare", help="Score one model on labelled images, or compare several, without a recipe.")
def _compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="the base, then others: a run's folder or RUN/arms/ARM, a gated.safetensors, a folder of `export "
            "model --layout open_clip`, or an open_clip model with its weights, such as ViT-B-32,openai",
            metavar="MODEL ...",
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
    wise_ft: Annotated[
        str,
        typer.Option(
            "--wise-ft", help="score each model at these weights between the base (0) and as trained (1), as 0,0.5,1"
        ),
    ] = "",
    validation: Annotated[
        list[str] | None,
        typer.Option("--validation", help="a set on which the weight of --wise-ft is chosen; NAME=URI or URI"),
    ] = None,
    html: Annotated[str, typer.Option("--html", help="URI of a page to write, with the curve of --wise-ft")] = "",
    allow_missing: AllowMissing = False,
    batch_size: Annotated[int, typer.Option("--batch-size", help="images per forward pass", min=1)] = 256,
    as_json: Json = False,
) -> None:
    from react_ray.comparison import page
    from react_ray.comparison.compare import compare
    from react_ray.comparison.compared_model import compared_models
    from react_ray.comparison.labelled_set import OFF_TARGET, ON, VALIDATION, Classes, labelled_sets, named_values
    from react_ray.comparison.sentences import sentences
    from react_ray.comparison.text import caption, confused, notes, table, values
    from react_ray.comparison.wise_ft import curves, interpolations, told, weights_of
    from react_ray.errors import ConfigError
    from react_ray.report.table import aligned
    from react_ray.storage import open_storage
    from react_ray.uri import target

    interruption.hint = f"interrupted; {html or 'nothing'} was not written"
    if validation and not wise_ft:
        raise ConfigError("--validation is for choosing a weight; give the weights with --wise-ft 0,0.5,1")
    found, weights = compared_models(models), weights_of(wise_ft) if wise_ft else []
    targets, others = named_values(on or [], ON), named_values(off_target or [], OFF_TARGET)
    for_choice = named_values(validation or [], VALIDATION)
    names = [*targets, *others, *for_choice]
    said = Classes(
        named_values(classes or [], "--classes", names), named_values(task or [], "--task", names), template or []
    )
    sets = labelled_sets(targets, others, said, [model.name for model in found if model.is_of_run], for_choice)
    result = compare(interpolations(found, weights) if wise_ft else found, sets, batch_size, allow_missing)
    lines = curves(result, found, weights, sets) if wise_ft else []
    verdict = sentences(result, lines)
    below = [*map(told, lines), notes(result.differences, len(verdict))]
    head, rows = caption(result, sets), table(result, sets)
    mistakes = [] if wise_ft else confused(result, sets)
    if html:
        place, _, file = target(html, "--html").rpartition("/")
        open_storage(place or "/").write(file, page.render(verdict, [(head, rows), *mistakes], below, lines).encode())
    coloured = [typer.style(text, fg=COLOURS.get(kind)) for kind, text in verdict]
    first, *more = [f"{name}\n{aligned(cells)}" for name, cells in [(head, rows), *mistakes]]
    answer("\n".join([first, *coloured, *below, *more]).rstrip(), values(result, found, sets, lines), as_json)
