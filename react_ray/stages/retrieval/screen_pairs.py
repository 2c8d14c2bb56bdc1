"""candidates: what is known of the pairs that were hit -> one Screen: which of them may be chosen.

Their hashes, hosts and vectors are read where they lie, part by part, and come together once: memory grows with the hits,
not with the database. Next: selection/screen.py, then choose.py.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.clip.identity import same_image_tower
from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.kinds import CANDIDATE_FACTS, CANDIDATES, EMBEDDINGS, PAIRS, NoFacts
from react_ray.manifest import Receipt
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, ReadPart, Work, map_parts
from react_ray.selection.screen import References, Screen, columns_needed, screen
from react_ray.stages.retrieval import eval_images
from react_ray.stages.retrieval.gather_pairs import gather
from react_ray.storage import join, open_storage

PAIRS_PER_PART = 1 << 16
OTHER_IMAGES = (
    "images of {} were embedded by another image tower than the recipe's backbone, so {} would compare two spaces; name the "
    "backbone that embedded the database, or leave it out"
)
HOME = {"url": "pairs", "sha256": "images", "phash": "images", "image": "embeddings"}


class Screening:
    """Opened once per retrieval: the evaluation images are looked at once, whatever is asked to be screened."""

    def __init__(self, recipe: Recipe, root: str) -> None:
        """ConfigError if a check needs what the database does not have."""
        self.recipe, self.root = recipe, root
        self.columns = columns_needed(recipe.retrieve)
        self.references: References | None = None
        layout = Layout(recipe)
        wanted = recipe.retrieve.decontaminate
        if wanted.datasets and wanted.phash < 0 and not wanted.cosine:
            raise ConfigError(
                "retrieve.decontaminate.datasets are named, but no radius; set retrieve.decontaminate.phash or cosine"
            )
        if (wanted.phash >= 0 or wanted.cosine) and not wanted.datasets:
            raise ConfigError(
                "retrieve.decontaminate has a radius, but no sets; set retrieve.decontaminate.datasets=[all]"
            )
        if recipe.download.of != "pairs" and {"sha256", "phash"} & set(self.columns):
            raise ConfigError(
                "retrieve.dedup and decontaminate by sha256 or phash need the images before retrieval; set download.of=pairs, or use dedup.url"
            )
        embeddings = layout.open_database(EMBEDDINGS)
        if "image" in self.columns and not embeddings.manifest.config.get("images", True):
            raise ConfigError(
                "retrieve.dedup.cosine and decontaminate.cosine compare images; set embed.images=true, or leave them at 0"
            )
        self.artifacts: dict[str, Artifact] = {"pairs": layout.open_database(PAIRS), "embeddings": embeddings}
        if recipe.download.of == "pairs":
            self.artifacts["images"] = layout.open_images()
        if wanted.datasets:
            made = eval_images.run(recipe, join(root, "references"))
            if wanted.cosine and not same_image_tower(embeddings.facts.backbone, made.manifest.config["backbone"]):
                raise ArtifactMismatch(OTHER_IMAGES.format(embeddings.uri, "retrieve.decontaminate.cosine"))
            self.references = eval_images.load(made)

    @property
    def needed(self) -> bool:
        return bool(self.columns)

    def __call__(self, pair_ids: np.ndarray, score: np.ndarray) -> Screen:
        """pair_ids int64 [N] ascending, score float32 [N] of their best hits."""
        storage = open_storage(join(self.root, "candidates"))
        storage.delete_all()  # of an interrupted run, or of an earlier round: other pairs
        num_parts = -(-len(pair_ids) // PAIRS_PER_PART)
        asked = create(join(storage.uri, "asked"), CANDIDATES, {}, {}, num_parts)
        for part in range(num_parts):
            asked.commit(
                part, pa.table({"pair_id": pair_ids[part * PAIRS_PER_PART : (part + 1) * PAIRS_PER_PART]}), 0.0
            )
        sealed = asked.seal()
        facts = create(
            join(storage.uri, "facts"), CANDIDATE_FACTS, {"columns": self.columns}, {"asked": sealed}, num_parts
        )
        stage = MapStage(
            "screen",
            ReadPart(sealed),
            FactsPart(self.columns, self.artifacts, facts),
            retries=self.recipe.cluster.part_retries,
        )
        map_parts(stage, facts.pending(), num_parts)
        if num_parts == 0:
            return Screen(pair_ids, np.ones(0, bool), np.zeros(0, np.int64))
        table = pa.concat_tables(facts.seal().tables())
        found = screen(table, score, self.recipe.retrieve, self.references, self.recipe.seed)
        storage.delete_all()
        return found


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
