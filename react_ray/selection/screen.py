"""Screens the pairs that were hit: duplicates and images of evaluation sets may not be chosen.

Takes candidates (pair_id and best score) with their URL, hashes and vectors; gives one Screen. Of several duplicates,
the pair with the best score stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray.errors import ConfigError
from react_ray.selection.config import DecontaminateConfig, DedupConfig, RetrieveConfig
from react_ray.selection.duplicates import NONE, equal_keys, near_hashes, near_vectors, within_cosine, within_hashes
from react_ray.selection.references import References
from react_ray.vectors import from_vectors


@dataclass(frozen=True)
class Screen:
    """pair_ids int64 [N] ascending; kept bool [N]; host int64 [N], equal for pairs from one host, -1 for pairs without;
    of int64 [N], the row of the pair that each one duplicates, its own if none."""

    pair_ids: np.ndarray
    kept: np.ndarray
    host: np.ndarray
    of: np.ndarray
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> pairs

    def at(self, pair_ids: np.ndarray) -> np.ndarray:
        """Returns the positions of these pairs, all of which must have been screened."""
        at = np.searchsorted(self.pair_ids, pair_ids)
        assert np.array_equal(self.pair_ids[np.minimum(at, len(self.pair_ids) - 1)], pair_ids), (
            "a pair was not screened"
        )
        return at


def columns_needed(config: RetrieveConfig) -> list[str]:
    """Returns which of the columns url, sha256, phash and image (the vector) `screen` needs."""
    near = (config.dedup, config.decontaminate)
    asked = {
        "url": config.dedup.url or config.max_per_domain > 0,
        "sha256": config.dedup.sha256,
        "phash": any(part.phash >= 0 for part in near),
        "image": any(part.cosine > 0 for part in near),
    }
    return [name for name, is_asked in asked.items() if is_asked]


def check_screening(config: RetrieveConfig, has_images: bool, has_vectors: bool) -> None:
    """ConfigError if a check has no radius or no sets, or needs what the database does not have: images, or their
    vectors."""
    wanted, columns = config.decontaminate, columns_needed(config)
    if wanted.datasets and wanted.phash < 0 and not wanted.cosine:
        raise ConfigError(
            "retrieve.decontaminate.datasets are named, but no radius; set retrieve.decontaminate.phash or cosine"
        )
    if (wanted.phash >= 0 or wanted.cosine) and not wanted.datasets:
        raise ConfigError("retrieve.decontaminate has a radius, but no sets; set retrieve.decontaminate.datasets=[all]")
    if not has_images and {"sha256", "phash"} & set(columns):
        raise ConfigError(
            "retrieve.dedup and decontaminate by sha256 or phash need the images before retrieval; set "
            "download.of=pairs, or use dedup.url"
        )
    if "image" in columns and not has_vectors:
        raise ConfigError(
            "retrieve.dedup.cosine and decontaminate.cosine compare images; set embed.images=true, or leave them at 0"
        )
    if config.min_image_score > -1 and not has_vectors:
        raise ConfigError("retrieve.min_image_score compares images; set embed.images=true, or leave it out")


def screen(
    facts: pa.Table, score: np.ndarray, config: RetrieveConfig, references: References | None, seed: int = 0
) -> Screen:
    """facts: pair_id (ascending) and the columns of `columns_needed`; score: float32 [N], that of each pair's best hit.

    Pairs near an evaluation image are dropped first. Of duplicates the pair with the best score stays, then the one
    with the smaller pair_id.
    """
    pair_ids = facts["pair_id"].to_numpy()
    kept = np.ones(len(pair_ids), dtype=bool)
    of = np.arange(len(pair_ids))
    dropped: dict[str, int] = {}

    def drop(reason: str, rows: np.ndarray) -> None:
        dropped[reason] = int(kept[rows].sum())
        kept[rows] = False

    if references is not None:
        for reason, rows in _contaminated(facts, config.decontaminate, references):
            drop(reason, rows)
    for reason in _reasons(config.dedup):
        order = np.lexsort((pair_ids, -score))
        order = order[kept[order]]
        original = _duplicates(facts, order, reason, config.dedup, seed)
        rows = np.flatnonzero(original != NONE)
        of[order[rows]] = order[original[rows]]
        drop(f"duplicate {reason}", order[rows])
    while not np.array_equal(of, of[of]):  # what it duplicates may duplicate another pair in another way
        of = of[of]
    host = np.zeros(len(pair_ids), dtype=np.int64)
    if config.max_per_domain:
        host = (
            hosts(facts["url"]).dictionary_encode().combine_chunks().indices.fill_null(-1).to_numpy().astype(np.int64)
        )
    return Screen(pair_ids, kept, host, of, dropped)


def hosts(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns string [N]: the host of each URL in lower case, without port and www; null for a URL without host."""
    found = pc.extract_regex(urls, r"^[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/?#@]*@)?(?:[wW]{3}\.)?(?P<host>[^/?#:]+)")
    return pc.utf8_lower(pc.struct_field(found, "host"))


def _contaminated(facts: pa.Table, config: DecontaminateConfig, references: References) -> list[tuple[str, np.ndarray]]:
    out = []
    if config.phash >= 0:
        rows, hashes = _hashes(facts, np.arange(facts.num_rows))
        out.append(("evaluation phash", rows[within_hashes(hashes, references.hashes, config.phash)]))
    if config.cosine > 0:
        near = within_cosine(from_vectors(facts["image"]), references.vectors_RD, config.cosine)
        out.append(("evaluation cosine", np.flatnonzero(near)))
    return out


def _reasons(config: DedupConfig) -> list[str]:
    asked = {"url": config.url, "sha256": config.sha256, "phash": config.phash >= 0, "cosine": config.cosine > 0}
    return [name for name, is_asked in asked.items() if is_asked]


def _duplicates(facts: pa.Table, order: np.ndarray, reason: str, config: DedupConfig, seed: int) -> np.ndarray:
    """Returns int64 [len(order)]: the position in `order` of the row that each row duplicates, or -1."""
    if reason == "cosine":
        return near_vectors(from_vectors(facts["image"])[order], config.cosine, seed)
    if reason != "phash":
        codes = facts[reason].combine_chunks().dictionary_encode().indices
        return equal_keys(pc.add(codes.cast(pa.int64()), 1).fill_null(0).to_numpy()[order])
    out = np.full(len(order), NONE, dtype=np.int64)
    rows, hashes = _hashes(facts, order)
    found = near_hashes(hashes, config.phash)
    out[rows] = np.where(found == NONE, NONE, rows[np.maximum(found, 0)]) if len(rows) else NONE
    return out


def _hashes(facts: pa.Table, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions in `order` of the rows that have a hash, and their hashes, uint64."""
    column = facts["phash"].combine_chunks()
    rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)[order])
    return rows, column.fill_null(0).to_numpy()[order][rows]
