"""Artifact: a directory of numbered parts, a receipt per part, and a manifest that is written last.

    part-00000.parquet (or any files), then part-00000.json   a part is done iff its receipt exists
    _building.json at create(), manifest.json by seal()       an artifact exists iff its manifest exists

`create` on an unsealed directory resumes it; on the result of another configuration it raises ArtifactMismatch. One that
grows may get more parts behind those it has: it is unsealed until they are done, and what was committed is not touched.
The content hash covers the bytes of all parts and nothing else: not times, not machines, not where it lies.
Next: runtime/map_parts.py, which fills one in parallel.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, ArtifactMissing, StorageError
from react_ray.manifest import SCHEMA_VERSION, Manifest
from react_ray.parquet import parquet_bytes
from react_ray.section import differences, digest
from react_ray.storage import Storage, open_storage

Piece = bytes | memoryview
BUILDING, MANIFEST = "_building.json", "manifest.json"


@dataclass(frozen=True)
class Receipt:
    """What one finished part says. `files` maps a file's name to its sha256 and size."""

    part: int
    rows: int
    ok: int
    bytes: int
    seconds: float
    statuses: dict[str, int]
    files: dict[str, dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)


def part_name(part: int) -> str:
    return f"part-{part:05d}"


class Artifact:
    """Made by `create` (to fill) or `open_artifact` (to read)."""

    def __init__(self, storage: Storage, kind: str, num_parts: int, manifest: Manifest | None) -> None:
        self.storage, self.kind, self.num_parts, self.manifest = storage, kind, num_parts, manifest

    @property
    def uri(self) -> str:
        return self.storage.uri

    @property
    def sealed(self) -> bool:
        return self.manifest is not None

    @property
    def content(self) -> str:
        assert self.manifest is not None, "an unsealed artifact has no content hash"
        return self.manifest.content

    @property
    def facts(self) -> dict[str, Any]:
        assert self.manifest is not None
        return self.manifest.facts

    # Filling

    def pending(self) -> list[int]:
        done = set(self.done())
        return [part for part in range(self.num_parts) if part not in done]

    def done(self) -> list[int]:
        found = set(self.storage.list())
        return [part for part in range(self.num_parts) if f"{part_name(part)}.json" in found]

    def commit(self, part: int, table: pa.Table, seconds: float, **facts: Any) -> Receipt:
        """Store one part as Parquet, then its receipt. `status`, if the table has it, is counted."""
        statuses: dict[str, int] = {}
        if "status" in table.column_names:
            counts = table["status"].value_counts()
            statuses = {str(row["values"]): int(row["counts"]) for row in counts.to_pylist()}
        ok = statuses.get("ok", 0) if statuses else table.num_rows
        name = f"{part_name(part)}.parquet"
        return self.commit_files(part, {name: parquet_bytes(table)}, seconds, table.num_rows, ok, statuses, **facts)

    def commit_files(
        self,
        part: int,
        files: Mapping[str, bytes | Iterator[Piece]],
        seconds: float,
        rows: int,
        ok: int | None = None,
        statuses: dict[str, int] | None = None,
        **facts: Any,
    ) -> Receipt:
        """A file that is too large for memory comes in pieces."""
        described = {name: self._write(name, data) for name, data in sorted(files.items())}
        size = sum(described[name]["bytes"] for name in described)
        ok = rows if ok is None else ok
        receipt = Receipt(part, rows, ok, size, round(seconds, 3), statuses or {}, described, facts)
        self.storage.write(f"{part_name(part)}.json", _json(asdict(receipt)))
        return receipt

    def _write(self, name: str, data: bytes | Iterator[Piece]) -> dict[str, Any]:
        checksum, size = hashlib.sha256(), 0
        if isinstance(data, bytes):
            self.storage.write(name, data)
            return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        with self.storage.writing(name) as file:
            for piece in data:
                file.write(piece)
                checksum.update(piece)
                size += memoryview(piece).nbytes
        return {"sha256": checksum.hexdigest(), "bytes": size}

    def recommit(self, part: int, table: pa.Table, seconds: float, **facts: Any) -> Receipt:
        """Another table in the place of a part. A kill leaves the old or the new one, which `written` gives; the part is pending."""
        assert not self.sealed, "unseal it first"
        self.storage.delete(f"{part_name(part)}.json")
        return self.commit(part, table, seconds, **facts)

    def written(self, part: int) -> pa.Table | None:
        """The table of a part, with its receipt or without: writes are whole, so what a killed run left can be used."""
        name = f"{part_name(part)}.parquet"
        if not self.storage.exists(name):
            return None
        try:
            return self.storage.parquet(name).read()
        except (pa.ArrowInvalid, OSError, StorageError):
            return None

    def receipts(self) -> list[Receipt]:
        """Of all parts, or of an artifact that is not sealed, of those that are done."""
        return [self.receipt(part) for part in (range(self.num_parts) if self.sealed else self.done())]

    def receipt(self, part: int) -> Receipt:
        return Receipt(**json.loads(self.storage.read(f"{part_name(part)}.json")))

    def seal(self, **facts: Any) -> Artifact:
        """Write the manifest: from now on the artifact exists."""
        building = json.loads(self.storage.read(BUILDING))
        receipts = [self.receipt(part) for part in range(self.num_parts)]
        manifest = Manifest(
            kind=self.kind,
            config=building["config"],
            parents=building["parents"],
            parts=self.num_parts,
            rows=sum(r.rows for r in receipts),
            ok=sum(r.ok for r in receipts),
            bytes=sum(r.bytes for r in receipts),
            seconds=round(sum(r.seconds for r in receipts), 3),
            content=_content(receipts),
            facts=building.get("facts", {}) | facts,
        )
        self.storage.write(MANIFEST, _json(asdict(manifest)))
        return Artifact(self.storage, self.kind, self.num_parts, manifest)

    def unseal(self) -> Artifact:
        """Take the manifest away, so that parts can be done again: until `seal`, the artifact does not exist."""
        self.storage.delete(MANIFEST)
        return Artifact(self.storage, self.kind, self.num_parts, None)

    # Reading

    def read(self, part: int, columns: list[str] | None = None) -> pa.Table:
        name = f"{part_name(part)}.parquet"
        try:
            return self.storage.parquet(name).read(columns=columns)
        except (pa.ArrowInvalid, OSError, StorageError) as error:
            self.read_file(
                part, name
            )  # says so if these are not the bytes that were committed, or cannot be read at all
            raise StorageError(f"cannot read {self.uri}/{name}: {error}; run the stage again") from error

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        for part in range(self.num_parts):
            yield self.read(part, columns)

    def read_file(self, part: int, name: str) -> bytes:
        """Bytes of one committed file, checked against its receipt."""
        data = self.storage.read(name)
        self._require(part, name, hashlib.sha256(data).hexdigest())
        return data

    def local_file(self, part: int, name: str) -> str:
        """A local path of one committed file, checked against its receipt: what is too large for memory is mapped."""
        path = self.storage.local_file(name)
        checksum = hashlib.sha256()
        with open(path, "rb") as file:
            while piece := file.read(1 << 22):
                checksum.update(piece)
        self._require(part, name, checksum.hexdigest())
        return path

    def _require(self, part: int, name: str, checksum: str) -> None:
        if self.receipt(part).files[name]["sha256"] != checksum:
            raise ArtifactCorrupt(
                f"{self.uri}/{name} has a wrong checksum; delete {part_name(part)}.json and manifest.json, run the stage again"
            )

    def content_of(self, num_parts: int) -> str:
        """What `content` was when there were only these first parts."""
        if num_parts == self.num_parts:
            return self.content
        return _content([self.receipt(part) for part in range(num_parts)])

    def grow(self, num_parts: int, **plan: Any) -> Artifact:
        """Room for more parts after the last: until `seal`, the artifact does not exist. What is committed stays as it is.
        plan: what else is said in it from now on."""
        assert num_parts >= self.num_parts, "an artifact never gets smaller"
        building = json.loads(self.storage.read(BUILDING))
        self.storage.delete(MANIFEST)
        self.storage.write(BUILDING, _json(building | plan | {"parts": num_parts}))
        return Artifact(self.storage, self.kind, num_parts, None)


def create(
    uri: str, kind: str, config: dict[str, Any], parents: dict[str, Artifact], num_parts: int,
    grows: bool = False, facts: Mapping[str, Any] = MappingProxyType({}),
) -> Artifact:  # fmt: skip
    """Begin, resume, or (if already sealed by the same configuration and parents) open an artifact.

    grows: it may get more parts, where its parents have only got more parts too. facts: known from the beginning, kept by `seal`.
    """
    storage = open_storage(uri)
    plan = {
        "kind": kind,
        "config": json.loads(json.dumps(config)),
        "parents": {name: parent.content for name, parent in sorted(parents.items())},
        "parts": num_parts,
        "schema_version": SCHEMA_VERSION,
    }
    if storage.exists(BUILDING):
        found = json.loads(storage.read(BUILDING))
        if grows and found["parts"] < num_parts and _is_start(found, plan, parents):
            return Artifact(storage, kind, found["parts"], None).grow(
                num_parts, parents=plan["parents"], facts=dict(facts)
            )
        differing = differences(found, plan)
        if differing:
            raise ArtifactMismatch(
                f"{storage.uri} was made by another configuration: {'; '.join(differing)}; use another `out` or `database`, or delete that directory"
            )
    else:
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        storage.write(BUILDING, _json(plan | {"created": created, "facts": dict(facts)}))
    if storage.exists(MANIFEST):
        return open_artifact(uri, kind)
    return Artifact(storage, kind, num_parts, None)


def _is_start(found: dict[str, Any], plan: dict[str, Any], parents: dict[str, Artifact]) -> bool:
    """True if the artifact that was found is this plan's, of the first parts of these parents."""
    then = {name: parent.content_of(found["parts"]) for name, parent in parents.items()}
    return not differences(found, plan | {"parts": found["parts"], "parents": then})


def open_artifact(uri: str, kind: str, made_by: str = "") -> Artifact:
    """Open a sealed artifact; ArtifactMissing names the verb that makes it."""
    storage = open_storage(uri)
    if not storage.exists(MANIFEST):
        raise ArtifactMissing(f"{storage.uri}: no finished {kind} here; run `react-ray {made_by or kind} RECIPE` first")
    found = json.loads(storage.read(MANIFEST))
    if (found["kind"], found["schema_version"]) != (kind, SCHEMA_VERSION):
        raise ArtifactMismatch(
            f"{storage.uri} holds {found['kind']} of version {found['schema_version']}, not {kind} of version {SCHEMA_VERSION}; name another directory"
        )
    manifest = Manifest(**found)
    return Artifact(storage, kind, manifest.parts, manifest)


def plan_of(uri: str) -> dict[str, Any]:
    """What the artifact here is, or will be, made of: kind, config, parents, parts. Empty if there is none."""
    storage = open_storage(uri)
    return json.loads(storage.read(BUILDING)) if storage.exists(BUILDING) else {}


def open_unfinished(uri: str) -> Artifact:
    """Whatever artifact is there, sealed or being made: its kind, and the parts that are done."""
    storage, plan = open_storage(uri), plan_of(uri)
    if not plan:
        raise ArtifactMissing(f"{storage.uri}: no artifact here; name the directory of one, such as <database>/images")
    if storage.exists(MANIFEST):
        return open_artifact(uri, plan["kind"])
    return Artifact(storage, plan["kind"], plan["parts"], None)


def _content(receipts: list[Receipt]) -> str:
    return digest([[r.part, r.rows, sorted((n, f["sha256"]) for n, f in r.files.items())] for r in receipts])


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
