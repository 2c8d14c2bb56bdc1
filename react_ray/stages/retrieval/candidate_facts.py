"""Reads columns of some pairs where they lie."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.recipe import ClusterConfig
from react_ray.search.facts import facts_of
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.over_pairs import over_pairs


def candidate_facts(
    place: str, pair_ids: np.ndarray, columns: list[str], database: Database, cluster: ClusterConfig
) -> pa.Table:
    """Returns pair_id and these columns of search/facts.py, in the order of pair_ids int64 [N].

    place: URI of a folder that is emptied before and after.
    """
    read = partial(_facts, database.artifacts(), columns)
    return over_pairs("screen", place, pa.table({"pair_id": pair_ids}), read, database, cluster)


def _facts(artifacts: dict[str, Artifact], columns: list[str], asked: pa.Table) -> pa.Table:
    return facts_of(artifacts, asked["pair_id"].to_numpy(), columns)
