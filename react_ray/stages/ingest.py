"""ingest: what people already have -> `pairs/` and, if it has them, `images/` of the database.

Of a list of URLs only `pairs/` is made. Next: pairs/source.py, then embed.py.
"""

from __future__ import annotations

import time

import pyarrow as pa

from react_ray.artifact import Artifact, Receipt, create
from react_ray.pairs.source import IngestConfig, open_source, to_images, to_pairs
from react_ray.recipe import Recipe
from react_ray.stages.cluster import placement, require_disk
from react_ray.stages.layout import Layout
from react_ray.stages.run_parts import Work, run_parts


def run(recipe: Recipe) -> Artifact:
    """Gives the sealed `images`, or `pairs` of a list of URLs; where there are both, they have the same parts and rows."""
    layout = Layout(recipe)
    source = open_source(recipe.ingest)
    config = recipe.ingest.digested()
    num_parts = len(source.parts)
    pairs = create(layout.database("pairs"), "pairs", config, {}, num_parts)
    made = [pairs]
    if source.has_images:
        made.append(create(layout.database("images"), "images", config, {}, num_parts))
    pending = sorted({part for artifact in made for part in artifact.pending()})
    if pending:
        require_disk(recipe.database, 1.2 * source.num_bytes / 2**30, "ingest")
    run_parts(
        "ingest",
        pending,
        num_parts,
        source.read,
        CommitPairs,
        (recipe.ingest, *made),
        recipe.cluster.part_retries,
        "pairs",
        options=placement(recipe.cluster, "fetch"),
    )
    return [artifact if artifact.sealed else artifact.seal() for artifact in made][-1]


class CommitPairs(Work):
    def __init__(self, config: IngestConfig, pairs: Artifact, images: Artifact | None = None) -> None:
        self.config, self.pairs, self.images = config, pairs, images

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        images = to_images(table, part, self.config) if self.images is not None else None
        receipt = self.pairs.commit(part, to_pairs(table, part, self.config), time.monotonic() - began)
        if self.images is not None and images is not None:
            receipt = self.images.commit(part, images, time.monotonic() - began)
        return receipt
