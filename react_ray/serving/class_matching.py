"""Matching: whether the pairs of each class look like what was asked for, as stages/retrieval/match.py finds out.

The templates are also filled with random words of captions, and the best hits of these are the background.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from react_ray.clip.prompts import TargetTask
from react_ray.selection.background import RANDOM_K, Background, num_names, random_names
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.match_quality import FEWEST_PAIRS, Asked, ClassMatch, best_rows, class_matches
from react_ray.selection.name_match import split
from react_ray.serving.class_prompts import class_queries, vectors_in_time
from react_ray.serving.finding import Finder
from react_ray.vectors import as_vectors

Templates = tuple[str, ...]


class Matching:
    """`await prepare()` before `of`."""

    def __init__(self, finder: Finder, tasks: Sequence[TargetTask], config: RetrieveConfig) -> None:
        self.finder, self.tasks, self.config = finder, tasks, config
        self.averaged = config.prompts == "averaged"
        self._backgrounds: dict[Templates, Background] = {}

    async def prepare(self) -> None:
        """Finds the best hits of random queries, for each set of templates."""
        finder = self.finder
        names = await finder.service.in_thread(self._names)
        for templates in dict.fromkeys(task.templates for task in self.tasks) if names else ():
            random = [TargetTask("random", names, templates, tuple((name,) for name in names))]
            _, vectors = await vectors_in_time(finder.service.encoder, random, {}, lambda: False)
            queries, queries_RD = await finder.service.in_thread(class_queries, random, self.averaged, vectors)
            name_R, best = np.array([query.class_id for query in queries]), np.full(len(names), -np.inf, np.float32)
            for key in self.config.keys:
                hits = await finder.search(key, queries_RD, min(self.config.first_k, RANDOM_K))
                np.maximum.at(best, name_R, hits.scores[:, 0])
            self._backgrounds[templates] = Background(np.where(np.isfinite(best), best, np.nan))

    def of(self, chosen: pa.Table) -> dict[int, ClassMatch]:
        """chosen: select.MATCHED. By class_id, of classes with pairs; classes of one name are the first of them."""
        view = self.finder.view
        best = chosen.take(pa.array(best_rows(chosen)))
        ids = best["pair_id"].to_numpy()
        facts = pa.table({"caption": pa.array(view.records.columns_of(ids, ["caption"])["caption"], pa.string())})
        if "image" in view.plans:
            facts = facts.append_column("image", as_vectors(view.records.vectors(ids, "image")))
        named = [(task, synonyms) for task in self.tasks for synonyms in task.synonyms]
        asked = {
            number: Asked(synonyms, self._backgrounds.get(task.templates), len(task.templates))
            for number, (task, synonyms) in enumerate(named)
        }
        keys = [str(key) for key in self.config.keys]
        return class_matches(best, facts, asked, keys) if best.num_rows else {}

    def _names(self) -> Templates:
        """Names of two words, none of which is in the name of a class. They are drawn once for all requests, so that
        their vectors are known; those of a retrieval where the background decides which classes get pairs."""
        view, seed = self.finder.view, self.finder.service.recipe.seed
        if view.database.pairs_artifact.rows < FEWEST_PAIRS or "caption" not in view.records.schema.names:
            return ()
        names = [name for task in self.tasks for synonyms in task.synonyms for name in synonyms]
        own = sum(len(synonyms) * len(task.templates) for task in self.tasks for synonyms in task.synonyms)
        count = num_names([*dict.fromkeys(task.templates for task in self.tasks)], own)
        if self.config.min_match:
            return tuple(random_names(view.some_captions(seed), names, count, seed))
        taken = {word for name in names for word in split(name)}
        return tuple(name for name in view.random_names(seed) if not taken & set(split(name)))[:count]
