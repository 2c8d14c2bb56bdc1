"""Draft: an artifact while it is made. `create` begins or resumes it, `commit` stores a part, `seal` finishes it.

`create` on an unfinished directory resumes it; on the result of another configuration it raises ArtifactMismatch. An
artifact that grows may get more parts behind those that it has: it is unfinished until they are done, and its
committed parts are not touched.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import pyarrow as pa

from react_ray.artifact import Artifact, Parts, held_below, kind_named, open_artifact, plan_of
from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, ArtifactMissing, StorageError
from react_ray.kinds import Kind
from react_ray.lease import take
from react_ray.manifest import (
    BUILDING,
    MANIFEST,
    SCHEMA_VERSION,
    Manifest,
    Receipt,
    StoredFile,
    content_hash,
    part_name,
)
from react_ray.metadata import stamped
from react_ray.parquet import footer, parquet_bytes
from react_ray.progress import say
from react_ray.section import differences
from react_ray.storage import Storage, open_storage

F = TypeVar("F")
Piece = bytes | memoryview


class Draft(Parts[F]):
    """`create` gives one. Where the artifact is finished already, `sealed` is true and nothing is pending."""

    def __init__(self, storage: Storage, kind: Kind[F], num_parts: int, sealed: bool = False) -> None:
        super().__init__(storage, kind, num_parts)
        self.sealed = sealed

    def open(self) -> Artifact[F]:
        """The finished artifact. ArtifactMissing if it is not sealed."""
        return open_artifact(self.uri, self.kind)

    def pending(self) -> list[int]:
        done = set(self.done())
        return [part for part in range(self.num_parts) if part not in done]

    def commit(
        self,
        part: int,
        table: pa.Table,
        seconds: float,
        statuses: dict[str, int] | None = None,
        rows_per_group: int = 0,
        **facts: Any,
    ) -> Receipt:
        """Store one part as Parquet, then its receipt. If the table has a column `status`, its values are counted.

        statuses: counts of a table without such a column; all its rows are ok all the same. rows_per_group: as
        parquet_bytes takes it.
        """
        ok, statuses = table.num_rows, statuses or {}
        if "status" in table.column_names:
            counts = table["status"].value_counts()
            statuses = {str(row["values"]): int(row["counts"]) for row in counts.to_pylist()}
            ok = statuses.get("ok", 0) if statuses else table.num_rows
        name = f"{part_name(part)}.parquet"
        return self.commit_files(
            part, {name: parquet_bytes(table, rows_per_group)}, seconds, table.num_rows, ok, statuses, **facts
        )

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
        """Store the files of one part, then its receipt. A file that is too large for memory comes in pieces."""
        described = {name: self._write(name, data) for name, data in sorted(files.items())}
        size = sum(described[name]["bytes"] for name in described)
        ok = rows if ok is None else ok
        receipt = Receipt(part, rows, ok, size, round(seconds, 3), statuses or {}, described, facts)
        self.storage.write(f"{part_name(part)}.json", stamped(asdict(receipt)))
        return receipt

    def _write(self, name: str, data: bytes | Iterator[Piece]) -> StoredFile:
        checksum, size = hashlib.sha256(), 0
        if isinstance(data, bytes):
            self.storage.write(name, data)
            stored: StoredFile = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            if name.endswith(".parquet"):
                stored["footer_sha256"] = hashlib.sha256(footer(data)).hexdigest()
            return stored
        with self.storage.writing(name) as file:
            for piece in data:
                file.write(piece)
                checksum.update(piece)
                size += memoryview(piece).nbytes
        return {"sha256": checksum.hexdigest(), "bytes": size}

    def recommit(self, part: int, table: pa.Table, seconds: float, **facts: Any) -> Receipt:
        """Replace the table of a part.

        A kill leaves the old table or the new one, which `written` gives, and the part pending.
        """
        assert not self.sealed, "reopen it first"
        self.storage.delete(f"{part_name(part)}.json")
        return self.commit(part, table, seconds, **facts)

    def written(self, part: int) -> pa.Table | None:
        """The table of a part, with or without its receipt: writes are whole, so a killed run leaves a usable table."""
        name = f"{part_name(part)}.parquet"
        if not self.storage.exists(name):
            return None
        try:
            return self.storage.parquet(name).read()
        except (pa.ArrowException, OSError, StorageError):
            return None

    def seal(self, facts: F | None = None) -> Artifact[F]:
        """Write the manifest: from now on the artifact exists. If it exists already, it is opened as it is.

        facts: None where the kind states none, or where `create` was given all of them.
        """
        if self.sealed:
            return self.open()
        building = self._plan()
        receipts = [self.receipt(part) for part in range(self.num_parts)]
        manifest = Manifest(
            kind=self.kind.name,
            config=building["config"],
            parents=building["parents"],
            parts=self.num_parts,
            rows=sum(r.rows for r in receipts),
            ok=sum(r.ok for r in receipts),
            bytes=sum(r.bytes for r in receipts),
            seconds=round(sum(r.seconds for r in receipts), 3),
            content=content_hash(receipts),
            statuses=dict(sum((Counter(r.statuses) for r in receipts), Counter())),
            facts=building.get("facts", {}) | ({} if facts is None else asdict(facts)),  # type: ignore[call-overload]
        )
        self.storage.write(MANIFEST, stamped(asdict(manifest)))
        return Artifact(self.storage, self.kind, manifest)

    def _plan(self) -> dict[str, Any]:
        plan = plan_of(self.uri)
        if not plan:
            raise ArtifactCorrupt(f"{self.uri}/{BUILDING} is gone; delete that directory, run the stage again")
        return plan

    def reopen(self) -> Draft[F]:
        """Take the manifest away, so that parts can be done again: until `seal`, the artifact does not exist."""
        take(self.uri)
        self.storage.delete(MANIFEST)
        return Draft(self.storage, self.kind, self.num_parts)

    def _grow(self, num_parts: int, **plan: Any) -> Draft[F]:
        """Make room for more parts behind the last. plan: what else the draft says of itself from now on."""
        assert num_parts >= self.num_parts, "an artifact never gets smaller"
        take(self.uri)
        building = self._plan()
        self.storage.delete(MANIFEST)
        self.storage.write(BUILDING, stamped(building | plan | {"parts": num_parts}))
        return Draft(self.storage, self.kind, num_parts)


def create(
    uri: str,
    kind: Kind[F],
    config: dict[str, Any],
    parents: Mapping[str, Artifact[Any]],
    num_parts: int,
    grows: bool = False,
    facts: F | None = None,
    smaller: dict[str, Any] | None = None,
) -> Draft[F]:
    """Begin or resume an artifact, or find it finished by the same configuration and parents (`sealed`).

    grows: the artifact may get more parts, provided that its parents have only got more parts too.
    smaller: the configuration that it may have had before it grew, if it grows by that and not by its parents.
    facts: known from the beginning; `seal` keeps them.
    """
    storage = open_storage(uri)
    sealed = storage.exists(MANIFEST)
    if not sealed:
        take(storage.uri)
        storage.sweep()
    known = {} if facts is None else asdict(facts)  # type: ignore[call-overload]
    plan = {
        "kind": kind.name,
        "config": json.loads(json.dumps(config)),
        "parents": {name: parent.content for name, parent in sorted(parents.items())},
        "parts": num_parts,
        "schema_version": SCHEMA_VERSION,
    }
    if found := plan_of(uri) or _plan_of_parts(storage):
        if grows and found["parts"] < num_parts and _is_start(found, plan, parents, smaller):
            draft = Draft(storage, kind, found["parts"])
            return draft._grow(num_parts, config=plan["config"], parents=plan["parents"], facts=known)
        differing = differences(found, plan)
        if differing:
            raise ArtifactMismatch(
                f"{storage.uri} was made by another configuration: {'; '.join(differing)}; use another `out` or "
                "`database`, or delete that directory"
            )
    else:
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        storage.write(BUILDING, stamped(plan | {"created": created, "facts": known}))
    return Draft(storage, kind, num_parts, sealed)


def create_anew(
    uri: str,
    kind: Kind[F],
    config: dict[str, Any],
    parents: Mapping[str, Artifact[Any]],
    num_parts: int,
    facts: F | None = None,
) -> Draft[F]:
    """As `create`, of what follows from its parents in one pass: what another configuration made is deleted."""
    try:
        return create(uri, kind, config, parents, num_parts, facts=facts)
    except ArtifactMismatch:
        say(f"{uri} is made anew: another model, other data or other options made what was there")
        open_storage(uri).delete_all()
        return create(uri, kind, config, parents, num_parts, facts=facts)


def _plan_of_parts(storage: Storage) -> dict[str, Any]:
    """The plan of an artifact whose _building.json is gone, by its manifest; {} if there is no artifact here."""
    if storage.exists(MANIFEST):
        manifest = open_artifact(storage.uri).manifest
        return {name: getattr(manifest, name) for name in ("kind", "config", "parents", "parts", "schema_version")}
    if any(path.startswith("part-") and path.endswith(".json") for path in storage.list()):
        raise ArtifactCorrupt(
            f"{storage.uri} has parts, and no {BUILDING} says what they were made of; delete that directory, run the "
            "stage again"
        )
    return {}


def _is_start(
    found: dict[str, Any], plan: dict[str, Any], parents: Mapping[str, Artifact[Any]], smaller: dict[str, Any] | None
) -> bool:
    """True if the directory holds this plan's artifact, made of the first parts of these parents, or by a smaller
    configuration."""
    if smaller is not None:
        return not differences(found, plan | {"parts": found["parts"], "config": json.loads(json.dumps(smaller))})
    then = {name: parent.content_of(found["parts"]) for name, parent in parents.items()}
    return not differences(found, plan | {"parts": found["parts"], "parents": then})


def open_unfinished(uri: str, wanted: Kind[Any] | None = None) -> Parts[Any]:
    """Open whatever is there: an Artifact if it is finished, else a Draft of which some parts are done.

    wanted: the kind that ArtifactMissing names if it lies in the folder below, as in a database.
    """
    storage, plan = open_storage(uri), plan_of(uri)
    if not plan:
        inside = held_below(storage)
        inside = [wanted.name] if wanted and wanted.name in inside else inside
        places = " or ".join(f"{storage.uri}/{name}" for name in inside) or "such as <database>/images"
        raise ArtifactMissing(f"{storage.uri}: no artifact here; name the directory of one, {places}")
    kind = kind_named(plan["kind"], storage.uri)
    return open_artifact(uri, kind) if storage.exists(MANIFEST) else Draft(storage, kind, plan["parts"])
