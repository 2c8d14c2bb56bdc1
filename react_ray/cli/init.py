"""init: the first recipe of a task, from a few questions or flags."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer

from react_ray.cli.app import app
from react_ray.counted import counted

MOST_THREADS = 16  # of one training; more do not help models of this size


@app.command("init", help="Write a commented recipe, from a few questions or flags.")
def _init(
    file: Annotated[str, typer.Argument(help="the recipe to write", metavar="[FILE]")] = "recipe.yaml",
    source: Annotated[str, typer.Option("--source", help="URI of pairs: a file, a folder or a glob")] = "",
    classes: Annotated[
        str,
        typer.Option("--classes", help="'heron, great egret|white heron, ibis', or a .txt with one class a line"),
    ] = "",
    model: Annotated[str, typer.Option("--model", help="name of the backbone; default by this machine")] = "",
    pretrained: Annotated[str, typer.Option("--pretrained", help="its weights: a tag or a file")] = "",
    test: Annotated[str, typer.Option("--test", help="URI of labelled images, if there are any")] = "",
    out: Annotated[str, typer.Option("--out", help="URI of the run; default runs/NAME")] = "",
    demo: Annotated[bool, typer.Option("--demo", help="a first try on the drawings of the package")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="ask nothing, take the defaults")] = False,
    force: Annotated[bool, typer.Option("--force", help="write over a file that is there")] = False,
) -> None:
    from react_ray.errors import ConfigError
    from react_ray.first_recipe import (
        DEMO_CLASSES,
        DEMO_K,
        DEMO_MODEL,
        DEMO_SOURCE,
        DEMO_TEMPLATES,
        FirstRecipe,
        look,
        parse_classes,
    )
    from react_ray.storage import open_storage
    from react_ray.uri import target

    folder, _, name = target(file, "the recipe").rpartition("/")
    storage = open_storage(folder or "/")
    if storage.exists(name) and not force:
        raise ConfigError(f"{file} is there already; name another file, or write over it with --force")
    asks = sys.stdin.isatty() and not yes and not demo
    if demo:
        source, classes = source or DEMO_SOURCE, classes or ", ".join(DEMO_CLASSES)
        (model, pretrained) = (model, pretrained) if model else DEMO_MODEL
    seen = look(source or _needed(asks, "Pairs of images and captions (a file, folder, glob or s3://)", "--source"))
    typer.echo(f"{seen.source}: {seen.said}")
    classes = classes or _needed(asks, "Classes (commas between, | between synonyms, or a .txt)", "--classes")
    listed, classes_file = parse_classes(classes)
    on_gpu = Path("/dev/nvidia0").exists()
    wanted = _model(model, pretrained, on_gpu)
    if asks and not model:
        name_of_model, _, tag = typer.prompt("CLIP, as name/tag of open_clip", "/".join(wanted)).partition("/")
        wanted = _model(name_of_model, tag, on_gpu)
    if asks and not test:
        test = typer.prompt(
            "Labelled images for scores (Parquet, or class folders; empty = none)", "", show_default=False
        )
    out = out or f"runs/{PurePosixPath(file).stem}"
    of_demo: dict[str, Any] = {"keys": ("text",), "templates": DEMO_TEMPLATES, "k": DEMO_K} if demo else {}
    first = FirstRecipe(
        file,
        seen,
        listed,
        wanted,
        typer.prompt("Where the run goes", out) if asks else out,
        classes_file,
        test,
        on_gpu,
        min(len(os.sched_getaffinity(0)), MOST_THREADS),
        **of_demo,
    )
    num_classes = _check(first.text(), name, test)
    storage.write(name, first.text().encode())
    typer.echo(f"{file}: a recipe of {counted(num_classes, 'class', 'classes')}. Next:")
    if num_classes == 1:
        typer.echo("  add the classes that it has to be told apart from: with one class every image is of it")
    before = first.before_training
    typer.echo(f"  react-ray run {file} --until {before}    # then look at the pairs: react-ray show {first.out}")
    typer.echo(f"  react-ray run {file}                     # goes on to the model and the report")


def _needed(asks: bool, question: str, flag: str) -> str:
    from react_ray.errors import ConfigError

    if asks:
        return typer.prompt(question)
    raise ConfigError(f"init needs {flag} where it cannot ask; add it, or try `react-ray init --demo`")


def _model(name: str, pretrained: str, on_gpu: bool) -> tuple[str, str]:
    """(name, weights): what was asked for, or what suits the machine."""
    from react_ray.first_recipe import MODEL_OF_CPU, MODEL_OF_GPU

    if name:
        return name, pretrained or ("openai" if name.startswith("ViT-") else "")
    suggested, tag = MODEL_OF_GPU if on_gpu else MODEL_OF_CPU
    return suggested, pretrained or tag


def _check(text: str, name: str, test: str) -> int:
    """Loads the recipe as `run` will, before it is written; returns the number of classes."""
    from react_ray.clip.prompts import load_tasks
    from react_ray.evals.labelled import check_set
    from react_ray.recipe import load_recipe

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_text(text, encoding="utf-8")
        recipe = load_recipe(f"{folder}/{name}")
    tasks = load_tasks(recipe.tasks)
    if test:
        check_set("test", test, tasks)
    return sum(len(task.class_names) for task in tasks)
