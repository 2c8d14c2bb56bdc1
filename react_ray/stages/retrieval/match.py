"""Measures how well each class's pairs match what was asked for; selection/match_quality.py has the rule.

Before the search, `random_queries` fills the templates of the classes with random words of captions; their hits come
from the same search and are the background. After the selection, `match` reads captions and image vectors of the best
pairs of each class. The extra work is at most a quarter more queries, and reading two columns of the parts in which the
32 best pairs of each class lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.clip.prompts import TargetTask
from react_ray.clip.queries import FREE
from react_ray.kinds import NoFacts, QueriesFacts
from react_ray.recipe import ClusterConfig, Recipe
from react_ray.selection.background import Background, num_names, random_names
from react_ray.selection.hit_columns import first_of_name
from react_ray.selection.match_quality import FEWEST_PAIRS, Asked, ClassMatch, best_rows, class_matches
from react_ray.stages.retrieval.candidate_facts import candidate_facts
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.embed_queries import embed_task_prompts

PARTS_OF_CAPTIONS, CAPTIONS = 4, 20_000  # from which random words are drawn
AS_IT_IS = ("{}",)  # the template of a free sentence


def random_queries(
    uri: str, database: Database, tasks: list[TargetTask], recipe: Recipe
) -> Artifact[QueriesFacts] | None:
    """Returns queries that ask for nothing in particular: one task for each set of templates of the recipe's tasks.

    None if the database or its captions are too few for a background.
    """
    sets = _template_sets(tasks, bool(recipe.tasks.queries))
    if database.pairs.rows < FEWEST_PAIRS or not sets:
        return None
    names = [name for task in tasks for synonyms in task.synonyms for name in synonyms] + recipe.tasks.queries
    own = sum(len(synonyms) * len(task.templates) for task in tasks for synonyms in task.synonyms)
    found = random_names(_some_captions(database, recipe.seed), names, num_names(sets, own), recipe.seed)
    if not found:
        return None
    asked = [
        TargetTask(f"random {number}", tuple(found), templates, tuple((name,) for name in found))
        for number, templates in enumerate(sets)
    ]
    config = recipe.retrieve
    return embed_task_prompts(uri, asked, config.prompts, recipe.backbone, recipe.embed.batch_size, recipe.seed)


@dataclass(frozen=True)
class RandomHits:
    """The random queries and what they hit."""

    queries: Artifact[QueriesFacts]
    hits: Artifact[NoFacts]

    def backgrounds(self) -> list[Background]:
        """Returns one for each set of templates, in their order; NaN where a random name hit nothing."""
        queries = pa.concat_tables(self.queries.tables(["query_id", "class_id", "task"]))
        hits = pa.concat_tables(self.hits.tables(["query_id", "score"]))
        class_id = queries["class_id"].to_numpy()
        best = np.full(int(class_id.max()) + 1, -np.inf, np.float32)
        of_query = np.full(int(queries["query_id"].to_numpy().max()) + 1, 0)
        of_query[queries["query_id"].to_numpy()] = class_id
        np.maximum.at(best, of_query[hits["query_id"].to_numpy()], hits["score"].to_numpy())
        sets = dict.fromkeys(queries["task"].to_pylist())
        return [Background(one) for one in np.split(np.where(np.isfinite(best), best, np.nan), len(sets))]


def match(
    place: str,
    chosen: pa.Table,
    queries: pa.Table,
    tasks: list[TargetTask],
    random: RandomHits | None,
    keys: list[str],
    database: Database,
    cluster: ClusterConfig,
) -> dict[int, ClassMatch]:
    """Returns the match of every class that has pairs. place: URI of a folder that is emptied.

    chosen: select.MATCHED. queries: class_id, task, class_name and modality of the queries that were asked.
    """
    best = chosen.take(pa.array(best_rows(chosen)))
    has_images = database.embeddings.manifest.config.get("images", True)
    columns = ["caption", *(["image"] if has_images else [])]
    facts = candidate_facts(place, best["pair_id"].to_numpy(), columns, database, cluster)
    found = class_matches(best, facts, _asked(queries, tasks, random), keys)
    first = dict(zip(queries["class_id"].to_pylist(), first_of_name(queries).tolist(), strict=True))
    return {number: found[same] for number, same in first.items() if same in found}  # one name, the same pairs


def _asked(queries: pa.Table, tasks: list[TargetTask], random: RandomHits | None) -> Mapping[int, Asked]:
    rows = queries.select(["class_id", "task", "class_name", "modality"]).to_pylist()
    seeded = {row["class_id"] for row in rows if row["modality"] == "image"}  # an image's hits have other cosines
    free = any(row["task"] == FREE for row in rows)
    backgrounds = random.backgrounds() if random else []
    of_set = dict(zip(_template_sets(tasks, free), backgrounds, strict=False))
    known: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for task in tasks:
        for synonyms in task.synonyms:
            known[len(known)] = (synonyms, task.templates)
    out = {}
    for row in rows:
        number = row["class_id"]
        names, templates = known.get(number, ((row["class_name"],), AS_IT_IS))
        background = None if number in seeded else of_set.get(templates)
        out[number] = Asked(names, background, len(templates) if number in known else 0)
    return out


def _template_sets(tasks: list[TargetTask], free: bool) -> list[tuple[str, ...]]:
    """Returns each distinct set of templates once, and that of free sentences."""
    return list(dict.fromkeys([*(task.templates for task in tasks), *([AS_IT_IS] if free else [])]))


def _some_captions(database: Database, seed: int) -> list[str | None]:
    generator = np.random.default_rng(seed)
    pairs = database.pairs
    parts = generator.choice(pairs.num_parts, min(PARTS_OF_CAPTIONS, pairs.num_parts), replace=False)
    table = pa.concat_tables([pairs.read(int(part), ["caption"]) for part in np.sort(parts)])
    rows = generator.choice(table.num_rows, min(CAPTIONS, table.num_rows), replace=False)
    captions: list[str | None] = table["caption"].take(pa.array(np.sort(rows))).to_pylist()
    return captions
