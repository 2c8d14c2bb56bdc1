"""Reads columns of some pairs where they lie: of a small database here, of a large one by the workers.

Memory grows with the pairs that are asked for and not with the database.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.draft import Draft, create
from react_ray.kinds import CANDIDATE_FACTS, CANDIDATES, NoFacts
from react_ray.manifest import Receipt
from react_ray.recipe import ClusterConfig
from react_ray.runtime.map_parts import MapStage, ReadPart, Work, map_parts
from react_ray.search.facts import facts_of
from react_ray.stages.retrieval.database import Database
from react_ray.storage import join, open_storage

PAIRS_PER_PART = 1 << 16


def candidate_facts(
    place: str, pair_ids: np.ndarray, columns: list[str], database: Database, cluster: ClusterConfig
) -> pa.Table:
    """Returns pair_id and these columns of search/facts.py, in the order of pair_ids int64 [N].

    place: URI of a folder that is emptied before and after.
    """
    artifacts = database.artifacts()
    open_storage(place).delete_all()  # what an interrupted run left
    if database.is_small:
        return facts_of(artifacts, pair_ids, columns)
    num_parts = -(-len(pair_ids) // PAIRS_PER_PART)
    draft = create(join(place, "asked"), CANDIDATES, {}, {}, num_parts)
    for part in range(num_parts):
        rows = slice(part * PAIRS_PER_PART, (part + 1) * PAIRS_PER_PART)
        draft.commit(part, pa.table({"pair_id": pair_ids[rows]}), 0.0)
    asked = draft.seal()
    facts = create(join(place, "facts"), CANDIDATE_FACTS, {"columns": columns}, {"asked": asked}, num_parts)
    stage = MapStage("screen", ReadPart(asked), FactsPart(columns, artifacts, facts), retries=cluster.part_retries)
    map_parts(stage, facts.pending(), num_parts)
    found = pa.concat_tables(facts.seal().tables())
    open_storage(place).delete_all()
    return found


class FactsPart(Work):
    def __init__(self, columns: list[str], artifacts: dict[str, Artifact], facts: Draft[NoFacts]) -> None:
        self.columns, self.artifacts, self.facts = columns, artifacts, facts

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        out = facts_of(self.artifacts, table["pair_id"].to_numpy(), self.columns)
        return self.facts.commit(part, out, time.monotonic() - began)
