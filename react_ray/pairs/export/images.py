"""Exports an artifact of images as the files that img2dataset would have written, so that its readers can read them.

    webdataset   00000.tar with 000000000.jpg, .txt and .json of each image
    files        00000/ with the same files; of retrieved pairs, a folder for each class (class_folders.py)
    parquet      the image in the table, column `jpg`
    all three    00000.parquet with all rows, failed ones too, and 00000_stats.json

The metadata include the further columns of the URL list, as with img2dataset's --save_additional_columns. Shards have
`rows_per_shard` rows, whatever the parts of the artifact. One part is in memory at a time. Every file is written
atomically, and the stats of a shard last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pyarrow as pa

from react_ray.artifact import Artifact, open_artifact, plan_of
from react_ray.errors import ConfigError
from react_ray.kinds import IMAGES, RETRIEVED
from react_ray.pairs.export.class_folders import export_classes
from react_ray.pairs.export.layouts import LAYOUTS, META, Layout, Row, Shard
from react_ray.pairs.image_urls import check_images, extra_columns, with_urls
from react_ray.progress import Progress
from react_ray.schema import OK
from react_ray.storage import Storage, open_empty

COLUMNS = ["caption", "image", "width", "height", "original_width", "original_height", "sha256", "status", "error"]


def export(layout: str, uri: str, out: str, rows_per_shard: int = 10_000) -> str:
    """Writes all shards and returns a summary. Raises ConfigError for an unknown layout, or if `out` is not empty."""
    if layout not in LAYOUTS:
        raise ConfigError(
            f"export: no layout {layout!r}; name one of {', '.join(get_args(Layout))}, or clip-retrieval or "
            "embedding-atlas for embeddings"
        )
    if rows_per_shard < 1:
        raise ConfigError(f"export: {rows_per_shard} rows per shard; give at least 1")
    if plan_of(uri).get("kind") == RETRIEVED.name:
        if layout != "files":
            raise ConfigError(
                f"export: {uri} holds pairs by class, which are exported as files; name the images beside it for "
                f"{layout}"
            )
        return export_classes(uri, out)
    images = open_artifact(uri, IMAGES)
    check_images(images)
    storage = open_empty(out)
    return _write(images, storage, layout, rows_per_shard)


def _write(images: Artifact, storage: Storage, layout: str, rows_per_shard: int) -> str:
    num_rows = images.rows
    num_shards = -(-num_rows // rows_per_shard)
    suffix = str(images.manifest.config.get("encode_format", "jpg"))
    extra = [field for field in extra_columns(images) if field.name not in {*META.names, *COLUMNS, suffix}]
    rows = _rows(images, [field.name for field in extra])
    num_images = 0
    with Progress("export", num_shards, "rows", unit="shards") as progress:
        for number in range(num_shards):
            with Shard(storage, number, rows_per_shard, suffix, extra) as shard, LAYOUTS[layout](shard) as writer:
                for _ in range(min(rows_per_shard, num_rows - number * rows_per_shard)):
                    writer.write(next(rows))
            shard.write_stats()
            num_images += shard.successes
            progress.advance(rows=shard.count, ok=shard.successes)
    return f"{storage.uri}: {num_images} images of {num_rows} rows in {num_shards} shards of {layout}"


def _rows(images: Artifact, extra: list[str]) -> Iterator[Row]:
    for table in with_urls(images, COLUMNS, extra):
        for batch in table.to_batches(
            max_chunksize=256
        ):  # as Python objects, a whole part's images would be held twice
            for row in pa.Table.from_batches([batch]).to_pylist():
                known = {name: row[name] for name in ("url", *COLUMNS)}
                yield Row(**known, ok=row["status"] == OK, extra={name: row[name] for name in extra})
