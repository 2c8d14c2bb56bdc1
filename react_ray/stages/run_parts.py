"""The flow of a map stage: pending parts -> read (CPU tasks) -> work (tasks or an actor pool) -> receipts.

One part = one Ray Data block = one unit of commit. The last operator commits its part and yields the receipt; the
driver only ever sees receipts. A part that raises is tried again, then the stage stops with PartFailed; what is
committed stays, and the same command goes on from there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from threading import Lock
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from react_ray import errors
from react_ray.artifact import Receipt
from react_ray.errors import PartFailed, ReactRayError
from react_ray.progress import Progress

logger = logging.getLogger(__name__)

Read = Callable[[int], pa.Table]
PART = "_part"
_MAKING = Lock()
READ_CPUS = 0.25  # reading waits for storage; actors leave half a core each for it, or nothing would ever be read


class Work:
    """What a stage does to one part: `work(part, table)` commits it and gives its receipt. Built once per worker."""

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        raise NotImplementedError


def run_parts(
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
) -> None:
    """Run `work(*arguments)` over all pending parts; `options` with `compute=` makes it an actor pool.

    `watch` sees each receipt as it comes; what it raises stops the stage.
    """
    if not pending:
        return
    options = options or {}
    with Progress(stage, total, noun) as progress:
        if len(pending) < total:
            progress.advance(done=total - len(pending), note="already done")
        blocks = ray.data.read_datasource(
            _Parts(stage, pending, read, retries),
            override_num_blocks=len(pending),
            num_cpus=READ_CPUS,
        )
        if "compute" in options:
            made: dict[str, Any] = {"fn": _Worker, "fn_constructor_args": (stage, work, arguments, retries)}
        else:
            made = {"fn": _Worker(stage, work, arguments, retries)}
        receipts = blocks.map_batches(**made, batch_size=None, batch_format="pyarrow", **options)
        for row in receipts.iter_rows():
            if row["error"]:
                raise getattr(errors, row["error_type"])(row["error"])
            receipt = Receipt(**json.loads(row["receipt"]))
            progress.advance(rows=receipt.rows, ok=receipt.ok)
            if watch is not None:
                watch(receipt)


class _Parts(Datasource):
    """One small read task per part: the part's table with its number beside every row."""

    def __init__(self, stage: str, pending: list[int], read: Read, retries: int) -> None:
        super().__init__()
        self.stage, self.pending, self.read, self.retries = stage, pending, read, retries

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        nothing_known = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ReadTask(partial(_read, self.stage, part, self.read, self.retries), nothing_known) for part in self.pending
        ]


def _read(stage: str, part: int, read: Read, retries: int) -> list[pa.Table]:
    outcome = _attempt(stage, part, lambda: read(part), retries)
    if isinstance(outcome, ReactRayError):
        return [pa.table({PART: [part], "_error": [str(outcome)], "_error_type": [type(outcome).__name__]})]
    if outcome.num_rows == 0:
        return [pa.table({PART: [part], "_empty": [True]})]
    return [outcome.append_column(PART, pa.array([part] * outcome.num_rows, pa.int32()))]


class _Worker:
    def __init__(self, stage: str, work: type[Work], arguments: tuple[Any, ...], retries: int) -> None:
        self.stage, self.retries, self.kind, self.arguments = stage, retries, work, arguments
        self.work: Work | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        part = batch[PART][0].as_py()
        if "_error" in batch.column_names:
            return _row(part, error=batch["_error"][0].as_py(), error_type=batch["_error_type"][0].as_py())
        table = batch.drop_columns([PART])
        if "_empty" in batch.column_names:
            table = pa.table({})

        def attempt() -> Receipt:
            with _MAKING:  # threads of one actor share its work
                self.work = self.work or self.kind(*self.arguments)
            return self.work(part, table)

        outcome = _attempt(self.stage, part, attempt, self.retries)
        if isinstance(outcome, ReactRayError):
            return _row(part, error=str(outcome), error_type=type(outcome).__name__)
        return _row(part, receipt=json.dumps(asdict(outcome)))


def _attempt(stage: str, part: int, action: Callable[[], Any], retries: int) -> Any:
    """The value of `action`, or a ReactRayError: the user's own mistake at once, anything else after the retries."""
    for left in range(retries, -1, -1):
        try:
            return action()
        except ReactRayError as error:
            return error
        except Exception as error:
            logger.warning("%s part %d failed (%s), %d tries left", stage, part, error, left)
            if left == 0:
                return PartFailed(
                    f"{stage}: part {part} failed {retries + 1} times: {type(error).__name__}: {error}; what is done is kept, run the same command again when the cause is gone"
                )
            time.sleep(0.1 * (retries - left + 1))


def _row(part: int, receipt: str = "", error: str = "", error_type: str = "") -> pa.Table:
    return pa.table({"part": [part], "receipt": [receipt], "error": [error], "error_type": [error_type]})
