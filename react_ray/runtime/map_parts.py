"""The flow of a map stage: pending parts -> read (CPU tasks) -> [steps] -> work (tasks or an actor pool) -> receipts.

One part = one Ray Data block = one unit of commit. The last operator commits its part and yields the receipt; the
driver only ever sees receipts. A part that raises is tried again, then the stage stops with PartFailed; committed parts
stay, and the same command continues from there.
"""

from __future__ import annotations

import json
import logging
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from threading import Lock
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from react_ray.artifact import Artifact
from react_ray.errors import ArtifactCorrupt, PartFailed, ReactRayError, StorageError
from react_ray.manifest import Receipt
from react_ray.progress import Progress
from react_ray.runtime.cluster import quiet

logger = logging.getLogger(__name__)

Read = Callable[[int], pa.Table]
Instead = Callable[[int, ReactRayError], pa.Table]
PART, ROWS, EMPTY, ERROR = "_part", "_rows", "_empty", "_error"
READ_CPUS = 0.25  # reading waits for storage; actors leave half a core each for it, or nothing would ever be read
_SETTING_UP = Lock()


class Work:
    """What a stage does to one part: `work(part, table)` commits the part and returns its receipt.

    The object itself travels to every process, so it holds only what is small; `setup` makes the rest there.
    """

    def setup(self) -> None:
        """Called once in each process, before its first part: load a model, open connections."""

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        raise NotImplementedError


class Change:
    """What a step on the way to the work does to one part: `change(part, table)` returns another table."""

    def setup(self) -> None:
        """As Work.setup."""

    def __call__(self, part: int, table: pa.Table) -> pa.Table:
        raise NotImplementedError


class ReadPart:
    """The usual reader: these columns of the same part of an artifact; None = all."""

    def __init__(self, artifact: Artifact, columns: list[str] | None = None) -> None:
        self.artifact, self.columns = artifact, columns

    def __call__(self, part: int) -> pa.Table:
        return self.artifact.read(part, self.columns)


class ReadNothing:
    """For work that reads what it needs itself: only the number of the part goes through the object store."""

    def __call__(self, part: int) -> pa.Table:
        return pa.table({})


@dataclass(frozen=True)
class Step:
    """A change of the table between reading and work. options: as in MapStage; `compute=` gives it its own actors."""

    change: Change
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MapStage:
    """How each part of a stage is read, changed and committed."""

    name: str  # in progress, logs and errors
    read: Read
    work: Work
    noun: str = "pairs"  # what a row is, in the progress display
    options: dict[str, Any] = field(
        default_factory=dict
    )  # Ray's, of the work; with `compute=` it runs in an actor pool
    steps: tuple[Step, ...] = ()  # between read and work, in one pipeline
    instead: Instead | None = None  # gives the table of a part that cannot be read; None = such a part stops the stage
    retries: int = 0  # how often a part is tried again


def map_parts(stage: MapStage, pending: list[int], total: int, watch: Callable[[Receipt], None] | None = None) -> None:
    """Run a stage over all pending parts, of `total` parts that its artifact has.

    watch: sees each receipt as it arrives; an error that it raises stops the stage.
    """
    if not pending:
        return
    if not logger.isEnabledFor(logging.INFO):
        quiet()  # Ray Data sets the level of its own logger when it is imported
    with Progress(stage.name, total, stage.noun) as progress:
        if len(pending) < total:
            progress.advance(done=total - len(pending), note="already done")
        with DataContext.current(_one_block_a_part()):
            outcomes = _pipeline(stage, pending)
            for row in outcomes.iter_rows():
                if row["error"]:
                    raise pickle.loads(row["error"])
                receipt = Receipt(**json.loads(row["receipt"]))
                progress.advance(rows=receipt.rows, ok=receipt.ok)
                if watch is not None:
                    watch(receipt)


def _one_block_a_part() -> DataContext:
    """Ray's own context, except that it never splits a block: each piece would be committed over the one before."""
    context = DataContext.get_current().copy()
    context.target_max_block_size = 1 << 40
    context.target_min_block_size = 1
    context.enable_progress_bars = False
    return context


def _pipeline(stage: MapStage, pending: list[int]) -> ray.data.Dataset:
    """A dataset of one row per part: its receipt, or its error."""
    blocks = ray.data.read_datasource(_Parts(stage, pending), override_num_blocks=len(pending), num_cpus=READ_CPUS)
    for step in stage.steps:
        blocks = _map(blocks, _Changer, (stage.name, step.change, stage.retries), step.options)
    return _map(blocks, _Worker, (stage.name, stage.work, stage.retries), stage.options)


def _map(blocks: ray.data.Dataset, kind: type, arguments: tuple[Any, ...], options: dict[str, Any]) -> ray.data.Dataset:
    made: dict[str, Any] = (
        {"fn": kind, "fn_constructor_args": arguments} if "compute" in options else {"fn": kind(*arguments)}
    )
    return blocks.map_batches(**made, batch_size=None, batch_format="pyarrow", **options)


class _Parts(Datasource):
    """One small read task per part: the part's table, with its number and its row count beside every row."""

    def __init__(self, stage: MapStage, pending: list[int]) -> None:
        super().__init__()
        self.pending, self.read = pending, partial(_read, stage.name, stage.read, stage.retries, stage.instead)

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        nothing_known = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(self.read, part), nothing_known) for part in self.pending]


def _read(name: str, read: Read, retries: int, instead: Instead | None, part: int) -> list[pa.Table]:
    outcome = _attempt(name, part, lambda: read(part), retries)
    if isinstance(outcome, PartFailed) and instead is not None:
        outcome = _attempt(name, part, partial(instead, part, outcome), 0)
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
    """Works on the blocks of one process; `setup` of what it runs is called when its first part comes."""

    def __init__(self, name: str, runs: Work | Change, retries: int) -> None:
        self.name, self.runs, self.retries = name, runs, retries
        self.is_set_up = False

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

        def attempt() -> Any:
            with _SETTING_UP:  # the threads of one actor share its work
                if not self.is_set_up:
                    self.runs.setup()
                    self.is_set_up = True
            return self.runs(part, table)

        return _attempt(self.name, part, attempt, self.retries)


class _Changer(_Stage):
    def __call__(self, batch: pa.Table) -> pa.Table:
        return _block(batch[PART][0].as_py(), self.outcome(batch))


class _Worker(_Stage):
    def __call__(self, batch: pa.Table) -> pa.Table:
        outcome = self.outcome(batch)
        if isinstance(outcome, ReactRayError):
            return pa.table({"receipt": [""], "error": [pickle.dumps(outcome)]})
        return pa.table({"receipt": [json.dumps(asdict(outcome))], "error": [b""]})


def _attempt(name: str, part: int, action: Callable[[], Any], retries: int) -> Any:
    """The value of `action`, or a ReactRayError: a mistake of the user at once, any other error after the retries."""
    for left in range(retries, -1, -1):
        try:
            return action()
        except Exception as error:
            if isinstance(error, ReactRayError) and not isinstance(error, (StorageError, ArtifactCorrupt)):
                return error  # storage may answer the next time, and bytes may arrive whole
            logger.warning("%s part %d failed (%s), %d tries left", name, part, error, left)
            if left == 0:
                return PartFailed(
                    f"{name}: part {part} failed {retries + 1} times: {type(error).__name__}: {error}; what is done is "
                    "kept, run the same command again when the cause is gone"
                )
            time.sleep(0.1 * (retries - left + 1))
