"""export: images, embeddings or a model, for other tools."""

from __future__ import annotations

from typing import Annotated

import typer

from react_ray.cli.app import app, interruption


@app.command(
    "export",
    help="Export images, embeddings or a model for other tools.",
)
def _export(
    what: Annotated[str, typer.Argument(help="webdataset, parquet, files, clip-retrieval, or model", metavar="WHAT")],
    uri: Annotated[
        str,
        typer.Argument(
            help="URI of the artifact: <database>/images, <database>/embeddings, <run>/model", metavar="URI"
        ),
    ],
    out: Annotated[
        str, typer.Argument(help="URI of a folder that is empty or new; a file for --layout official", metavar="OUT")
    ],
    rows_per_shard: Annotated[
        int | None,
        typer.Option(
            "--rows-per-shard", help="rows per shard; default 10,000 images or 1,000,000 vectors", show_default=False
        ),
    ] = None,
    layout: Annotated[
        str, typer.Option("--layout", help="for a model: official (REACT's files) or open_clip")
    ] = "official",
    wise_ft: Annotated[float, typer.Option("--wise-ft", help="for a model: 1 = as trained, 0 = the backbone")] = 1.0,
    dtype: Annotated[str, typer.Option("--dtype", help="for a model: fp16 or fp32")] = "fp16",
) -> None:
    interruption.hint = f"interrupted; the export is not complete: delete {out} and run the same command again"
    if what == "model":
        from react_ray.gated.export import export_model

        typer.echo(export_model(uri, out, layout, wise_ft, dtype))
        return
    from react_ray.pairs.export.images import export
    from react_ray.pairs.export.vectors import LAYOUT, export_vectors

    if what == LAYOUT:
        typer.echo(export_vectors(uri, out, 1_000_000 if rows_per_shard is None else rows_per_shard))
        return
    typer.echo(export(what, uri, out, 10_000 if rows_per_shard is None else rows_per_shard))
