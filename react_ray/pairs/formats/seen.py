"""Counts what planning met in a source and could not use, so that nothing is passed over in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

EXAMPLES = 5  # names that are shown per reason


@dataclass
class Counted:
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, name: str, count: int) -> None:
        self.count += count
        if len(self.examples) < EXAMPLES:
            self.examples.append(name)

    def text(self) -> str:
        return f"{self.count:,} ({', '.join(self.examples)}{', ...' if self.count > len(self.examples) else ''})"


@dataclass
class Seen:
    """What the plan of a source says beside its rows. It is filled while the chunks of `Format.plan` are drawn.

    reasons: whole phrases, such as "members whose suffix .foo is not known". The source says before a file is read
    which column is `required`: its image or its URL, without which a row cannot be used; "" if there is none.
    """

    required: str = ""
    notes: list[str] = field(default_factory=list)  # how the files are read: "c.csv is read as UTF-16"
    passed: dict[str, Counted] = field(default_factory=dict)  # reason -> files, members or columns that give no row
    unusable: dict[str, Counted] = field(default_factory=dict)  # reason -> rows that have no image, URL or vector
    told: dict[str, Counted] = field(default_factory=dict)  # what -> files or rows that are read, but not as usual
    late: dict[str, pa.DataType] = field(default_factory=dict)  # columns that the head of the file did not have
    filled: Counter[str] = field(default_factory=Counter)  # rows that have a value in a late column

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def tell(self, what: str, name: str, count: int = 1) -> None:
        """Counts files or rows that are used, but of which the user should know, such as "files read as UTF-16"."""
        self.told.setdefault(what, Counted()).add(name, count)

    def pass_over(self, reason: str, name: str, count: int = 1) -> None:
        """Counts things that give no row at all. name: of a file or member."""
        self.passed.setdefault(reason, Counted()).add(name, count)

    def bad_row(self, reason: str, name: str, count: int = 1) -> None:
        """Counts rows that stay in their places, but cannot be used. name: of the row, such as its line or key."""
        self.unusable.setdefault(reason, Counted()).add(name, count)

    @property
    def num_unusable(self) -> int:
        return sum(counted.count for counted in self.unusable.values())

    def lines(self) -> list[str]:
        """Returns one line per note and per reason, for the terminal and the manifest."""
        passed = [f"passed over: {reason}: {counted.text()}" for reason, counted in self.passed.items()]
        unusable = [
            f"rows that cannot be used: {reason}: {counted.text()}" for reason, counted in self.unusable.items()
        ]
        told = [f"{what}: {counted.text()}" for what, counted in self.told.items()]
        return [*self.notes, *told, *passed, *unusable]


def num_blank(column: pa.ChunkedArray | pa.Array) -> int:
    """Returns how many values are null, or texts of blanks alone."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        blank = pc.equal(pc.ascii_trim_whitespace(column), "")  # which texts that are no UTF-8 may go through
        return column.null_count + (pc.sum(blank).as_py() or 0)
    return column.null_count


def place(uri: str, line: int = 0) -> str:
    """Names a file, or a line of it, as an example."""
    return uri.rpartition("/")[2] + (f" line {line}" if line else "")
