"""Commits a part that kills its process, in a process of its own: the rows that kill it are found and marked.

Rows are tried with all others blanked, which means that their payload is null: the process dies or lives. A piece of
which it dies is cut into PIECES smaller ones, so that a killer among n rows costs about log16(n) deaths. Nothing is
stored meanwhile. Then the part is committed with the status `crashed` for the rows that kill, and all other rows are
what they would have been without them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray import cloudpickle

from react_ray import schema
from react_ray.errors import PartFailed, ReactRayError
from react_ray.manifest import Receipt
from react_ray.runtime.attempts import attempt
from react_ray.runtime.cluster import nodes
from react_ray.runtime.work import MapStage, RowChange, RowWork

logger = logging.getLogger(__name__)

PIECES = 16  # a death costs the start of a process, of a model too, and a piece only its own rows
MOST_KILLERS = 20  # of one part; where more rows kill, the machine or a library is broken, and not the rows
CRASHED = "the process that worked on it died"
KEPT = "what is done is kept; when the cause is gone, run the same command again"
Rows = Sequence[int] | range


def commit_alone(stage: MapStage, part: int) -> Receipt:
    """Returns the receipt of the part. Raises PartFailed if its process dies whatever its rows are."""
    alone = _Alone(stage, part)
    try:
        return _commit(alone, stage, part)
    finally:
        alone.end()


def _commit(alone: _Alone, stage: MapStage, part: int) -> Receipt:
    where = f"{stage.name}: the process that works on part {part} dies"
    num_rows = _again(stage.retries, alone.num_rows)
    if num_rows is None:
        if stage.instead is None:
            raise PartFailed(f"{where} while it reads, most often of a damaged file; {KEPT}")
        alone.replace(PartFailed(f"{where} while it reads"))
    if (receipt := alone.commit()) is not None:
        return receipt
    if not isinstance(stage.work, RowWork) or not all(isinstance(step.change, RowChange) for step in stage.steps):
        receipt = _again(stage.retries, alone.commit)
        if receipt is None:
            raise PartFailed(f"{where} {stage.retries + 2} times, most often for want of memory; {KEPT}")
        return receipt
    if not _survives(alone, range(0), stage.retries + 1):
        raise PartFailed(f"{where} whatever its rows are, most often for want of memory; {KEPT}")
    killers = _find(alone, range(num_rows or 0), stage.retries)
    if len(killers) > MOST_KILLERS:
        raise PartFailed(
            f"{where} of more than {MOST_KILLERS} rows (the first is row {killers[0]}), so that the cause is not in "
            f"the rows: most often a damaged installation, or too little memory; {KEPT}"
        )
    logger.warning("%s part %d: rows %s kill their process", stage.name, part, killers)
    receipt = _again(stage.retries, partial(alone.commit, killers))
    if receipt is None:
        raise PartFailed(
            f"{where}, but none of its rows does so alone, most often for want of memory; {KEPT}, with more memory or "
            "fewer processes per node"
        )
    return receipt


def _again(retries: int, ask: Callable[[], Any]) -> Any:
    """The first answer, None if the process died once more than `retries`."""
    return next((answer for answer in (ask() for _ in range(retries + 1)) if answer is not None), None)


def _survives(alone: _Alone, suspects: range, tries: int) -> bool:
    return any(alone.survives(suspects) for _ in range(tries))


def _find(alone: _Alone, suspects: range, retries: int) -> list[int]:
    """The rows that kill, of some that kill together; it stops after MOST_KILLERS."""
    if len(suspects) == 1:  # another process may have taken the memory: a row has its chances like a part
        return [] if _survives(alone, suspects, max(1, retries)) else [suspects[0]]
    found: list[int] = []
    size = max(1, -(-len(suspects) // PIECES))
    for piece in (suspects[start : start + size] for start in range(0, len(suspects), size)):
        if len(found) <= MOST_KILLERS and not alone.survives(piece):
            found += _find(alone, piece, retries)
    return found


class _Alone:
    """The process of one part, which is started again whenever it has died."""

    def __init__(self, stage: MapStage, part: int) -> None:
        self.stage, self.part = stage, part
        options = {name: value for name, value in stage.options.items() if name != "compute"}
        self.options = {"num_cpus": 0.5, "max_restarts": 0, "max_task_retries": 0} | options
        self.packed = cloudpickle.dumps(stage)
        self.actor: Any = None
        self.instead: PartFailed | None = None

    def num_rows(self) -> int | None:
        """The rows of the part, None if the process died."""
        return self._ask("num_rows")

    def replace(self, error: PartFailed) -> None:
        """From now on the part has the rows that its stage gives for one that cannot be read."""
        self.instead = error

    def commit(self, killers: Rows = ()) -> Receipt | None:
        """The receipt, None if the process died."""
        return self._ask("commit", list(killers))

    def survives(self, suspects: range) -> bool:
        """Whether the process lives if these rows are worked on, and no others."""
        return self._ask("rehearse", suspects) is not None

    def end(self) -> None:
        if self.actor is not None:
            ray.kill(self.actor)

    def _ask(self, method: str, *arguments: Any) -> Any:
        """The answer, or None if the process died. A process that a lost node took along is started again."""
        while True:
            node = ""
            try:
                if self.actor is None:
                    actor: Any = ray.remote(LoneProcess).options(**self.options)
                    self.actor = actor.remote(self.packed, self.part, self.instead)
                node = ray.get(self.actor.node.remote())
                answer = ray.get(getattr(self.actor, method).remote(*arguments))
            except ray.exceptions.RayTaskError as error:
                raise PartFailed(f"{self.stage.name}: part {self.part}: {error.cause}; {KEPT}") from error
            except ray.exceptions.RayError as error:  # ActorDiedError, OutOfMemoryError, NodeDiedError
                logger.warning("%s part %d alone, %s: %s", self.stage.name, self.part, method, error)
                self.actor = None
                if node and node not in {each["NodeID"] for each in nodes()}:
                    continue
                return None
            if isinstance(answer, ReactRayError):
                raise answer
            return answer


class LoneProcess:
    """Reads the part once and works on it as asked."""

    def __init__(self, packed: bytes, part: int, instead: PartFailed | None) -> None:
        self.packed, self.part, self.instead = packed, part, instead
        self.stage: MapStage | None = None
        self.table: pa.Table | None = None

    def node(self) -> str:
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def num_rows(self) -> int | ReactRayError:
        table = self._table()
        return table if isinstance(table, ReactRayError) else table.num_rows

    def commit(self, killers: list[int]) -> Receipt | ReactRayError:
        return self._run(partial(self._commit, killers) if killers else self._as_always)

    def rehearse(self, suspects: range) -> bool | ReactRayError:
        return self._run(partial(self._rehearse, suspects))

    def _run(self, action: Any) -> Any:
        table = self._table()
        if isinstance(table, ReactRayError):
            return table
        assert self.stage is not None
        return attempt(self.stage.name, self.part, partial(action, self.stage, table), self.stage.retries)

    def _table(self) -> pa.Table | ReactRayError:
        if self.stage is None:
            stage: MapStage = cloudpickle.loads(self.packed)
            for step in stage.steps:
                step.change.setup()
            self.stage = stage
            self.is_set_up = False
        if self.table is None:
            read = partial(self.stage.read, self.part)
            if self.instead is not None and self.stage.instead is not None:
                read = partial(self.stage.instead, self.part, self.instead)
            outcome = attempt(self.stage.name, self.part, read, self.stage.retries)
            if isinstance(outcome, PartFailed) and self.stage.instead is not None:
                outcome = self.stage.instead(self.part, outcome)
            if isinstance(outcome, ReactRayError):
                return outcome
            self.table = outcome
        return self.table

    def _set_up(self, stage: MapStage) -> None:
        if not self.is_set_up:
            stage.work.setup()
            self.is_set_up = True

    def _as_always(self, stage: MapStage, table: pa.Table) -> Receipt:
        self._set_up(stage)
        for step in stage.steps:
            table = step.change(self.part, table)
        return stage.work(self.part, table)

    def _commit(self, killers: list[int], stage: MapStage, table: pa.Table) -> Receipt:
        self._set_up(stage)
        assert isinstance(stage.work, RowWork)
        for change in (step.change for step in stage.steps):
            assert isinstance(change, RowChange)
            began = time.monotonic()
            made = _marked(change.make(self.part, _blanked(table, change.payload(table), killers)), killers)
            change.store(self.part, made, time.monotonic() - began)
            table = made.select(change.columns)
        began = time.monotonic()
        table = _blanked(table, stage.work.payload(table), killers)
        tables = {name: _marked(made, killers) for name, made in stage.work.make(self.part, table).items()}
        return stage.work.commit(self.part, table, tables, time.monotonic() - began)

    def _rehearse(self, suspects: range, stage: MapStage, table: pa.Table) -> bool:
        self._set_up(stage)
        assert isinstance(stage.work, RowWork)
        others = np.setdiff1d(np.arange(table.num_rows), suspects)
        for change in (step.change for step in stage.steps):
            assert isinstance(change, RowChange)
            table = change.make(self.part, _blanked(table, change.payload(table), others)).select(change.columns)
        stage.work.make(self.part, _blanked(table, stage.work.payload(table), others))
        return True


def _blanked(table: pa.Table, columns: list[str], rows: Sequence[int] | np.ndarray) -> pa.Table:
    """The table, with nulls in these rows of these columns."""
    blank = np.zeros(table.num_rows, bool)
    blank[list(rows)] = True
    for column in columns:
        values = pc.if_else(pa.array(blank), pa.scalar(None, table[column].type), table[column])
        table = table.set_column(table.column_names.index(column), column, values)
    return table


def _marked(table: pa.Table, rows: list[int]) -> pa.Table:
    """The table, with the status `crashed` in these rows, unless they are ok without their payload."""
    if "status" not in table.column_names:
        return table
    rows = [row for row in rows if table["status"][row].as_py() != schema.OK]
    for column, value in (("status", schema.CRASHED), ("error", CRASHED)):
        if column in table.column_names:
            values = table[column].to_pylist()
            for row in rows:
                values[row] = value
            place, field = table.column_names.index(column), table.schema.field(column)
            table = table.set_column(place, field, pa.array(values, field.type))
    return table
