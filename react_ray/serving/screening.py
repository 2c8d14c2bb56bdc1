"""Screening: which of the pairs that were hit may be chosen, as stages/retrieval/screen_pairs.py, in this process."""

from __future__ import annotations

import numpy as np

from react_ray.artifact import Artifact
from react_ray.search.facts import facts_of
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.references import References
from react_ray.selection.screen import Screen, columns_needed, screen
from react_ray.serving.view import View

COMPARED = 100_000  # pairs whose image vectors are compared with one another, in seconds


class Screening:
    def __init__(self, view: View, config: RetrieveConfig, references: References | None, seed: int) -> None:
        self.config, self.references, self.seed = config, references, seed
        self.columns = columns_needed(config)
        database, images = view.database, view.records.images_artifact
        self._artifacts: dict[str, Artifact] = {"pairs": database.pairs_artifact, "embeddings": database.embeddings}
        self._artifacts |= {"images": images} if images is not None else {}
        self.last: Screen | None = None
        self.differs: list[str] = []

    def __call__(self, pair_ids: np.ndarray, score: np.ndarray) -> Screen:
        """pair_ids int64 [N] ascending, score float32 [N] of their best hits."""
        config, self.differs = self.config, []
        if not len(pair_ids):
            return Screen(pair_ids, np.ones(0, bool), *(np.zeros(0, np.int64),) * 2)
        if config.dedup.cosine and len(pair_ids) > COMPARED:
            config = config.model_copy(update={"dedup": config.dedup.model_copy(update={"cosine": 0.0})})
            told = f"`retrieve` applies retrieve.dedup.cosine, which compares {len(pair_ids):,} pairs here"
            self.differs.append(f"{told}; ask for fewer classes or pairs to see it.")
        facts = facts_of(self._artifacts, pair_ids, self.columns)
        self.last = screen(facts, score, config, self.references, self.seed)
        return self.last

    def folded(self, pair_ids: np.ndarray) -> list[list[int]]:
        """The duplicates of each of these pairs that were dropped."""
        if self.last is None:
            return [[] for _ in pair_ids]
        of, known = self.last.of, self.last.pair_ids
        rows = np.flatnonzero(of != np.arange(len(of)))
        rows = rows[np.argsort(of[rows], kind="stable")]
        at = self.last.at(pair_ids)
        starts, ends = np.searchsorted(of[rows], at), np.searchsorted(of[rows], at, side="right")
        return [known[rows[a:b]].tolist() for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
