"""The rows of a training: the retrieved pairs, or a whole corpus (for pre-training)."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.artifact import Artifact, open_artifact
from react_ray.errors import ConfigError
from react_ray.kinds import IMAGES, RETRIEVED, RetrievedFacts
from react_ray.pairs.source import Source, to_images, to_pairs
from react_ray.selection.soft_classes import soft_classes
from react_ray.stages.retrieval.gather_pairs import trainable


class RetrievedRows:
    """Retrieved pairs whose image was fetched. `left_out` says how many others there are, "" = none.

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
        self.retrieved, self.images = retrieved.uri, images.uri
        self.needs_vectors, self.needs_classes = needs_vectors, needs_classes
        self.part_sizes = [
            receipt.facts["trainable"] if "trainable" in receipt.facts and needs_vectors else self._count(receipt.part)
            for receipt in retrieved.receipts()
        ]
        self.part_bytes = [receipt.bytes for receipt in images.receipts()]
        others, lacks = retrieved.rows - sum(self.part_sizes), "vector of their caption" if needs_vectors else "caption"
        self.left_out = (
            f"{others:,} of {retrieved.rows:,} retrieved pairs do not train: no image, or no {lacks}" if others else ""
        )

    def _count(self, part: int) -> int:
        """The trainable rows of a part whose images were downloaded after retrieval; the receipt does not know them."""
        images = open_artifact(self.images, IMAGES).read(part, ["status"])
        rows = open_artifact(self.retrieved, RETRIEVED).read(part, [self._needed])
        return pc.sum(trainable(images, rows, self._needed)).as_py() or 0

    @property
    def _needed(self) -> str:
        return "text_embedding" if self.needs_vectors else "caption"

    def read(self, part: int) -> pa.Table:
        images = open_artifact(self.images, IMAGES).read(part, ["image", "status"])
        columns = ["pair_id", "caption", "class_id", self._needed, *["matches"] * self.needs_classes]
        rows = open_artifact(self.retrieved, RETRIEVED).read(part, list(dict.fromkeys(columns)))
        if self.needs_classes:
            matched = soft_classes(rows["class_id"], rows["matches"])
            rows = rows.drop_columns("matches").append_column("matched", matched)
        table = rows.append_column("image", images["image"]).filter(trainable(images, rows, self._needed))
        return table.append_column("captions", _as_lists(table["caption"]))


class SourceRows:
    """All pairs of a source. An image with n captions is n rows (every_caption), or one row that draws one of them.

    `left_out` counts the images that cannot be used, "" = none.
    """

    def __init__(self, source: Source, every_caption: bool) -> None:
        if not source.has_images:
            raise ConfigError(
                f"customize.train_on=source needs images: {source.config.source} is a list of URLs; name a source with "
                "images in ingest.source"
            )
        self.source, self.every_caption = source, every_caption
        self.part_sizes, self.part_bytes, others = [], [], Counter[str]()
        for part in range(len(source.parts)):
            rows, left_out = self._read(part)
            self.part_sizes.append(rows.num_rows)
            self.part_bytes.append(rows.nbytes)
            others += left_out
        counts = ", ".join(f"{count:,} {status}" for status, count in sorted(others.items()))
        self.left_out = f"images of {source.config.source} that do not train: {counts}" if others else ""

    def read(self, part: int) -> pa.Table:
        return self._read(part)[0]

    def _read(self, part: int) -> tuple[pa.Table, Counter[str]]:
        """Returns the rows that train, and the counts of the others by their status."""
        table = self.source.read(part)
        images, pairs = to_images(table, part, self.source.config), to_pairs(table, part, self.source.config)
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


def _as_lists(captions: pa.ChunkedArray) -> pa.ListArray:
    values = captions.combine_chunks() if isinstance(captions, pa.ChunkedArray) else captions
    return pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)
