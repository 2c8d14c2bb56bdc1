"""Checks which of the pairs that were hit may be chosen: no duplicates, and nothing near to an evaluation image.

Hashes, hosts and vectors of the pairs are read where they lie, part by part, and come together once, so that memory
grows with the hits and not with the database.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.clip.identity import same_image_tower
from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.kinds import CANDIDATE_FACTS, CANDIDATES, NoFacts
from react_ray.manifest import Receipt
from react_ray.recipe import ClusterConfig
from react_ray.runtime.map_parts import MapStage, ReadPart, Work, map_parts
from react_ray.search.gather import gather
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.screen import References, Screen, columns_needed, screen
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.eval_images import load
from react_ray.storage import join, open_storage

PAIRS_PER_PART = 1 << 16
OTHER_IMAGES = (
    "images of {} were embedded by another image tower than the recipe's backbone, so {} would compare two spaces; "
    "name the backbone that embedded the database, or leave it out"
)
HOME = {"url": "pairs", "sha256": "images", "phash": "images", "image": "embeddings"}


class Screening:
    """Made once per retrieval, so that the evaluation images are embedded once for all rounds of a search."""

    def __init__(
        self,
        place: str,
        database: Database,
        config: RetrieveConfig,
        references: Artifact[NoFacts] | None,
        seed: int,
        cluster: ClusterConfig,
    ) -> None:
        """place: URI of a folder that is emptied at each call. references: hashes and vectors of evaluation images."""
        self.place, self.database, self.config, self.seed, self.cluster = place, database, config, seed, cluster
        self.columns = columns_needed(config)
        self.references: References | None = None
        if references is not None:
            made_by = references.manifest.config["backbone"]
            if config.decontaminate.cosine and not same_image_tower(database.embeddings.facts.backbone, made_by):
                raise ArtifactMismatch(OTHER_IMAGES.format(database.embeddings.uri, "retrieve.decontaminate.cosine"))
            self.references = load(references)

    @property
    def needed(self) -> bool:
        return bool(self.columns)

    def __call__(self, pair_ids: np.ndarray, score: np.ndarray) -> Screen:
        """pair_ids int64 [N] ascending, score float32 [N] of their best hits."""
        storage = open_storage(self.place)
        storage.delete_all()  # pairs of an interrupted run, or of an earlier round
        num_parts = -(-len(pair_ids) // PAIRS_PER_PART)
        if num_parts == 0:
            return Screen(pair_ids, np.ones(0, bool), np.zeros(0, np.int64))
        table = self._facts(pair_ids, num_parts)
        found = screen(table, score, self.config, self.references, self.seed)
        storage.delete_all()
        return found

    def _facts(self, pair_ids: np.ndarray, num_parts: int) -> pa.Table:
        """The columns that the checks need, read in parallel."""
        draft = create(join(self.place, "asked"), CANDIDATES, {}, {}, num_parts)
        for part in range(num_parts):
            rows = slice(part * PAIRS_PER_PART, (part + 1) * PAIRS_PER_PART)
            draft.commit(part, pa.table({"pair_id": pair_ids[rows]}), 0.0)
        asked = draft.seal()
        place, config = join(self.place, "facts"), {"columns": self.columns}
        facts = create(place, CANDIDATE_FACTS, config, {"asked": asked}, num_parts)
        work = FactsPart(self.columns, self.database.artifacts(), facts)
        light = self.database.is_small
        stage = MapStage("screen", ReadPart(asked), work, retries=self.cluster.part_retries, light=light)
        map_parts(stage, facts.pending(), num_parts)
        return pa.concat_tables(facts.seal().tables())


def check_screening(config: RetrieveConfig, database: Database) -> None:
    """ConfigError if a check has no radius or no sets, or needs what the database does not have."""
    wanted, columns = config.decontaminate, columns_needed(config)
    if wanted.datasets and wanted.phash < 0 and not wanted.cosine:
        raise ConfigError(
            "retrieve.decontaminate.datasets are named, but no radius; set retrieve.decontaminate.phash or cosine"
        )
    if (wanted.phash >= 0 or wanted.cosine) and not wanted.datasets:
        raise ConfigError("retrieve.decontaminate has a radius, but no sets; set retrieve.decontaminate.datasets=[all]")
    if database.images is None and {"sha256", "phash"} & set(columns):
        raise ConfigError(
            "retrieve.dedup and decontaminate by sha256 or phash need the images before retrieval; set "
            "download.of=pairs, or use dedup.url"
        )
    if "image" in columns and not database.embeddings.manifest.config.get("images", True):
        raise ConfigError(
            "retrieve.dedup.cosine and decontaminate.cosine compare images; set embed.images=true, or leave them at 0"
        )


class FactsPart(Work):
    def __init__(self, columns: list[str], artifacts: dict[str, Artifact], facts: Draft[NoFacts]) -> None:
        self.columns, self.artifacts, self.facts = columns, artifacts, facts

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        pair_ids = table["pair_id"].to_numpy()
        out = table.select(["pair_id"])
        for home, artifact in self.artifacts.items():
            columns = [column for column in self.columns if HOME[column] == home]
            if columns:
                found = gather(artifact, pair_ids, ["pair_id", *columns])
                for column in columns:
                    out = out.append_column(column, found[column])
        return self.facts.commit(part, out, time.monotonic() - began)
