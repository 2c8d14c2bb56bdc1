"""Finding: what `doctor` says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    what: str
    state: State
    said: str
    remedy: str = ""  # what to do; "" if it is ok

    def line(self) -> str:
        return f"{self.state:<8} {self.what:<10} {self.said}{f'; {self.remedy}' if self.remedy else ''}"
