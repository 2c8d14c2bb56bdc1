"""index: `embeddings/` -> `index/`, shards of FAISS over image keys and text keys.

A build trains once on a sample, builds the shards in parallel, a part of the embeddings at a time, and measures recall.
Tasks get paths and part numbers; vectors never pass through Ray. A build that was killed continues with the missing
shards. Parts that were embedded later become a delta beside the base without a rebuild, and `compact` makes base and
deltas one index.
"""

from __future__ import annotations

from react_ray.artifact import Artifact, open_artifact
from react_ray.index.shards import DELTAS, deltas, uncovered
from react_ray.kinds import EMBEDDINGS, INDEX, IndexFacts
from react_ray.manifest import MANIFEST
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.stages.indexing import compaction
from react_ray.stages.indexing.build import build
from react_ray.stages.indexing.plan import plan, require_same
from react_ray.storage import join, open_storage


def run(recipe: Recipe) -> Artifact[IndexFacts]:
    """Returns the sealed base; parts that were embedded since it was built are in a delta beside it."""
    layout = Layout(recipe)
    embeddings = layout.open_database(EMBEDDINGS)
    uri = layout.database("index")
    compaction.clear(open_storage(uri))
    if not open_storage(uri).exists(MANIFEST):
        return build(recipe, embeddings, uri, list(range(embeddings.num_parts)))
    base = open_artifact(uri, INDEX)
    require_same(base, recipe.index, recipe.seed, embeddings)
    added = uncovered(base, embeddings)
    if added:
        build(recipe, embeddings, join(uri, DELTAS, f"{len(deltas(base)) + 1:05d}"), added, base)
    return base


def compact(recipe: Recipe) -> Artifact[IndexFacts]:
    """Builds one index of the base and its deltas, with the same quantiser and without deleted pairs. There is no index
    until it is done; after a kill, the same command continues."""
    layout = Layout(recipe)
    embeddings = layout.open_database(EMBEDDINGS)
    uri = layout.database("index")
    storage = open_storage(uri)
    if storage.exists(MANIFEST):
        base = open_artifact(uri, INDEX)
        require_same(base, recipe.index, recipe.seed, embeddings)
        # If no plan is possible, this raises before anything is deleted.
        plan(recipe.index, embeddings, list(range(embeddings.num_parts)), base.facts.settled)
        compaction.mark(storage, base.facts.settled)
    return run(recipe)
