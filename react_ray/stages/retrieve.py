"""retrieve: class names x templates -> `queries/` -> `hits/` -> `selected/` -> `retrieved/` and its `images/`.

Next: ask.py, choose.py, search.py, collect.py, then customize.py.
"""

from __future__ import annotations

from react_ray.artifact import Artifact
from react_ray.errors import ArtifactMissing
from react_ray.recipe import Recipe
from react_ray.stages import ask, choose, collect
from react_ray.stages.layout import Layout


def run(recipe: Recipe, arm: str = "") -> Artifact:
    """Gives the sealed `retrieved` of one arm (the run's own, when the arm does not change retrieval)."""
    layout = Layout(recipe, arm)
    embeddings, pairs = layout.open_database("embeddings", "embed"), layout.open_database("pairs", "ingest")
    if embeddings.num_parts < pairs.num_parts:
        raise ArtifactMissing(
            f"{embeddings.uri} has {embeddings.num_parts} parts, {pairs.uri} {pairs.num_parts}: pairs were added; run `react-ray embed RECIPE` and `react-ray index RECIPE` first"
        )
    root, wanted = layout.retrieved_root(), recipe.arm(arm)
    queries = ask.embed_queries(wanted, ask.queries_uri(recipe, arm))
    return collect.run(wanted, root, queries, choose.run(wanted, root, queries, main=recipe.out))
