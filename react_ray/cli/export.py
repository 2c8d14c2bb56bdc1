"""export: images, embeddings or a model, for other tools."""

from __future__ import annotations

from typing import Annotated

import typer

from react_ray.cli.app import Json, answer, app, interruption
from react_ray.errors import ConfigError


@app.command(
    "export",
    help="Export images, embeddings or a model for other tools.",
)
def _export(
    what: Annotated[
        str,
        typer.Argument(help="webdataset, parquet, files, clip-retrieval, embedding-atlas, or model", metavar="WHAT"),
    ],
    uri: Annotated[
        str,
        typer.Argument(
            help="URI of the artifact: <database>/images, <database>/embeddings, <run>/retrieved (files: a folder for "
            "each class); for embedding-atlas <run>/retrieved or <database>; for a model the run",
            metavar="URI",
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(
            help="URI of a folder that is empty or new; a file for --layout official; none: list the run's models",
            metavar="OUT",
        ),
    ] = "",
    rows_per_shard: Annotated[
        int | None,
        typer.Option(
            "--rows-per-shard", help="rows per shard; default 10,000 images or 1,000,000 vectors", show_default=False
        ),
    ] = None,
    layout: Annotated[
        str, typer.Option("--layout", help="for a model: official (REACT's files) or open_clip")
    ] = "official",
    arm: Annotated[
        str,
        typer.Option("--arm", help="for a model: which one of a run with several arms; ARM+head for a second stage"),
    ] = "",
    wise_ft: Annotated[
        float | None,
        typer.Option(
            "--wise-ft",
            help="for a model: 1 = as trained, 0 = the backbone; default: the weight with which the run's table was "
            "scored",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="for a model: fp16 or fp32")] = "fp16",
    as_json: Json = False,
) -> None:
    interruption.hint = f"interrupted; the export is not complete: delete {out} and run the same command again"
    if what == "model" and not out:
        _list(uri, arm, wise_ft, as_json)
        return
    if not out:
        raise ConfigError(f"export {what} writes a folder; name it behind {uri}")
    said = _model(uri, out, layout, wise_ft, dtype, arm) if what == "model" else _rows(what, uri, out, rows_per_shard)
    answer(said, {"out": out, "said": said}, as_json)


def _list(uri: str, arm: str, wise_ft: float | None, as_json: bool) -> None:
    from react_ray.gated.trained import find_trained, trained_models

    found = [find_trained(uri, arm, wise_ft)] if arm else trained_models(uri, wise_ft)
    answer("\n".join(one.line() for one in found), [one.values() for one in found], as_json)


def _model(uri: str, out: str, layout: str, wise_ft: float | None, dtype: str, arm: str) -> str:
    """Exports a CLIP, a head, or both of a second stage, and says so."""
    from react_ray.gated.trained import find_trained

    found = None if uri.endswith(".safetensors") else find_trained(uri, arm, wise_ft)
    if found and found.head:
        from react_ray.training.run_head import export_head

        return export_head(found, out, layout, dtype)
    from react_ray.gated.export import export_model

    return export_model(uri, out, layout, wise_ft, dtype, arm)


def _rows(what: str, uri: str, out: str, rows_per_shard: int | None) -> str:
    """Exports images or vectors, and says so."""
    from react_ray.pairs.export import atlas
    from react_ray.pairs.export.images import export
    from react_ray.pairs.export.vectors import LAYOUT, export_vectors

    if what == LAYOUT:
        return export_vectors(uri, out, 1_000_000 if rows_per_shard is None else rows_per_shard)
    if what == atlas.LAYOUT:
        if rows_per_shard is not None:
            raise ConfigError(f"export: {what} is one file without shards; leave --rows-per-shard out")
        return atlas.export_atlas(uri, out)
    return export(what, uri, out, 10_000 if rows_per_shard is None else rows_per_shard)
