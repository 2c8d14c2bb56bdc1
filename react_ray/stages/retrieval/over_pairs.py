"""Works on some pairs where they lie: those of a small database in this process, those of a large one by the workers.

Memory grows with the pairs that are asked for and not with the database.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pyarrow as pa

from react_ray.draft import Draft, create
from react_ray.kinds import CANDIDATE_FACTS, CANDIDATES, NoFacts
from react_ray.manifest import Receipt
from react_ray.recipe import ClusterConfig
from react_ray.runtime.map_parts import MapStage, ReadPart, Work, map_parts
from react_ray.stages.retrieval.database import Database
from react_ray.storage import join, open_storage

PAIRS_PER_PART = 1 << 16

Answer = Callable[[pa.Table], pa.Table]  # gives a row for each row; it travels to every process


def over_pairs(
    name: str, place: str, asked: pa.Table, answer: Answer, database: Database, cluster: ClusterConfig
) -> pa.Table:
    """Returns what `answer` gives for the rows of `asked`, in their order.

    name: in the progress display. place: URI of a folder that is emptied before and after. asked: any columns.
    """
    open_storage(place).delete_all()  # what an interrupted run left
    parts = [asked.slice(first, PAIRS_PER_PART) for first in range(0, max(1, asked.num_rows), PAIRS_PER_PART)]
    if database.is_small:
        return pa.concat_tables([answer(part) for part in parts])
    draft = create(join(place, "asked"), CANDIDATES, {}, {}, len(parts))
    for number, part in enumerate(parts):
        draft.commit(number, part, 0.0)
    stored = draft.seal()
    answered = create(join(place, "answered"), CANDIDATE_FACTS, {}, {"asked": stored}, len(parts))
    stage = MapStage(name, ReadPart(stored), AnswerPart(answer, answered), retries=cluster.part_retries)
    map_parts(stage, answered.pending(), len(parts))
    found = pa.concat_tables(answered.seal().tables())
    open_storage(place).delete_all()
    return found


class AnswerPart(Work):
    def __init__(self, answer: Answer, answered: Draft[NoFacts]) -> None:
        self.answer, self.answered = answer, answered

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        return self.answered.commit(part, self.answer(table), time.monotonic() - began)
