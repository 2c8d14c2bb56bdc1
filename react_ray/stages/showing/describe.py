"""Describes one artifact, finished or not: what it is, how far it is, what it was made of, and its first rows."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from react_ray.artifact import Artifact, Parts, plan_of
from react_ray.kinds import EMBEDDINGS, IMAGES, SELECTED, Kind
from react_ray.manifest import part_name
from react_ray.metadata import printable, shortened
from react_ray.pairs.retrieval import open_begun
from react_ray.stages.showing.cells import cell, short_value, size, type_name

NUM_THREADS = 8
MOST_SHOWN = 12  # pending parts, files of a part
VALUE_WIDTH = 60
MOST_LINES = 6  # of a configuration
NAME_WIDTH, TYPE_WIDTH, CELL_WIDTH = 24, 30, 34
MADE_OF = ("rows", "ok", "bytes", "seconds", "statuses", "content", "parents", "config", "facts")
NARROW, WIDE = 80, 160  # characters of a line: of a terminal that is narrower or wider, and WIDE if there is none


@dataclass
class Column:
    name: str
    type: str
    first: list[str]  # its values in the first rows, as short texts


@dataclass
class Description:
    """Of an artifact that is not finished, the counts are those of the parts that are done."""

    uri: str
    kind: str
    made_by: str  # the verb
    finished: bool
    parts: int
    parts_done: int
    pending: list[int]
    rows: int
    ok: int
    bytes: int
    seconds: float  # of work, summed over parts
    statuses: dict[str, int]
    content: str  # "" until it is finished
    created: str
    parents: dict[str, str]
    config: dict[str, Any]
    facts: dict[str, Any]
    columns: list[Column] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)  # of the first part, where it is no table: name -> bytes

    def json(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        state = "finished" if self.finished else f"not finished, {self.parts_done:,} of {self.parts:,} parts are done"
        lines = [
            f"{self.uri}: {self.kind}, {state}",
            f"{self.rows:,} rows, {self.ok:,} ok, in {self.parts_done:,} parts, {size(self.bytes)}, "
            f"{self.seconds:,.1f} s of work" + (f", content {self.content}" if self.content else ""),
        ]
        of = ", ".join(f"{name} {content}" for name, content in self.parents.items())
        when = f" at {self.created}" if self.created else ""
        lines.append(f"made by `react-ray {self.made_by}`{when}" + (f" of {of}" if of else ""))
        if not self.finished:
            first = ", ".join(map(str, self.pending[:MOST_SHOWN]))
            more = ", ..." if len(self.pending) > MOST_SHOWN else ""
            lines.append(f"pending parts: {first}{more}; `react-ray {self.made_by} RECIPE` makes them")
        if set(self.statuses) - {"ok"}:
            counts = sorted(self.statuses.items(), key=lambda item: (-item[1], item[0]))
            lines.append("statuses: " + ", ".join(f"{status} {count:,}" for status, count in counts))
        summary = self.facts.get("summary", [])
        lines += [f"  {printable(str(line))}" for line in (summary if isinstance(summary, list) else [])]
        lines += _named("facts", {name: value for name, value in self.facts.items() if name != "summary"})
        lines += _named("made with", self.config)
        lines += ["", *_table(self.columns)] if self.columns else []
        shown = list(self.files.items())[:MOST_SHOWN]
        lines += [f"  {name}  {size(num_bytes)}" for name, num_bytes in shown]
        lines += [f"  and {len(self.files) - len(shown):,} files more"] if len(shown) < len(self.files) else []
        return "\n".join(lines)


def describe(uri: str, num_rows: int) -> Description:
    """num_rows: how many rows to show. Raises ArtifactMissing if no artifact is there, ArtifactCorrupt for damage."""
    parts, plan = open_begun(uri), plan_of(uri)
    done = parts.done()
    made_of = asdict(parts.manifest) if isinstance(parts, Artifact) else {"facts": {}} | plan | _counts(parts, done)
    found = Description(
        uri=parts.uri,
        kind=parts.kind.name,
        made_by=_made_by(parts.kind, made_of["parents"]),
        finished=isinstance(parts, Artifact),
        parts=parts.num_parts,
        parts_done=len(done),
        pending=sorted(set(range(parts.num_parts)) - set(done)),
        created=plan.get("created", ""),
        **{name: made_of[name] for name in MADE_OF},
    )
    if done:
        _add_rows(found, parts, done, num_rows)
    return found


def _made_by(kind: Kind[Any], parents: dict[str, str]) -> str:
    """The verb that makes it. Images and vectors that a source had are made by ingest, and have no parents."""
    if not parents and kind in (IMAGES, EMBEDDINGS):
        return "ingest"
    return "retrieve" if SELECTED.name in parents else kind.made_by


def _counts(parts: Parts[Any], done: list[int]) -> dict[str, Any]:
    """The sums of what a manifest will say."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        receipts = list(pool.map(parts.receipt, done))
    return {
        "rows": sum(receipt.rows for receipt in receipts),
        "ok": sum(receipt.ok for receipt in receipts),
        "bytes": sum(receipt.bytes for receipt in receipts),
        "seconds": round(sum(receipt.seconds for receipt in receipts), 3),
        "statuses": dict(sum((Counter(receipt.statuses) for receipt in receipts), Counter())),
        "content": "",
    }


def _add_rows(found: Description, parts: Parts[Any], done: list[int], num_rows: int) -> None:
    """Adds the schema and the first rows, from the first part that has any; the files of parts that are no tables."""
    receipt = parts.receipt(done[0])
    for part in done[1:]:
        if receipt.rows:
            break
        receipt = parts.receipt(part)
    if f"{part_name(receipt.part)}.parquet" not in receipt.files:
        found.files = {name: stored["bytes"] for name, stored in receipt.files.items()}
        return
    rows = parts.head(receipt.part, max(num_rows, 1)).slice(0, num_rows)
    values = rows.to_pylist()
    found.columns = [
        Column(field.name, type_name(field), [cell(row[field.name], field) for row in values]) for field in rows.schema
    ]


def _named(title: str, values: dict[str, Any]) -> list[str]:
    """All fields as `section.field=value`, on as few lines as they need."""
    given = [f"{path}={short_value(value, VALUE_WIDTH)}" for path, value in _flat(values)]
    if not given:
        return []
    text = f"{title}: {', '.join(given)}"
    lines = textwrap.wrap(text, _width(), subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
    more = ["  ...; --json has all of them"] if len(lines) > MOST_LINES else []
    return lines[:MOST_LINES] + more


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        fields = value.items() if isinstance(value, dict) else []
        pairs = [(f"{name}.{inner}", of) for inner, of in fields] or [(name, value)]
        yield from ((path, of) for path, of in pairs if of not in (None, "", [], {}))


def _width() -> int:
    return min(max(shutil.get_terminal_size((WIDE, 0)).columns, NARROW), WIDE)


def _table(columns: list[Column]) -> list[str]:
    """The schema, and beside each column as many of the first rows as the terminal has room for."""
    names = [shortened(printable(column.name), NAME_WIDTH - 3) for column in columns]
    types = [shortened(column.type, TYPE_WIDTH - 3) for column in columns]
    left = max(map(len, names)), max(map(len, types))
    rows = [
        [shortened(column.first[row], CELL_WIDTH - 3) for column in columns] for row in range(len(columns[0].first))
    ]
    room = _width() - sum(left) - 4
    lines = [f"{name.ljust(left[0])}  {kind.ljust(left[1])}" for name, kind in zip(names, types, strict=True)]
    for cells in rows:
        widest = max(map(len, cells))
        room -= widest + 2
        if room < 0 and cells is not rows[0]:
            break
        lines = [f"{line}  {text.ljust(widest)}" for line, text in zip(lines, cells, strict=True)]
    return [line.rstrip() for line in lines]
