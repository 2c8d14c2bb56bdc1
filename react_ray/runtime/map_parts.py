"""The flow of a map stage: pending parts -> read (CPU tasks) -> [steps] -> work (tasks or an actor pool) -> receipts.

One part = one Ray Data block = one unit of commit. The last operator commits its part and yields the receipt; the
driver only ever sees receipts. A part that raises is tried again, then the stage stops with PartFailed; what is
committed stays, and the same command goes on from there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from threading import Lock
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from react_ray import errors
from react_ray.artifact import Artifact, Receipt
from react_ray.errors import ArtifactCorrupt, PartFailed, ReactRayError, StorageError
from react_ray.progress import Progress

logger = logging.getLogger(__name__)

Read = Callable[[int], pa.Table]
Instead = Callable[[int, ReactRayError], pa.Table]
PART = "_part"
_MAKING = Lock()
READ_CPUS = 0.25  # reading waits for storage; actors leave half a core each for it, or nothing would ever be read


class Work:
    """What a stage does to one part: `work(part, table)` commits it and gives its receipt. Built once per worker."""

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        raise NotImplementedError


class Change:
    """What a step on the way to the work does to one part: `change(part, table)` gives another table. Built once per worker."""

    def __call__(self, part: int, table: pa.Table) -> pa.Table:
        raise NotImplementedError


class ReadPart:
    """The usual reader: these columns of the same part of an artifact; None = all."""

    def __init__(self, artifact: Artifact, columns: list[str] | None = None) -> None:
        self.artifact, self.columns = artifact, columns

    def __call__(self, part: int) -> pa.Table:
        return self.artifact.read(part, self.columns)


class ReadNothing:
    """Of works that read what they need themselves: nothing goes through the object store but the number of the part."""

    def __call__(self, part: int) -> pa.Table:
        return pa.table({})


@dataclass(frozen=True)
class Step:
    """`options` as those of the work: with `compute=` the step has a pool of actors of its own."""

    change: type[Change]
    arguments: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)


def map_parts(
    stage: str,
    pending: list[int],
    total: int,
    read: Read,
    work: type[Work],
    arguments: tuple[Any, ...],
    retries: int,
    noun: str,
    options: dict[str, Any] | None = None,
    watch: Callable[[Receipt], None] | None = None,
    steps: tuple[Step, ...] = (),
    instead: Instead | None = None,
) -> None:
    """Run `work(*arguments)` over all pending parts; `options` with `compute=` makes it an actor pool.

    `watch` sees each receipt as it comes; what it raises stops the stage. `steps` lie between read and work, in one pipeline.
    `instead` gives the table of a part that cannot be read; without it such a part stops the stage.
    """
    if not pending:
        return
    with Progress(stage, total, noun) as progress:
        if len(pending) < total:
            progress.advance(done=total - len(pending), note="already done")
        blocks = ray.data.read_datasource(
            _Parts(stage, pending, read, retries, instead),
            override_num_blocks=len(pending),
            num_cpus=READ_CPUS,
        )
        for step in steps:
            blocks = _map(blocks, _Changer, (stage, step.change, step.arguments, retries), step.options)
        receipts = _map(blocks, _Worker, (stage, work, arguments, retries), options or {})
        for row in receipts.iter_rows():
            if row["error"]:
                raise getattr(errors, row["error_type"])(row["error"])
            receipt = Receipt(**json.loads(row["receipt"]))
            progress.advance(rows=receipt.rows, ok=receipt.ok)
            if watch is not None:
                watch(receipt)


def _map(blocks: ray.data.Dataset, kind: type, arguments: tuple[Any, ...], options: dict[str, Any]) -> ray.data.Dataset:
    made: dict[str, Any] = (
        {"fn": kind, "fn_constructor_args": arguments} if "compute" in options else {"fn": kind(*arguments)}
    )
    return blocks.map_batches(**made, batch_size=None, batch_format="pyarrow", **options)


class _Parts(Datasource):
    """One small read task per part: the part's table with its number beside every row."""

    def __init__(self, stage: str, pending: list[int], read: Read, retries: int, instead: Instead | None) -> None:
        super().__init__()
        self.stage, self.pending, self.read, self.retries, self.instead = stage, pending, read, retries, instead

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        nothing_known = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ReadTask(partial(_read, self.stage, part, self.read, self.retries, self.instead), nothing_known)
            for part in self.pending
        ]


def _read(stage: str, part: int, read: Read, retries: int, instead: Instead | None) -> list[pa.Table]:
    outcome = _attempt(stage, part, lambda: read(part), retries)
    if isinstance(outcome, PartFailed) and instead is not None:
        outcome = _attempt(stage, part, partial(instead, part, outcome), 0)
    return [_block(part, outcome)]


def _block(part: int, outcome: pa.Table | ReactRayError) -> pa.Table:
    """A table with its part's number beside every row, or a row that says why there is none."""
    if isinstance(outcome, ReactRayError):
        return pa.table({PART: [part], "_error": [str(outcome)], "_error_type": [type(outcome).__name__]})
    if outcome.num_rows == 0:
        return pa.table({PART: [part], "_empty": [True]})
    return outcome.append_column(PART, pa.array([part] * outcome.num_rows, pa.int32()))


class _Stage:
    """What works on blocks in one process: `kind(*arguments)` is made when its first part comes."""

    def __init__(self, stage: str, kind: type[Any], arguments: tuple[Any, ...], retries: int) -> None:
        self.stage, self.retries, self.kind, self.arguments = stage, retries, kind, arguments
        self.made: Any = None

    def outcome(self, batch: pa.Table) -> Any:
        """What `made(part, table)` gives, or a ReactRayError: this one's or that of a step before."""
        part = batch[PART][0].as_py()
        if "_error" in batch.column_names:
            return getattr(errors, batch["_error_type"][0].as_py())(batch["_error"][0].as_py())
        table = pa.table({}) if "_empty" in batch.column_names else batch.drop_columns([PART])

        def attempt() -> Any:
            with _MAKING:  # threads of one actor share its work
                self.made = self.made or self.kind(*self.arguments)
            return self.made(part, table)

        return _attempt(self.stage, part, attempt, self.retries)


class _Changer(_Stage):
    def __call__(self, batch: pa.Table) -> pa.Table:
        return _block(batch[PART][0].as_py(), self.outcome(batch))


class _Worker(_Stage):
    def __call__(self, batch: pa.Table) -> pa.Table:
        part, outcome = batch[PART][0].as_py(), self.outcome(batch)
        if isinstance(outcome, ReactRayError):
            return _row(part, error=str(outcome), error_type=type(outcome).__name__)
        return _row(part, receipt=json.dumps(asdict(outcome)))


def _attempt(stage: str, part: int, action: Callable[[], Any], retries: int) -> Any:
    """The value of `action`, or a ReactRayError: the user's own mistake at once, anything else after the retries."""
    for left in range(retries, -1, -1):
        try:
            return action()
        except Exception as error:
            if isinstance(error, ReactRayError) and not isinstance(error, (StorageError, ArtifactCorrupt)):
                return error  # storage may answer the next time, and bytes may arrive whole
            logger.warning("%s part %d failed (%s), %d tries left", stage, part, error, left)
            if left == 0:
                return PartFailed(
                    f"{stage}: part {part} failed {retries + 1} times: {type(error).__name__}: {error}; what is done is kept, run the same command again when the cause is gone"
                )
            time.sleep(0.1 * (retries - left + 1))


def _row(part: int, receipt: str = "", error: str = "", error_type: str = "") -> pa.Table:
    return pa.table({"part": [part], "receipt": [receipt], "error": [error], "error_type": [error_type]})
