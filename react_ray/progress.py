"""Shows the progress of a stage, and writes the metrics of a training.

On a terminal the progress is a live line; elsewhere it is a plain line every two seconds, and ever more seldom, down to
once a minute, so that the log of a night can be read. Metrics are JSON lines `{"step": ..., name: value, ...}` below
`<run>/metrics/`.
"""

from __future__ import annotations

import json
import logging
import os
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from react_ray.errors import ArtifactCorrupt
from react_ray.interrupt import Stderr
from react_ray.metadata import read_json_lines
from react_ray.redact import redact
from react_ray.storage import Storage

logger = logging.getLogger(__name__)
PLAIN_INTERVAL_S = 2.0, 60.0  # of plain lines, at first and at last
PLAIN_SHARE = 1 / 20  # of the time that has passed


class _Console(Console):
    """Work goes on when nobody reads its progress any more, as after `2>&1 | head`."""

    def __init__(self) -> None:
        super().__init__(file=Stderr())  # type: ignore[arg-type]

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


class Progress:
    """`with Progress("embed", total_parts, "pairs") as progress: progress.advance(rows=..., ok=...)`."""

    def __init__(self, stage: str, total: int, noun: str = "rows", unit: str = "parts", note: str = "") -> None:
        self.stage, self.total, self.noun, self.unit = stage, total, noun, unit
        self.done = self.rows = self.ok = 0
        self.note = note
        self._started = time.monotonic()
        self._last_line = 0.0
        self._told: tuple[int, int, str] | None = None  # by the last plain line
        self._console = _Console()
        self._live = (
            Live(console=self._console, refresh_per_second=4, transient=False) if self._console.is_terminal else None
        )

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        self._show(force=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show(force=self._told != (self.done, self.rows, self.note))
        if self._live:
            self._live.stop()

    def advance(self, rows: int = 0, ok: int | None = None, done: int = 1, note: str = "") -> None:
        self.done += done
        self.rows += rows
        self.ok += rows if ok is None else ok
        self.note = note
        self._show(force=False)

    def line(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-6)
        if not self.total:  # the total is not known yet
            return f"{self.stage:<10} {self.note}  {seconds:,.0f} s"
        text = f"{self.stage:<10} {self.done:>5}/{self.total} {self.unit}  {self.rows:>9,} {self.noun}"
        text += f"  {self.rows / seconds:>8,.0f} {self.noun}/s"
        if self.rows and self.ok != self.rows:
            text += f"  {100 * self.ok / self.rows:.1f} % ok"
        if 0 < self.done < self.total:
            text += f"  ETA {seconds / self.done * (self.total - self.done):,.0f} s"
        text += f"  {seconds:,.0f} s"
        return f"{text}  {self.note}".rstrip()

    def _show(self, force: bool) -> None:
        if self._live:
            self._live.update(Text(self.line(), overflow="ellipsis", no_wrap=True))
            return
        now = time.monotonic()
        if force or now - self._last_line >= plain_interval(now - self._started):
            self._last_line, self._told = now, (self.done, self.rows, self.note)
            self._console.print(self.line(), markup=False, highlight=False, soft_wrap=True)


def plain_interval(elapsed_s: float) -> float:
    """Returns the seconds between two plain lines."""
    shortest, longest = PLAIN_INTERVAL_S
    return min(max(shortest, PLAIN_SHARE * elapsed_s), longest)


def say(line: str) -> None:
    """Prints one line to stderr, where the progress is, whatever it quotes."""
    line = "".join(c if c.isprintable() else " " for c in line)
    _Console().print(redact(line), markup=False, highlight=False, soft_wrap=True)


class Metrics:
    """One JSON-lines file; `flush` rewrites all of it, because object stores cannot append."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage, self._path = storage, f"metrics/{name}.jsonl"
        remedy = "delete it, which forgets the curves so far"
        self._rows: list[dict[str, int | float]] = (
            read_json_lines(storage, self._path, dict[str, int | float], remedy) if storage.exists(self._path) else []
        )
        for number, row in enumerate(self._rows, 1):
            if "step" not in row:
                raise ArtifactCorrupt(f"{storage.uri}/{self._path}: row {number} has no step; {remedy}")

    def log(self, step: int, **values: float) -> None:
        self._rows.append({"step": step, **values})

    def drop_after(self, step: int) -> None:
        """Removes the lines after a step: a resumed run repeats the steps after its checkpoint."""
        self._rows = [row for row in self._rows if row["step"] <= step]

    def flush(self) -> None:
        self._storage.write(self._path, "".join(f"{json.dumps(row, sort_keys=True)}\n" for row in self._rows).encode())

    def rows(self) -> list[dict[str, float]]:
        return list(self._rows)
