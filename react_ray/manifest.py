"""What an artifact says of itself: a receipt for each finished part, and one manifest for all parts together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from react_ray.section import digest

SCHEMA_VERSION = 2  # 2: vectors are fixed-size binary; in version 1 they were lists
BUILDING, MANIFEST = "_building.json", "manifest.json"


@dataclass(frozen=True)
class Receipt:
    """States what one finished part holds. `files` maps the name of each file to its sha256 and size in bytes."""

    part: int
    rows: int
    ok: int
    bytes: int
    seconds: float
    statuses: dict[str, int]
    files: dict[str, dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)


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
    statuses: dict[str, int] = field(default_factory=dict)  # summed over parts
    facts: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def part_name(part: int) -> str:
    return f"part-{part:05d}"


def content_hash(receipts: list[Receipt]) -> str:
    """Covers the bytes of all parts and nothing else: no times, no machines, no place."""
    return digest([[r.part, r.rows, sorted((n, f["sha256"]) for n, f in r.files.items())] for r in receipts])
