"""Where the rows of a training come from: what retrieval found, or a corpus as it is. Next: gated/batches.py, which takes them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from react_ray.artifact import Artifact, open_artifact
from react_ray.errors import ConfigError
from react_ray.pairs.source import Source, to_images, to_pairs
from react_ray.stages.collect import trainable


class RetrievedRows:
    """What retrieval found: captions come with their vectors, so the text tower need not run."""

    def __init__(self, retrieved: Artifact, images: Artifact) -> None:
        self.retrieved, self.images = retrieved.uri, images.uri
        self.part_sizes = [
            receipt.facts["trainable"] if "trainable" in receipt.facts else self._count(receipt.part)
            for receipt in retrieved.receipts()
        ]

    def _count(self, part: int) -> int:
        """Of images that were downloaded once they were retrieved: only then is it known."""
        images = open_artifact(self.images, "images").read(part, ["status"])
        rows = open_artifact(self.retrieved, "retrieved").read(part, ["text_embedding"])
        return pc.sum(trainable(images, rows)).as_py() or 0

    def read(self, part: int) -> pa.Table:
        images = open_artifact(self.images, "images").read(part, ["image", "status"])
        rows = open_artifact(self.retrieved, "retrieved").read(part, ["pair_id", "caption", "class_id", "text_embedding"])
        table = rows.append_column("image", images["image"]).filter(trainable(images, rows))
        return table.append_column("captions", _as_lists(table["caption"]))


class SourceRows:
    """A corpus as it is, for pre-training. An image with n captions is n rows, or one row that draws from them."""

    def __init__(self, source: Source, every_caption: bool) -> None:
        if not source.has_images:
            raise ConfigError(
                f"customize.train_on=source needs images: {source.config.source} is a list of URLs; name a source with images in ingest.source"
            )
        self.source, self.every_caption = source, every_caption
        self.part_sizes = [self.read(part).num_rows for part in range(len(source.parts))]

    def read(self, part: int) -> pa.Table:
        table = self.source.read(part)
        images, pairs = to_images(table, part, self.source.config), to_pairs(table, part, self.source.config)
        captions = pairs["captions"] if "captions" in pairs.column_names else _as_lists(pairs["caption"])
        rows = pa.table({"image": images["image"], "captions": captions}).filter(pc.equal(images["status"], "ok"))
        if not self.every_caption:
            return rows
        return pa.table(
            {
                "image": rows["image"].take(pc.list_parent_indices(rows["captions"])),
                "captions": _as_lists(pc.list_flatten(rows["captions"])),
            }
        )


def _as_lists(captions: pa.ChunkedArray) -> pa.ListArray:
    values = captions.combine_chunks() if isinstance(captions, pa.ChunkedArray) else captions
    return pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)
