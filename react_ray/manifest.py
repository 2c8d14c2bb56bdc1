"""Manifest: what a sealed artifact says of itself, all parts together. Next: artifact.py, which writes it last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 2  # 2: vectors are fixed-size binary, in version 1 they were lists


@dataclass(frozen=True)
class Manifest:
    kind: str
    config: dict[str, Any]
    parents: dict[str, str]  # name of the parent -> its content hash
    parts: int
    rows: int
    ok: int
    bytes: int
    seconds: float  # of work, summed over parts
    content: str
    facts: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
