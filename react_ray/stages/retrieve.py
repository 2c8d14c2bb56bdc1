"""retrieve: class names x templates -> `queries/` -> `hits/` -> `selected/` -> `retrieved/` and its `images/`.

Each step is a file in stages/retrieval/ and is named for what it does.
"""

from __future__ import annotations

from react_ray.artifact import Artifact
from react_ray.clip.prompts import load_tasks
from react_ray.kinds import INDEX, NoFacts, RetrievedFacts
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.selection.screen import check_screening
from react_ray.stages.retrieval.check_selection import check_selection
from react_ray.stages.retrieval.database import open_database
from react_ray.stages.retrieval.embed_queries import embed_queries, queries_uri
from react_ray.stages.retrieval.eval_images import eval_images
from react_ray.stages.retrieval.filter_pairs import filter_pairs
from react_ray.stages.retrieval.gather_pairs import gather_pairs
from react_ray.stages.retrieval.match import random_queries
from react_ray.stages.retrieval.screen_pairs import Screening
from react_ray.stages.retrieval.searchers import SearchPlan
from react_ray.stages.retrieval.select_pairs import Selection, random_count, select_pairs
from react_ray.storage import join


def run(recipe: Recipe, arm: str = "") -> Artifact[RetrievedFacts]:
    """Returns the sealed `retrieved` of one arm, which is the run's own if the arm does not change retrieval."""
    layout, wanted = Layout(recipe, arm), recipe.arm(arm)
    config, cluster, root = wanted.retrieve, wanted.cluster, layout.retrieved_root()
    database = open_database(wanted)
    queries = embed_queries(
        queries_uri(recipe, arm), wanted.tasks, config.prompts, wanted.backbone, wanted.embed.batch_size, wanted.seed
    )
    check_selection(config, bool(wanted.tasks.seed_images), database, queries)
    has_vectors = database.embeddings.manifest.config.get("images", True)
    check_screening(config, database.images is not None, has_vectors)
    narrowed = bool(config.filters) or len(database.deleted) > 0
    allowed = filter_pairs(join(root, "allowed"), database, config.filters, cluster) if narrowed else None
    tasks = load_tasks(wanted.tasks)
    is_random = config.selection == "random"
    searches_index = config.selection == "hits" and config.search == "index"
    selection = Selection(
        root=root,
        config=config,
        database=database,
        asked=queries,
        tasks=tasks,
        plan=SearchPlan(
            database,
            layout.open_database(INDEX) if searches_index else None,
            wanted.index,
            cluster,
            allowed if config.filters else None,  # a search leaves out deleted pairs itself
        ),
        screening=lambda: Screening(
            join(root, "candidates"), database, config, _references(wanted, root), wanted.seed, cluster
        ),
        random=lambda: random_queries(join(root, "random_queries"), database, tasks, wanted),
        allowed=allowed,
        num_random=random_count(config.max_pairs, root, recipe.out) if is_random else 0,
        seed=wanted.seed,
    )
    selected = select_pairs(selection)
    return gather_pairs(root, database, queries, selected, is_random, cluster)


def _references(recipe: Recipe, root: str) -> Artifact[NoFacts] | None:
    """The evaluation images that nothing retrieved may be near to; None if the recipe names no sets."""
    wanted = recipe.retrieve.decontaminate
    if not wanted.datasets:
        return None
    sources = wanted.sources(recipe.evaluate.datasets)
    place, batch_size = join(root, "references"), recipe.evaluate.batch_size
    return eval_images(place, sources, recipe.backbone, wanted.cosine > 0, batch_size, recipe.seed, recipe.cluster)
