"""What an artifact says of itself: a receipt for each finished part, and one manifest for all parts together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from typing_extensions import NotRequired, TypedDict

from react_ray.section import digest

SCHEMA_VERSION = 2  # 2: vectors are fixed-size binary; in version 1 they were lists
BUILDING, MANIFEST = "_building.json", "manifest.json"
MOST_PARTS = 10_000_000

Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 60)]
NumParts = Annotated[int, Field(strict=True, ge=0, le=MOST_PARTS)]


class StoredFile(TypedDict):
    """One file of a part. footer_sha256: of the footer of a Parquet file, which every reader compares."""

    sha256: str
    bytes: Count
    footer_sha256: NotRequired[str]


@dataclass(frozen=True)
class Receipt:
    """States what one finished part holds."""

    part: Count
    rows: Count
    ok: Count
    bytes: Count
    seconds: float
    statuses: dict[str, Count]
    files: dict[str, StoredFile]  # by name
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    kind: str
    config: dict[str, Any]
    parents: dict[str, str]  # name of the parent -> its content hash
    parts: NumParts
    rows: Count
    ok: Count
    bytes: Count
    seconds: float  # of work, summed over parts
    content: str
    statuses: dict[str, Count] = field(default_factory=dict)  # summed over parts
    facts: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


class Plan(TypedDict):
    """_building.json: what the artifact will be made of. Fields that a newer version added are kept."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    kind: str
    config: dict[str, Any]
    parents: dict[str, str]
    parts: NumParts
    schema_version: int
    created: NotRequired[str]
    facts: NotRequired[dict[str, Any]]


def part_name(part: int) -> str:
    return f"part-{part:05d}"


def content_hash(receipts: list[Receipt]) -> str:
    """Covers the bytes of all parts and nothing else: no times, no machines, no place."""
    return digest([[r.part, r.rows, sorted((n, f["sha256"]) for n, f in r.files.items())] for r in receipts])
