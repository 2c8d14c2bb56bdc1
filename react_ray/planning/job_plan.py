"""JobPlan: what each stage of a recipe takes, what is in its way, and how every number was reckoned.

`text` is for the terminal, `values` for JSON. None stands for what is not known: no number is guessed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

UNKNOWN = "not known"


@dataclass(frozen=True)
class StagePlan:
    """What is left to do of one stage; a finished stage has its rows and bytes, and takes nothing."""

    stage: str
    state: str  # "done", "to do", or how much of it is done
    rows: int | None = None
    bytes_read: float | None = None
    bytes_written: float | None = None
    requests: int = 0  # to S3 and, for download, to the web
    memory_gb: float | None = None  # of all processes of the stage at its peak
    seconds: float | None = None
    how: str = ""  # how it was reckoned, a clause

    @property
    def is_done(self) -> bool:
        return self.state == "done"


@dataclass(frozen=True)
class JobPlan:
    name: str
    facts: list[tuple[str, str]]  # (what, what the plan found of it): source, classes, sets, machine
    stages: list[StagePlan]
    trainings: list[str] = field(default_factory=list)  # parameters and peak memory of each, as lines
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # whole sentences that end with what to do

    @property
    def seconds(self) -> float | None:
        """Of all stages that are left; None if one of them is not known."""
        found = [stage.seconds for stage in self.stages if not stage.is_done]
        return None if None in found else sum(seconds for seconds in found if seconds is not None)

    @property
    def bytes_written(self) -> float:
        """Of all stages that are left, as far as it is known."""
        return sum(stage.bytes_written or 0 for stage in self.stages if not stage.is_done)

    def values(self) -> dict[str, Any]:
        found = asdict(self) | {"facts": dict(self.facts)}
        return found | {"seconds": self.seconds, "bytes_written": self.bytes_written}

    def text(self) -> str:
        width = max((len(name) for name, _ in self.facts), default=0)
        lines = [f"{name:<{width}}  {told}" for name, told in self.facts]
        rows = [HEADER, *(_cells(stage) for stage in self.stages)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
        for row, stage in zip(rows, [None, *self.stages], strict=True):
            cells = [f"{cell:<{widths[n]}}" if n < 2 else f"{cell:>{widths[n]}}" for n, cell in enumerate(row)]
            lines.append("  ".join(cells).rstrip())
            if stage and stage.how:
                lines.append(f"    {stage.how}")
        lines.append(self._total())
        lines += self.trainings + [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])

    def _total(self) -> str:
        left = [stage for stage in self.stages if not stage.is_done]
        if not left:
            return "in all: nothing is left to do"
        unknown = [stage.stage for stage in left if stage.seconds is None]
        known = sum(stage.seconds or 0 for stage in left)
        time = f"{duration(known)} on this machine"
        if unknown:
            time = f"{time} without {', '.join(unknown)}, whose time is {UNKNOWN}"
        peak = max((stage.memory_gb for stage in left if stage.memory_gb is not None), default=None)
        memory = f", at most {peak:.1f} GB of memory" if peak is not None else ""
        return f"in all: {time}; {size(self.bytes_written)} to write{memory}"


HEADER = ["stage", "state", "rows", "read", "written", "requests", "memory", "time here"]


def _cells(stage: StagePlan) -> list[str]:
    def shown(value: float | None, form: str) -> str:
        return "?" if value is None else form.format(value)

    left = not stage.is_done
    return [
        stage.stage,
        stage.state,
        shown(stage.rows, "{:,}"),
        size(stage.bytes_read) if left else "",
        size(stage.bytes_written),
        f"{stage.requests:,}" if left and stage.requests else "",
        shown(stage.memory_gb, "{:.1f} GB") if left else "",
        (UNKNOWN if stage.seconds is None else duration(stage.seconds)) if left else "",
    ]


def size(num_bytes: float | None) -> str:
    if num_bytes is None:
        return "?"
    for unit, factor in (("TB", 2**40), ("GB", 2**30), ("MB", 2**20)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.{1 if num_bytes < 100 * factor else 0}f} {unit}"
    return f"{num_bytes / 2**10:.0f} kB"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"
