"""The rows of a training: the retrieved pairs, or a whole corpus (for pre-training)."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from react_ray import schema
from react_ray.artifact import Artifact
from react_ray.errors import ConfigError
from react_ray.kinds import RetrievedFacts
from react_ray.pairs.ingest_config import IngestConfig
from react_ray.pairs.source import Source, open_source, to_images, to_pairs
from react_ray.parquet import GROUP_BYTES
from react_ray.selection.soft_classes import soft_classes
from react_ray.stages.retrieval.gather_pairs import trainable

REQUESTS = 16  # at once, to plan the blocks
ROWS_PER_CHUNK = 64  # of files whose rows can be cut anywhere: 2 MB of images of 30 kB


class RetrievedRows:
    """Retrieved pairs whose image was fetched. `left_out` says how many others there are, "" = none.

    A block is a row group of the images, and the rows of `retrieved` that belong to them.
    needs_vectors: only pairs whose caption has a stored vector, so that the text tower need not run; else any caption.
    needs_classes: rows have a column `matched`, the weights of all classes that the pair matched.
    """

    def __init__(
        self,
        retrieved: Artifact[RetrievedFacts],
        images: Artifact,
        needs_vectors: bool = True,
        needs_classes: bool = False,
    ) -> None:
        self.retrieved, self.images, self.needs_classes = retrieved, images, needs_classes
        self._needed = "text_embedding" if needs_vectors else "caption"
        with ThreadPoolExecutor(REQUESTS) as pool:
            groups = [group for part in pool.map(self._groups, range(images.num_parts)) for group in part]
        self._spans = [span for span, _, _ in groups]
        self.block_sizes, self.block_bytes = [size for _, size, _ in groups], [size for _, _, size in groups]
        others = retrieved.rows - sum(self.block_sizes)
        lacks = "vector of their caption" if needs_vectors else "caption"
        self.left_out = (
            f"{others:,} of {retrieved.rows:,} retrieved pairs do not train: no image, or no {lacks}" if others else ""
        )

    def _groups(self, part: int) -> list[tuple[tuple[int, int, int], int, int]]:
        """Of each row group: (part, first row, number of rows), how many of these train, bytes of the images."""
        footer = self.images.footer(part)
        groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
        ends = list(accumulate(group.num_rows for group in groups))
        spans = [(part, end - group.num_rows, group.num_rows) for group, end in zip(groups, ends, strict=True)]
        return list(zip(spans, self._train(part, spans), map(_image_bytes, groups), strict=True))

    def _train(self, part: int, spans: list[tuple[int, int, int]]) -> list[int]:
        """The numbers of rows that train. The receipt does not know them if images were downloaded after retrieval."""
        facts = self.retrieved.receipt(part).facts
        known = facts.get("trainable_by_group", [facts["trainable"]] if "trainable" in facts else [])
        if self._needed == "text_embedding" and len(known) == len(spans):
            return list(known)
        images, rows = self.images.read(part, ["status"]), self.retrieved.read(part, [self._needed])
        usable = trainable(images, rows, self._needed)
        return [pc.sum(usable.slice(start, count)).as_py() or 0 for _, start, count in spans]

    def read(self, block: int) -> pa.Table:
        names = ["pair_id", "caption", "class_id", self._needed, *["matches"] * self.needs_classes]
        images = self.images.read_rows(*self._spans[block], ["image", "status"])
        rows = self.retrieved.read_rows(*self._spans[block], list(dict.fromkeys(names)))
        if self.needs_classes:
            matched = soft_classes(rows["class_id"], rows["matches"])
            rows = rows.drop_columns("matches").append_column("matched", matched)
        table = rows.append_column("image", images["image"]).filter(trainable(images, rows, self._needed))
        return table.append_column("captions", _as_lists(table["caption"]))

    def class_ids(self, block: int) -> np.ndarray:
        """int64, of all rows of the block, whether they train or not; -1 = none."""
        rows = self.retrieved.read_rows(*self._spans[block], ["class_id"])
        return rows["class_id"].fill_null(-1).to_numpy().astype(np.int64)


class SourceRows:
    """All pairs of a source. An image with n captions is n rows (every_caption), or one row that draws one of them.

    A block is some consecutive chunks of its files: row groups of Parquet, or members of a tar that follow each other.
    `left_out` counts the images that cannot be used, "" = none.
    """

    def __init__(self, config: IngestConfig, every_caption: bool) -> None:
        # In shorter parts than those that are ingested, so that files whose rows can be cut anywhere have short chunks.
        shorter = config.model_copy(update={"rows_per_part": min(config.rows_per_part, ROWS_PER_CHUNK)})
        source = open_source(shorter)
        if not source.has_images:
            raise ConfigError(
                f"customize.train_on=source needs images: {source.config.source} is a list of URLs; name a source with "
                "images in ingest.source"
            )
        self.source, self.every_caption = source, every_caption
        self._spans = _spans(source)
        self.block_sizes, self.block_bytes, others = [], [], Counter[str]()
        for block in range(len(self._spans)):
            rows, left_out = self._read(block)
            self.block_sizes.append(rows.num_rows)
            self.block_bytes.append(rows.nbytes)
            others += left_out
        counts = ", ".join(f"{count:,} {status}" for status, count in sorted(others.items()))
        self.left_out = f"images of {source.config.source} that do not train: {counts}" if others else ""

    def read(self, block: int) -> pa.Table:
        return self._read(block)[0]

    def _read(self, block: int) -> tuple[pa.Table, Counter[str]]:
        """Returns the rows that train, and the counts of the others by their status."""
        table = self.source.read_rows(*self._spans[block])
        images, pairs = to_images(table, 0, self.source.config), to_pairs(table, 0, self.source.config)
        captions = pairs["captions"] if "captions" in pairs.column_names else _as_lists(pairs["caption"])
        rows = pa.table({"image": images["image"], "captions": captions}).filter(pc.equal(images["status"], schema.OK))
        left_out = Counter(status for status in images["status"].to_pylist() if status != schema.OK)
        if not self.every_caption:
            return rows, left_out
        lengths = pc.fill_null(pc.list_value_length(rows["captions"]), 0)
        left_out += Counter({schema.NO_CAPTION: pc.sum(pc.equal(lengths, 0)).as_py() or 0})
        every = pa.table(
            {
                "image": rows["image"].take(pc.list_parent_indices(rows["captions"])),
                "captions": _as_lists(pc.list_flatten(rows["captions"])),
            }
        )
        return every, left_out


def _spans(source: Source) -> list[tuple[int, int]]:
    """(first row, number of rows) of each block: chunks of one file, until they have GROUP_BYTES."""
    spans: list[tuple[int, int]] = []
    uri, num_bytes = "", 0
    for chunk in source.chunks:
        count = min(chunk.num_rows, source.num_rows - chunk.row_start)
        if chunk.uri == uri and num_bytes + chunk.num_bytes <= GROUP_BYTES:
            spans[-1] = (spans[-1][0], spans[-1][1] + count)
            num_bytes += chunk.num_bytes
        elif count > 0:
            spans.append((chunk.row_start, count))
            uri, num_bytes = chunk.uri, chunk.num_bytes
    return spans


def _image_bytes(group: pq.RowGroupMetaData) -> int:
    columns = (group.column(column) for column in range(group.num_columns))
    return sum(column.total_compressed_size for column in columns if column.path_in_schema == "image")


def _as_lists(captions: pa.ChunkedArray) -> pa.ListArray:
    values = captions.combine_chunks() if isinstance(captions, pa.ChunkedArray) else captions
    return pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)
