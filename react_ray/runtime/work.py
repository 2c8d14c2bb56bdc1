"""What a map stage consists of: how a part is read, changed on the way, and committed.

Rows of a RowWork and a RowChange do not depend on each other: if a row kills its process, isolation.py finds it with
`make`, which stores nothing, and then commits the part with this row marked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.errors import ReactRayError
from react_ray.manifest import Receipt

Read = Callable[[int], pa.Table]
Instead = Callable[[int, ReactRayError], pa.Table]


class Work:
    """What a stage does to one part: `work(part, table)` commits the part and returns its receipt.

    The object itself travels to every process, so it holds only what is small; `setup` makes the rest there.
    """

    def setup(self) -> None:
        """Called once in each process, before its first part: load a model, open connections."""

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        raise NotImplementedError


class RowWork(Work):
    """Work on rows that do not depend on each other; its tables have one row for each row of the part."""

    def payload(self, table: pa.Table) -> list[str]:
        """Names the columns that may kill the process. A row where they are null does not."""
        raise NotImplementedError

    def make(self, part: int, table: pa.Table) -> dict[str, pa.Table]:
        """Returns the tables to commit, and stores nothing."""
        raise NotImplementedError

    def commit(self, part: int, table: pa.Table, made: dict[str, pa.Table], seconds: float) -> Receipt:
        """Commits what `make` made of `table`."""
        raise NotImplementedError

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        made = self.make(part, table)
        return self.commit(part, table, made, time.monotonic() - began)


class Change:
    """What a step on the way to the work does to one part: `change(part, table)` returns another table."""

    def setup(self) -> None:
        """As Work.setup."""

    def __call__(self, part: int, table: pa.Table) -> pa.Table:
        raise NotImplementedError


class RowChange(Change):
    """A change of rows that do not depend on each other; its table has one row for each row of the part."""

    columns: ClassVar[list[str]]  # of what `make` returns, that the work takes

    def payload(self, table: pa.Table) -> list[str]:
        """As RowWork.payload."""
        raise NotImplementedError

    def make(self, part: int, table: pa.Table) -> pa.Table:
        """Returns the changed table, and stores nothing."""
        raise NotImplementedError

    def store(self, part: int, made: pa.Table, seconds: float) -> None:
        """Stores what `make` made, if it is kept."""

    def __call__(self, part: int, table: pa.Table) -> pa.Table:
        began = time.monotonic()
        made = self.make(part, table)
        self.store(part, made, time.monotonic() - began)
        return made.select(self.columns)


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
    light: bool = False  # few bytes, and no row that could kill a process: done in this one while nothing needs Ray
    here: bool = False  # done in this process even while Ray runs (`is_soonest_here`)
