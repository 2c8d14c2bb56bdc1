"""View: one state of a database as a service sees it. A request keeps the view with which it began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from react_ray.artifact import open_artifact
from react_ray.errors import ArtifactMissing, ConfigError
from react_ray.index.config import Key
from react_ray.index.shard_cache import ShardCache
from react_ray.index.shards import Lists, uncovered
from react_ray.kinds import IMAGES
from react_ray.manifest import MANIFEST
from react_ray.recipe import Recipe
from react_ray.row_guard import texts
from react_ray.search.database import KEYS, OpenDatabase
from react_ray.search.filtered import Filters
from react_ray.search.open_database import of_recipe
from react_ray.search.scan import read_block
from react_ray.selection.background import MOST_NAMES, random_names
from react_ray.serving.coordinator import KeyPlan
from react_ray.serving.cutting import cut, memory_bytes
from react_ray.serving.groups import Group
from react_ray.serving.lru import Lru
from react_ray.serving.records import Records
from react_ray.serving.refusal import Refused
from react_ray.serving.stamp import Stamp, stamp_of
from react_ray.storage import join, open_storage

CAPTIONS, PARTS_OF_CAPTIONS = 20_000, 4  # from which random words are drawn, as a retrieval does
NAMES = MOST_NAMES + 50  # some are left out because a class has one of their words


@dataclass(frozen=True)
class GroupFacts:
    """For people: what a group holds."""

    name: str
    shards: int
    bytes: int


class View:
    def __init__(self, recipe: Recipe, groups: Sequence[Group], cache: ShardCache) -> None:
        """Reads manifests, and samples of vectors. ArtifactMissing or another error if the database is not whole.

        cache: of the files that an index with metadata has on a remote storage.
        """
        self.stamp: Stamp = stamp_of(recipe.database)
        self.database: OpenDatabase = of_recipe(recipe)
        place = join(recipe.database, IMAGES.name)
        images = open_artifact(place, IMAGES) if open_storage(place).exists(MANIFEST) else None
        self.records = Records(self.database, images, cache)
        self._names: Lru[int, list[str]] = Lru(4)
        shares = cut(self.database.index, len(groups))
        self.groups = [
            GroupFacts(
                group.name, sum(map(len, of.values())), sum(memory_bytes(p) for some in of.values() for p in some)
            )
            for group, of in zip(groups, shares, strict=True)
        ]
        self.plans: dict[Key, KeyPlan] = {}
        for key in KEYS:
            if not len(self.database.key_search(key).sample_ND):
                continue
            having = [number for number, of in enumerate(shares) if key in of]
            rows = [sum(place.index.receipt(place.part).rows for place in shares[number][key]) for number in having]
            scanned = self._scanned(key)
            num_scanned = sum(self.database.embeddings.receipt(part).rows for part in scanned)
            facts = self.database.index.facts if self.database.index is not None and having else None
            here = [groups[number] for number in having]
            lists = Lists([place for number in having for place in shares[number][key]]) if len(having) > 1 else None
            self.plans[key] = KeyPlan(key, here, rows, facts, lists, groups[0], num_scanned)
        if not self.plans:
            raise ArtifactMissing(f"{self.database.embeddings.uri} has no vectors; run `react-ray embed RECIPE` again")
        self.keys: tuple[Key, ...] = tuple(self.plans)

    def _scanned(self, key: Key) -> list[int]:
        embeddings, index = self.database.embeddings, self.database.index
        if index is None or key not in index.facts.keys:
            return list(range(embeddings.num_parts))
        return self._uncovered

    @cached_property
    def _uncovered(self) -> list[int]:
        assert self.database.index is not None
        return uncovered(self.database.index, self.database.embeddings)

    def check_filters(self, filters: Sequence[str]) -> None:
        """Refused for a condition that cannot be asked of this database."""
        if not filters:
            return
        database = self.database
        try:
            Filters.over(list(filters), database.pairs_artifact, database.embeddings, self.records.images_artifact)
        except ConfigError as error:
            raise Refused(str(error).replace("retrieve.filters: ", ""), code="bad_filter", field="filters") from error

    def random_names(self, seed: int) -> list[str]:
        """Names of two words from captions at random (background.py), the same for the same database; [] if there are
        too few words."""
        return self._names.get(seed, lambda: random_names(self.some_captions(seed), [], NAMES, seed))

    def some_captions(self, seed: int) -> list[str | None]:
        generator, pairs = np.random.default_rng(seed), self.database.pairs_artifact
        parts = generator.choice(pairs.num_parts, min(PARTS_OF_CAPTIONS, pairs.num_parts), replace=False)
        columns = [pairs.read(int(part), ["caption"])["caption"] for part in np.sort(parts)]
        found = [caption for column in columns for caption in texts(column, "replace")]
        rows = generator.choice(len(found), min(CAPTIONS, len(found)), replace=False)
        return [found[row] for row in np.sort(rows).tolist()]

    def sample_of(self, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(pair_ids int64 [N], vectors float16 [N, D]) of pairs of a part at random that has some."""
        embeddings = self.database.embeddings
        for part in np.random.default_rng().permutation(embeddings.num_parts).tolist():
            ids, vectors_ND = read_block(embeddings, key, part)
            kept = np.isfinite(vectors_ND).all(axis=1) & ~np.isin(ids, self.database.deleted)
            if kept.any():
                return ids[kept], vectors_ND[kept]
        raise ArtifactMissing(f"{embeddings.uri} has no vectors of {key} keys; embed them")
