"""The flow of a map stage: pending parts -> read (CPU tasks) -> [steps] -> work (tasks or an actor pool) -> receipts.

One part = one Ray Data block = one unit of commit. The last operator commits its part and yields the receipt; the
driver only ever sees receipts. A part that raises is tried again, then the stage stops with PartFailed; committed parts
stay, and the same command continues from there. A part whose process dies again and again is done at the end, in a
process of its own (isolation.py), so that nobody else dies with it.
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from threading import Lock
from typing import Any

import pyarrow as pa
import ray.data
from ray import cloudpickle
from ray.data import DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from react_ray import schema
from react_ray.errors import PartFailed, ReactRayError
from react_ray.manifest import Receipt
from react_ray.progress import Progress, say
from react_ray.row_guard import one_line
from react_ray.runtime.attempts import Attempts, WorkerDied, attempt
from react_ray.runtime.cluster import is_running, need, quiet
from react_ray.runtime.isolation import commit_alone
from react_ray.runtime.work import Change, MapStage, ReadNothing, ReadPart, RowChange, RowWork, Step, Work

__all__ = ["Change", "MapStage", "ReadNothing", "ReadPart", "RowChange", "RowWork", "Step", "Work", "map_parts"]

logger = logging.getLogger(__name__)

PART, ROWS, EMPTY, ERROR = "_part", "_rows", "_empty", "_error"
READ_CPUS = 0.25  # reading waits for storage; actors leave half a core each for it, or nothing would ever be read
_SETTING_UP = Lock()


def map_parts(stage: MapStage, pending: list[int], total: int, watch: Callable[[Receipt], None] | None = None) -> None:
    """Run a stage over all pending parts, of `total` parts that its artifact has.

    watch: sees each receipt as it arrives; an error that it raises stops the stage.
    """
    if not pending:
        return
    here = stage.here or (stage.light and not is_running())
    if not here:
        need()
    if not logger.isEnabledFor(logging.INFO):
        quiet()  # Ray Data sets the level of its own logger when it is imported
    with Progress(stage.name, total, stage.noun) as progress:
        if len(pending) < total:
            progress.advance(done=total - len(pending), note="already done")

        def arrived(receipt: Receipt) -> None:
            progress.advance(rows=receipt.rows, ok=receipt.ok)
            if watch is not None:
                watch(receipt)

        alone: list[Receipt] = []
        if here:
            _in_this_process(stage, pending, arrived)
            return
        for part in _through_the_pipeline(stage, pending, arrived):
            progress.advance(done=0, note=f"part {part} kills its process: it is done alone")
            alone.append(commit_alone(stage, part))
            arrived(alone[-1])
    for receipt in alone:
        rows = receipt.statuses.get(schema.CRASHED, 0)
        say(f"{stage.name:<10} part {receipt.part} killed its process and was done alone: {rows} rows are crashed")


def _in_this_process(stage: MapStage, pending: list[int], arrived: Callable[[Receipt], None]) -> None:
    """Commits all pending parts, one after the other."""
    stage.work.setup()
    for part in pending:
        outcome = attempt(stage.name, part, partial(_commit_here, stage, part), stage.retries)
        if isinstance(outcome, ReactRayError):
            raise outcome
        arrived(outcome)


def _commit_here(stage: MapStage, part: int) -> Receipt:
    return stage.work(part, stage.read(part))


def _through_the_pipeline(stage: MapStage, pending: list[int], arrived: Callable[[Receipt], None]) -> list[int]:
    """Commits all pending parts but those that it returns, which have killed their processes."""
    left, died, tries = dict.fromkeys(pending), [], 0
    while left:
        attempts = Attempts(stage.name, stage.retries)
        try:
            with DataContext.current(_one_block_a_part()):
                for row in _pipeline(stage, list(left), attempts).iter_rows():
                    outcome = pickle.loads(row["error"]) if row["error"] else Receipt(**json.loads(row["receipt"]))
                    del left[row["part"]]
                    if isinstance(outcome, WorkerDied):
                        died.append(row["part"])
                    elif isinstance(outcome, ReactRayError):
                        raise outcome
                    else:
                        arrived(outcome)
            break
        except ray.exceptions.RayError as error:  # Ray itself gave up: no memory left, or actors that do not start
            tries += 1
            logger.warning("%s: Ray ended the pipeline, %d times now (%s)", stage.name, tries, error)
            if tries > stage.retries:
                tries, in_work = 0, [part for part in attempts.in_work() if part in left]
                if not in_work:
                    raise PartFailed(
                        f"{stage.name}: Ray ended the work {stage.retries + 1} times: {one_line(error, 500)}; what is "
                        "done is kept, run the same command again when the cause is gone"
                    ) from error
                died += in_work
                left = dict.fromkeys(part for part in left if part not in in_work)
        finally:
            attempts.forget()
    return sorted(died)


def _one_block_a_part() -> DataContext:
    """Ray's own context, except that it never splits a block, since each piece would be committed over the one before,
    and that a part may take hours: Ray would give up after half an hour in which none has ended."""
    context = DataContext.get_current().copy()
    context.target_max_block_size = 1 << 40
    context.target_min_block_size = 1
    context.execution_no_progress_timeout_s = -1
    context.enable_progress_bars = False
    return context


def _pipeline(stage: MapStage, pending: list[int], attempts: Attempts) -> ray.data.Dataset:
    """A dataset of one row per part: its number, and its receipt or its error."""
    parts = _Parts(stage, pending, attempts)
    blocks = ray.data.read_datasource(parts, override_num_blocks=len(pending), num_cpus=READ_CPUS)
    for step in stage.steps:
        blocks = _map(blocks, _Changer, step.change, attempts, step.options)
    return _map(blocks, _Worker, stage.work, attempts, stage.options)


def _map(
    blocks: ray.data.Dataset, kind: type[_Stage], runs: Work | Change, attempts: Attempts, options: dict[str, Any]
) -> ray.data.Dataset:
    arguments = cloudpickle.dumps(runs), attempts
    made: dict[str, Any] = (
        {"fn": kind, "fn_constructor_args": arguments} if "compute" in options else {"fn": kind(*arguments)}
    )
    return blocks.map_batches(**made, batch_size=None, batch_format="pyarrow", **options)


class _Parts(Datasource):
    """One small read task per part: the part's table, with its number and its row count beside every row."""

    def __init__(self, stage: MapStage, pending: list[int], attempts: Attempts) -> None:
        super().__init__()
        packed = cloudpickle.dumps((stage.read, stage.instead))
        self.pending, self.read = pending, partial(_read, packed, attempts)

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        nothing_known = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(self.read, part), nothing_known) for part in self.pending]


def _read(packed: bytes, attempts: Attempts, part: int) -> list[pa.Table]:
    def read() -> pa.Table:
        return cloudpickle.loads(packed)[0](part)

    outcome = attempts.outcome(part, read)
    if isinstance(outcome, PartFailed) and not isinstance(outcome, WorkerDied):
        instead = cloudpickle.loads(packed)[1]
        outcome = outcome if instead is None else attempt(attempts.name, part, partial(instead, part, outcome), 0)
    return [_block(part, outcome)]


def _block(part: int, outcome: pa.Table | ReactRayError) -> pa.Table:
    """A table with its part's number and row count beside every row, or a row that says why there is none."""
    if isinstance(outcome, ReactRayError):
        return pa.table({PART: [part], ERROR: [pickle.dumps(outcome)]})
    num_rows = outcome.num_rows
    if num_rows == 0:
        return pa.table({PART: [part], EMPTY: [True]})
    numbers = {PART: part, ROWS: num_rows}
    for column, number in numbers.items():
        outcome = outcome.append_column(column, pa.array([number] * num_rows, pa.int32()))
    return outcome


class _Stage:
    """Works on the blocks of one process; what it runs is unpacked and set up when its first part comes."""

    def __init__(self, packed: bytes, attempts: Attempts) -> None:
        """packed: a Work or Change, whose import may kill the process too."""
        self.packed, self.attempts = packed, attempts
        self.runs: Any = None

    def outcome(self, batch: pa.Table) -> Any:
        """What `runs(part, table)` returns, or a ReactRayError: its own, or that of an earlier step."""
        part = batch[PART][0].as_py()
        if ERROR in batch.column_names:
            return pickle.loads(batch[ERROR][0].as_py())
        if EMPTY in batch.column_names:
            table = pa.table({})
        else:
            whole = batch[ROWS][0].as_py()
            assert batch.num_rows == whole, f"Ray split part {part}: {batch.num_rows} of its {whole} rows came"
            table = batch.drop_columns([PART, ROWS])

        def run() -> Any:
            with _SETTING_UP:  # the threads of one actor share its work
                if self.runs is None:
                    runs = cloudpickle.loads(self.packed)
                    runs.setup()
                    self.runs = runs
            return self.runs(part, table)

        return self.attempts.outcome(part, run)


class _Changer(_Stage):
    def __call__(self, batch: pa.Table) -> pa.Table:
        return _block(batch[PART][0].as_py(), self.outcome(batch))


class _Worker(_Stage):
    def __call__(self, batch: pa.Table) -> pa.Table:
        part, outcome = batch[PART][0].as_py(), self.outcome(batch)
        if isinstance(outcome, ReactRayError):
            return pa.table({"part": [part], "receipt": [""], "error": [pickle.dumps(outcome)]})
        return pa.table({"part": [part], "receipt": [json.dumps(asdict(outcome))], "error": [b""]})
