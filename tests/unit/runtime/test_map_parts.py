"""The pipeline of a map stage, on a Ray that somebody else has initialised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray.data import DataContext

from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch, PartFailed
from react_ray.kinds import Kind, NoFacts
from react_ray.manifest import Receipt
from react_ray.runtime.attempts import Attempts, WorkerDied
from react_ray.runtime.map_parts import Change, MapStage, Step, Work, map_parts

ROWS = Kind("rows", NoFacts, "")
WIDE = 20_000  # rows of 1 kB: far more than the block size that the test's own context allows


class Commit(Work):
    def __init__(self, draft: Draft[NoFacts]) -> None:
        self.draft = draft

    def setup(self) -> None:
        self.seconds = 1.0

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        return self.draft.commit(part, table, self.seconds)


class Refuse(Change):
    def __call__(self, part: int, table: pa.Table) -> pa.Table:
        raise ArtifactMismatch(f"part {part} is not wanted; name another")


class Break(Change):
    def __call__(self, part: int, table: pa.Table) -> pa.Table:
        raise ZeroDivisionError("nobody foresaw this")


def wide(part: int) -> pa.Table:
    return pa.table({"row": range(WIDE), "data": [np.random.default_rng(part).bytes(1024)] * WIDE})


def test_a_part_stays_one_block_on_a_ray_that_was_initialised_elsewhere(local_ray: None, tmp_path: Path) -> None:
    context = DataContext.get_current()
    before = context.target_max_block_size
    context.target_max_block_size = 1 << 20  # Ray would cut each part into twenty blocks, and each be committed
    try:
        draft = create(str(tmp_path / "rows"), ROWS, {}, {}, 2)
        map_parts(MapStage("wide", wide, Commit(draft)), draft.pending(), 2)
        assert context.target_max_block_size == 1 << 20, "the user's own setting stays"
    finally:
        context.target_max_block_size = before
    made = draft.seal()
    assert [receipt.rows for receipt in made.receipts()] == [WIDE, WIDE]
    assert [table.num_rows for table in made.tables(["row"])] == [WIDE, WIDE]


def test_a_part_may_take_longer_than_ray_waits_for_progress(local_ray: None, tmp_path: Path) -> None:
    context = DataContext.get_current()
    before = context.execution_no_progress_timeout_s
    context.execution_no_progress_timeout_s = 0.01  # no process starts in this time
    try:
        draft = create(str(tmp_path / "rows"), ROWS, {}, {}, 1)
        map_parts(MapStage("slow", lambda part: pa.table({"row": [part]}), Commit(draft)), draft.pending(), 1)
    finally:
        context.execution_no_progress_timeout_s = before
    assert draft.seal().rows == 1


@pytest.mark.parametrize(
    "change, error, said", [(Refuse, ArtifactMismatch, "part 0 is not wanted"), (Break, PartFailed, "nobody foresaw")]
)
def test_the_error_of_a_step_reaches_the_caller_as_itself(
    local_ray: None, tmp_path: Path, change: Any, error: type[Exception], said: str
) -> None:
    draft = create(str(tmp_path / "rows"), ROWS, {}, {}, 1)
    stage = MapStage("small", lambda part: pa.table({"row": [part]}), Commit(draft), steps=(Step(change()),))
    with pytest.raises(error, match=said):
        map_parts(stage, draft.pending(), 1)
    assert ray.is_initialized() and draft.pending() == [0]


class Nothing(Change):
    def __call__(self, part: int, table: pa.Table) -> Any:
        return None  # which the pipeline itself, outside of any part, cannot take


def test_a_pipeline_that_ray_ends_is_tried_again_and_ends_in_one_line(local_ray: None, tmp_path: Path) -> None:
    draft = create(str(tmp_path / "rows"), ROWS, {}, {}, 1)
    stage = MapStage(
        "small", lambda part: pa.table({"row": [part]}), Commit(draft), steps=(Step(Nothing()),), retries=1
    )
    with pytest.raises(PartFailed, match=r"Ray ended the work 2 times: .*; what is done is kept, run ") as failed:
        map_parts(stage, draft.pending(), 1)
    assert "\n" not in str(failed.value)


def test_parts_in_work_are_those_that_have_begun_and_not_ended(local_ray: None) -> None:
    attempts = Attempts("small", 0)
    assert attempts.outcome(3, attempts.in_work) == [3] and attempts.in_work() == []
    assert isinstance(attempts.outcome(4, lambda: attempts.outcome(4, int)), WorkerDied), "as after a death within it"
