"""retrieve: class names x templates -> `queries/` -> `hits/` -> `selected/` -> `retrieved/` and its `images/`.

Next: ask.py, choose.py, search.py, collect.py, then customize.py.
"""

from __future__ import annotations

from react_ray.artifact import Artifact
from react_ray.errors import ArtifactMissing
from react_ray.kinds import EMBEDDINGS, PAIRS
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.stages.retrieval import embed_queries, gather_pairs, select_pairs


def run(recipe: Recipe, arm: str = "") -> Artifact:
    """Gives the sealed `retrieved` of one arm (the run's own, when the arm does not change retrieval)."""
    layout = Layout(recipe, arm)
    embeddings, pairs = layout.open_database(EMBEDDINGS), layout.open_database(PAIRS)
    if embeddings.num_parts < pairs.num_parts:
        raise ArtifactMissing(
            f"{embeddings.uri} has {embeddings.num_parts} parts, {pairs.uri} {pairs.num_parts}: pairs were added; run `react-ray embed RECIPE` and `react-ray index RECIPE` first"
        )
    root, wanted = layout.retrieved_root(), recipe.arm(arm)
    queries = embed_queries.embed_queries(wanted, embed_queries.queries_uri(recipe, arm))
    return gather_pairs.run(wanted, root, queries, select_pairs.run(wanted, root, queries, main=recipe.out))
