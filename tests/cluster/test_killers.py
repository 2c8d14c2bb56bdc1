"""Whatever kills the processes of a stage, the stage ends, and no row is lost that does not kill."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest

from react_ray.artifact import Artifact
from react_ray.draft import Draft, create
from react_ray.errors import PartFailed
from react_ray.kinds import Kind, NoFacts
from react_ray.manifest import Receipt, part_name
from react_ray.parquet import parquet_bytes
from react_ray.recipe import ClusterConfig
from react_ray.runtime.map_parts import MapStage, RowChange, RowWork, Step, Work, map_parts
from react_ray.runtime.placement import thread_pool
from react_ray.stages.training.loader_actors import iterate
from react_ray.training.batches import Batches

pytestmark = pytest.mark.usefixtures("local_ray")
ROWS, PARTS = 8, 3
KIND = Kind("rows", NoFacts, "")


def read(part: int) -> pa.Table:
    return pa.table({"row": range(part * ROWS, (part + 1) * ROWS), "data": [b"%d" % row for row in range(ROWS)]})


def die(by: int) -> None:
    os.kill(os.getpid(), by)


class Commit(RowWork):
    """Commits its rows, and dies of those whose data it is told."""

    def __init__(self, draft: Draft[NoFacts], kills: dict[tuple[int, bytes], int]) -> None:
        self.draft, self.kills = draft, kills

    def payload(self, table: pa.Table) -> list[str]:
        return ["data"]

    def make(self, part: int, table: pa.Table) -> dict[str, pa.Table]:
        data = table["data"].to_pylist()
        for value in data:
            if value is not None and (part, value) in self.kills:
                die(self.kills[part, value])
        status = ["ok" if value else "empty" for value in data]
        return {"rows": table.append_column("status", pa.array(status))}

    def commit(self, part: int, table: pa.Table, made: dict[str, pa.Table], seconds: float) -> Receipt:
        return self.draft.commit(part, made["rows"], 1.0)


class Double(RowChange):
    """Doubles the data, and dies of some."""

    columns: ClassVar[list[str]] = ["row", "data"]

    def __init__(self, kills: set[tuple[int, bytes]]) -> None:
        self.kills = kills

    def payload(self, table: pa.Table) -> list[str]:
        return ["data"]

    def make(self, part: int, table: pa.Table) -> pa.Table:
        data = table["data"].to_pylist()
        if any((part, value) in self.kills for value in data):
            die(signal.SIGKILL)
        return table.set_column(1, "data", pa.array([value and 2 * value for value in data], pa.binary()))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def made(stage: MapStage, draft: Draft[NoFacts]) -> Artifact[NoFacts]:
    map_parts(stage, draft.pending(), PARTS)
    return draft.seal()


def statuses(rows: Artifact[NoFacts]) -> dict[int, str]:
    """Those that are not ok, by row."""
    found = [row for table in rows.tables() for row in table.to_pylist()]
    assert [row["row"] for row in found] == list(range(PARTS * ROWS))
    return {row["row"]: row["status"] for row in found if row["status"] != "ok"}


@pytest.mark.parametrize(
    "pooled, row, by",
    [(False, 6, signal.SIGSEGV), pytest.param(True, 0, signal.SIGKILL, marks=pytest.mark.slow)],
)
def test_a_row_that_kills_is_marked_and_all_others_are_what_they_are_without_it(
    tmp_path: Path, pooled: bool, row: int, by: int
) -> None:
    options = thread_pool(ClusterConfig(), "fetch", 1, 2) if pooled else {}
    draft = create(str(tmp_path / "rows"), KIND, {}, {}, PARTS)
    kills = {(1, b"%d" % row): by}
    rows = made(MapStage("kill", read, Commit(draft, kills), options=options, retries=0), draft)
    assert statuses(rows) == {ROWS + row: "crashed"}
    assert rows.manifest.statuses == {"ok": PARTS * ROWS - 1, "crashed": 1}
    assert rows.read(1)["data"].to_pylist() == [None if each == row else b"%d" % each for each in range(ROWS)]
    for part in (0, 2):
        expected = read(part).append_column("status", pa.array(["ok"] * ROWS))
        assert rows.receipt(part).files[f"{part_name(part)}.parquet"]["sha256"] == sha256(parquet_bytes(expected))


@pytest.mark.slow
def test_a_row_that_kills_a_step_is_marked_by_the_work(tmp_path: Path) -> None:
    draft = create(str(tmp_path / "rows"), KIND, {}, {}, PARTS)
    step = Step(Double({(2, b"5")}))
    rows = made(MapStage("kill", read, Commit(draft, {}), steps=(step,), retries=0), draft)
    assert statuses(rows) == {2 * ROWS + 5: "crashed"}
    assert rows.read(2)["data"].to_pylist()[4:7] == [b"44", None, b"66"]


class DieOnce(Commit):
    """Dies of one part, as often as there is no file that says so."""

    def __init__(self, draft: Draft[NoFacts], folder: Path, times: int) -> None:
        super().__init__(draft, {})
        self.folder, self.times = folder, times

    def make(self, part: int, table: pa.Table) -> dict[str, pa.Table]:
        for number in range(self.times if part == 1 else 0):
            if not (self.folder / f"{part}.{number}").exists():
                (self.folder / f"{part}.{number}").touch()
                die(signal.SIGKILL)
        return super().make(part, table)


def test_a_part_whose_process_died_of_something_else_is_tried_again_and_loses_no_row(tmp_path: Path) -> None:
    draft = create(str(tmp_path / "rows"), KIND, {}, {}, PARTS)
    rows = made(MapStage("kill", read, DieOnce(draft, tmp_path, 2), retries=1), draft)
    assert statuses(rows) == {}


class Deadly(Work):
    def __init__(self, draft: Draft[NoFacts], in_setup: bool) -> None:
        self.draft, self.in_setup = draft, in_setup

    def setup(self) -> None:
        if self.in_setup:
            die(signal.SIGKILL)

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        if part == 1:
            die(signal.SIGKILL)
        return self.draft.commit(part, table, 1.0)


def deadly_reader(part: int) -> pa.Table:
    if part == 1:
        die(signal.SIGBUS)
    return read(part)


def test_a_stage_ends_in_one_line_and_keeps_what_is_done_if_a_part_kills_whatever_its_rows_are(tmp_path: Path) -> None:
    draft = create(str(tmp_path / "work"), KIND, {}, {}, PARTS)
    with pytest.raises(
        PartFailed, match=r"the process that works on part 1 dies 2 times.* run the same command again"
    ) as failed:
        map_parts(MapStage("kill", read, Deadly(draft, False)), draft.pending(), PARTS)
    assert draft.pending() == [1] and "\n" not in str(failed.value) and failed.value.exit_code == 1


@pytest.mark.slow
def test_a_stage_ends_in_one_line_and_keeps_what_is_done_if_the_reading_of_a_part_kills(tmp_path: Path) -> None:
    draft = create(str(tmp_path / "read"), KIND, {}, {}, PARTS)
    with pytest.raises(PartFailed, match=r"part 1 dies while it reads.* run the same command again") as failed:
        map_parts(MapStage("kill", deadly_reader, Commit(draft, {})), draft.pending(), PARTS)
    assert draft.pending() == [1] and "\n" not in str(failed.value) and failed.value.exit_code == 1


@pytest.mark.slow
def test_a_part_whose_reading_kills_is_put_aside_where_its_stage_says_so(tmp_path: Path) -> None:
    draft = create(str(tmp_path / "rows"), KIND, {}, {}, PARTS)
    stage = MapStage("kill", deadly_reader, Commit(draft, {}), instead=lambda part, error: read(part))
    assert statuses(made(stage, draft)) == {}


@pytest.mark.slow
def test_a_stage_whose_processes_die_before_their_first_part_ends(tmp_path: Path) -> None:
    draft = create(str(tmp_path / "rows"), KIND, {}, {}, 1)
    options = thread_pool(ClusterConfig(), "fetch", 1, 2)
    with pytest.raises(PartFailed, match="run the same command again"):
        map_parts(MapStage("kill", read, Deadly(draft, True), options=options), draft.pending(), 1)


class DeadlyRows:
    """Rows of a training, of which one image kills whoever augments it."""

    block_sizes: ClassVar[list[int]] = [4]
    block_bytes: ClassVar[list[int]] = [4]

    def read(self, block: int) -> pa.Table:
        return pa.table({"image": [b"a", b"b", b"deadly", b"d"], "captions": [["a"], ["b"], ["c"], ["d"]]})


def augment(image: bytes, seed: int) -> np.ndarray:
    if image == b"deadly":
        die(signal.SIGKILL)
    return np.zeros((3, 8, 8), np.uint8)


@pytest.mark.slow
def test_a_loader_that_dies_at_the_same_batch_is_not_started_again_without_end() -> None:
    batches = Batches(DeadlyRows(), batch_size=4, image_size=8, seed=0, augment=augment)
    with pytest.raises(PartFailed, match=r"the batch of step 0 died 4 times.* run the same command again"):
        list(iterate(batches, 0, 1, 1, {"num_cpus": 0.5}))
