"""search: the pairs of a database that are nearest to a sentence or an image, in the terminal, without Ray."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from react_ray.cli.app import Json, Overrides, answer, app

if TYPE_CHECKING:
    from react_ray.search.database import Hit, OpenDatabase

WIDTH = 160  # columns where nobody's terminal says how wide it is


@app.command("search", help="Show the pairs that are nearest to a sentence or an image.")
def _search(
    uri: Annotated[
        str, typer.Argument(help="URI of a recipe (YAML), a database or a run", metavar="RECIPE_OR_DATABASE")
    ],
    text: Annotated[str | None, typer.Argument(help="what to search for, in quotes", metavar="[TEXT]")] = None,
    overrides: Overrides = None,
    image: Annotated[str, typer.Option("--image", help="URI of an image to search for, instead of a text")] = "",
    k: Annotated[int, typer.Option("-k", help="number of pairs", min=1)] = 10,
    key: Annotated[
        str, typer.Option("--key", help="image, text (captions) or both; default: the first of the recipe, or text")
    ] = "",
    save: Annotated[str, typer.Option("--save", help="URI of a new folder for the images that were found")] = "",
    as_json: Json = False,
) -> None:
    # One sentence is a chain of small products, for which threads of BLAS cost more than they give.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from react_ray.errors import ConfigError
    from react_ray.search.open_database import open_database
    from react_ray.storage import read_bytes

    if image and text and "=" in text:  # the first override stands where a text would
        overrides, text = [text, *(overrides or [])], None
    if bool(text) == bool(image):
        raise ConfigError('name one thing to search for: a text in quotes, such as "a heron by the water", or --image')
    query: Any = text or read_bytes(image)
    database = open_database(uri, overrides=overrides)
    hits = database.search(query, k, key)
    saved = save_images(database, hits, save) if save else []
    answer(
        f"{table(database, text or image, hits)}{''.join(f'{chr(10)}{line}' for line in saved)}",
        {"database": database.uri, "query": text or image, "hits": [hit.as_dict() for hit in hits]},
        as_json,
    )


def table(database: OpenDatabase, query: str, hits: list[Hit]) -> str:
    """The hits as a table that is as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    several = len({hit.key for hit in hits}) > 1
    for name in ["score", "z"] + (["key"] if several else []):
        shown.add_column(name, justify="right")
    shown.add_column("caption", ratio=2, overflow="fold")
    shown.add_column("pair_id", justify="right", no_wrap=True)
    has_url = any(hit.url for hit in hits)
    if has_url:
        shown.add_column("url", ratio=1, overflow="fold")
    for hit in hits:
        z = "" if hit.z is None else f"{hit.z:.1f}"
        cells = [f"{hit.score:.3f}", z, *([hit.key] if several else []), _plain(hit.caption), str(hit.pair_id)]
        shown.add_row(*map(Text, [*cells, *([_plain(hit.url)] if has_url else [])]))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    with console.capture() as captured:
        console.print(shown)
    keys = " and ".join(dict.fromkeys(hit.key for hit in hits)) or "no"
    head = f"{query!r} in {database.embeddings.rows:,} pairs of {database.uri}, {keys} keys"
    foot = "z: standard deviations above the mean score of the database's pairs" if hits else "nothing was found"
    return f"{head}\n{captured.get().rstrip()}\n{foot}"


def save_images(database: OpenDatabase, hits: list[Hit], uri: str) -> list[str]:
    """Writes the images of the hits as RANK_PAIR-ID.SUFFIX into a folder that is empty or new; returns what to say."""
    from react_ray.pairs.image_kind import kind_of
    from react_ray.storage import open_empty

    images = database.images([hit.pair_id for hit in hits])
    storage = open_empty(uri)
    count = 0
    for rank, (hit, data) in enumerate(zip(hits, images, strict=True), 1):
        if data:
            storage.write(f"{rank:03d}_{hit.pair_id}.{kind_of(data) or 'bin'}", data)
            count += 1
    without = f", {len(hits) - count} of the pairs have none" if count < len(hits) else ""
    return [f"{count} images are in {storage.uri}{without}"]


def _plain(text: str | None) -> str:
    """A caption is a stranger's text: what would move the cursor or change colours is left out."""
    return " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
