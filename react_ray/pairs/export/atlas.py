"""Exports pairs with their vectors as the table that Embedding Atlas 0.26 opens and draws as a map.

    pairs.parquet   pair_id, url, caption, the source's further columns
                    class_name, matched_classes, score        of <run>/retrieved
                    similarity, head scores                   of a database
                    image                                     as Hugging Face has it: struct of bytes and path
                    vector                                    list of float32

All vectors are of one side of the pairs, since those of images and of captions lie apart in CLIP's space. The tool
takes no nulls among vectors, so a pair without one is left out and counted. The file appears atomically when complete.
One part is in memory at a time, and BATCH_ROWS rows of it are converted at a time.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from react_ray.artifact import Artifact, held_below, open_artifact, plan_of
from react_ray.errors import ArtifactCorrupt, ConfigError
from react_ray.kinds import EMBEDDINGS, IMAGES, PAIRS, RETRIEVED
from react_ray.pairs.export.vectors import embedded_keys
from react_ray.pairs.image_kind import kind_of
from react_ray.pairs.retrieval import NOT_THERE, class_labels, has_artifact, open_retrieval
from react_ray.progress import Progress
from react_ray.schema import OK
from react_ray.storage import join, open_empty, open_storage
from react_ray.vectors import from_vectors

LAYOUT = "embedding-atlas"
FILE = "pairs.parquet"
STATUS = "status of the image"  # a column of the join, which is not written
RETRIEVAL = ("class_id", "score", "matches", "text_embedding")  # columns of `retrieved` that `pairs` lack
BATCH_ROWS = 1024  # 2 MB of vectors of 512 dimensions, and the images beside them
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
VECTOR = pa.list_(pa.float32())


@dataclass(frozen=True)
class _Source:
    """What is exported: its rows, part by part, and where their images are."""

    uri: str
    tables: Iterator[pa.Table]  # pair_id, url, caption, further columns, and `vector` as it is stored
    num_parts: int
    num_pairs: int
    images: Artifact | None
    side: str  # of the pairs, which the vectors are of
    remedy: str  # what to do if there is none


def export_atlas(uri: str, out: str) -> str:
    """uri: of `<run>/retrieved` or a database. Writes the table and returns a summary that counts what is left out.

    Raises ConfigError for another artifact, for pairs of which none has a vector, or if `out` is not empty;
    ArtifactMissing if there are no pairs, or if their images are not complete.
    """
    kind = plan_of(uri).get("kind")
    if kind not in (None, RETRIEVED.name):
        raise ConfigError(f"export: {uri} holds {kind}; name <run>/retrieved or the database for {LAYOUT}")
    source = _retrieved(uri) if kind or RETRIEVED.name in held_below(open_storage(uri)) else _database(uri)
    return _write(source, out)


def _retrieved(uri: str) -> _Source:
    retrieved = open_artifact(uri, RETRIEVED)
    root, _, _ = retrieved.uri.rpartition("/")
    labels = class_labels(open_retrieval(root).classes())
    return _Source(
        retrieved.uri,
        (_with_classes(table, labels) for table in retrieved.tables()),
        retrieved.num_parts,
        retrieved.rows,
        _images(root),
        "captions",
        "name the database instead of the retrieved pairs",
    )


def _database(uri: str) -> _Source:
    embeddings = open_artifact(join(uri, EMBEDDINGS.name), EMBEDDINGS)
    root, _, _ = embeddings.uri.rpartition("/")
    pairs = open_artifact(join(root, PAIRS.name), PAIRS)
    key = embedded_keys(embeddings)[0]
    return _Source(
        root,
        (_with_vectors(pairs.read(part), embeddings.read(part), key) for part in range(embeddings.num_parts)),
        embeddings.num_parts,
        pairs.rows,
        _images(root),
        {"image": "images", "text": "captions"}[key],
        f"see `react-ray show {embeddings.uri}` for their statuses, and run `react-ray embed RECIPE` again",
    )


def _images(root: str) -> Artifact | None:
    uri = join(root, IMAGES.name)
    return open_artifact(uri, IMAGES) if has_artifact(uri) else None


def _with_vectors(pairs: pa.Table, embeddings: pa.Table, key: str) -> pa.Table:
    """Joins the pairs of a part with their similarity, the scores of heads and the vectors of one side."""
    assert pairs["pair_id"].equals(embeddings["pair_id"]), "rows are not where their ids say"
    scores = [name for name in embeddings.column_names if name not in ("pair_id", "image", "text", "status")]
    return _joined(pairs, {name: embeddings[name] for name in scores} | {"vector": embeddings[key]})


def _with_classes(retrieved: pa.Table, labels: dict[int, str]) -> pa.Table:
    """Names the class that each pair was selected for, and all classes whose queries found it, the best match first."""
    numbers, names = pa.array(labels, pa.int32()), pa.array(labels.values(), pa.string())
    matched = retrieved["matches"].combine_chunks()
    found = pc.struct_field(pc.list_flatten(matched), "class_id")
    row, class_id = pc.list_parent_indices(matched).to_numpy().astype(np.int64), found.to_numpy().astype(np.int64)
    first = np.sort(np.unique(np.stack([row, class_id]), axis=1, return_index=True)[1])
    ends = np.cumsum(np.bincount(row[first], minlength=len(retrieved)))
    of_matches = names.take(pc.index_in(pa.array(class_id[first], pa.int32()), numbers))
    lists = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), of_matches)
    pairs = retrieved.select([name for name in retrieved.column_names if name not in RETRIEVAL])
    return _joined(
        pairs,
        {
            "class_name": names.take(pc.index_in(retrieved["class_id"], numbers)),
            "matched_classes": lists,
            "score": retrieved["score"],
            "vector": retrieved["text_embedding"],
        },
    )


def _joined(pairs: pa.Table, columns: dict[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """Appends the columns; a column of the source that has one of their names is called `source_NAME`."""
    taken = {*columns, "image", *pairs.column_names}
    renamed = []
    for name in pairs.column_names:
        if name in (*columns, "image", STATUS):
            while name in taken:
                name = f"source_{name}"
            taken.add(name)
        renamed.append(name)
    pairs = pairs.rename_columns(renamed)
    for name, column in columns.items():
        pairs = pairs.append_column(name, column)
    return pairs


def _write(source: _Source, out: str) -> str:
    storage = open_empty(out)
    num_rows = 0
    without_image: Counter[str] = Counter()
    with ExitStack() as opened, Progress("export", source.num_parts, "pairs") as progress:
        writer: pq.ParquetWriter | None = None
        for part, pairs in enumerate(source.tables):
            table = _with_images(pairs, source.images, part) if source.images else pairs
            before = num_rows
            for batch in table.to_batches(max_chunksize=BATCH_ROWS):
                whole = batch.filter(pc.is_valid(batch["vector"]))
                if not whole.num_rows:
                    continue
                converted = _converted(whole, without_image)
                if writer is None:
                    file = opened.enter_context(storage.writing(FILE))
                    writer = opened.enter_context(pq.ParquetWriter(file, converted.schema, compression="zstd"))
                writer.write_batch(converted)
                num_rows += whole.num_rows
            progress.advance(rows=pairs.num_rows, ok=num_rows - before)
    if not num_rows:
        raise ConfigError(f"export: {source.uri}: no pair has a vector of its {source.side}; {source.remedy}")
    return _summary(f"{storage.uri}/{FILE}", source, num_rows, without_image)


def _with_images(pairs: pa.Table, images: Artifact, part: int) -> pa.Table:
    """Joins the images of a part; a part that was ingested after the images were stored has none."""
    if part >= images.num_parts:
        nothing = pa.nulls(len(pairs), pa.binary())
        return pairs.append_column("image", nothing).append_column(STATUS, pa.array([NOT_THERE] * len(pairs)))
    stored = images.read(part, ["pair_id", "image", "status"])
    if not stored["pair_id"].equals(pairs["pair_id"]):
        raise ArtifactCorrupt(
            f"{images.uri} has other pairs than those beside it in part {part}; delete the images there, run the stage "
            "again"
        )
    return pairs.append_column("image", stored["image"]).append_column(STATUS, stored["status"])


def _converted(batch: pa.RecordBatch, without_image: Counter[str]) -> pa.RecordBatch:
    """Returns the rows as the tool reads them, and counts the status of each image that is not there."""
    vector_ND = from_vectors(batch["vector"]).astype(np.float32)
    ends = pa.array(np.arange(len(vector_ND) + 1) * vector_ND.shape[1], pa.int32())
    columns = {name: batch[name] for name in batch.schema.names if name not in ("image", STATUS, "vector")}
    if STATUS in batch.schema.names:
        images: list[dict[str, Any] | None] = []
        rows = zip(*(batch[name].to_pylist() for name in ("pair_id", "image", STATUS)), strict=True)
        for pair_id, image, status in rows:
            if status == OK and image:
                images.append({"bytes": image, "path": f"{pair_id}.{kind_of(image) or 'bin'}"})
            else:
                images.append(None)
                without_image[status] += 1
        columns["image"] = pa.array(images, IMAGE)
    columns["vector"] = pa.ListArray.from_arrays(ends, pa.array(vector_ND.ravel()))
    return pa.RecordBatch.from_pydict(columns)


def _summary(uri: str, source: _Source, num_rows: int, without_image: Counter[str]) -> str:
    line = f"{uri}: {num_rows:,} pairs with the vectors of their {source.side}"
    line += f"; {left_out:,} without such a vector left out" if (left_out := source.num_pairs - num_rows) else ""
    if source.images is None:
        line += "; no images are stored beside them"
    elif without_image:
        reasons = ", ".join(f"{status} {count:,}" for status, count in without_image.most_common())
        line += f"; {without_image.total():,} pairs have no image ({reasons})"
    options = "--text caption --vector vector" + (" --image image" if source.images else "")
    return f"{line}\nembedding-atlas {shlex.quote(uri)} {options}"
