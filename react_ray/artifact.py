"""Artifact: a finished directory of numbered parts, a receipt for each part, and a manifest that was written last.

    part-00000.parquet (or any files), then part-00000.json   a part is done iff its receipt exists
    _building.json at create(), manifest.json by seal()       an artifact exists iff its manifest exists

This file reads artifacts; draft.py makes them. `facts` are typed by the artifact's kind (kinds.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Generic, TypeVar, overload

import pyarrow as pa

from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, ArtifactMissing, StorageError
from react_ray.kinds import KINDS, Kind
from react_ray.manifest import BUILDING, MANIFEST, SCHEMA_VERSION, Manifest, Receipt, content_hash, part_name
from react_ray.storage import Storage, open_storage

F = TypeVar("F")


class Parts(Generic[F]):
    """The parts of a directory that are done, whether it is finished or not: what Artifact and Draft have in common."""

    def __init__(self, storage: Storage, kind: Kind[F], num_parts: int) -> None:
        self.storage, self.kind, self.num_parts = storage, kind, num_parts

    @property
    def uri(self) -> str:
        return self.storage.uri

    def done(self) -> list[int]:
        found = set(self.storage.list())
        return [part for part in range(self.num_parts) if f"{part_name(part)}.json" in found]

    def receipts(self) -> list[Receipt]:
        """The receipts of all parts that are done."""
        return [self.receipt(part) for part in self.done()]

    def receipt(self, part: int) -> Receipt:
        return Receipt(**json.loads(self.storage.read(f"{part_name(part)}.json")))

    def read(self, part: int, columns: list[str] | None = None) -> pa.Table:
        name = f"{part_name(part)}.parquet"
        try:
            return self.storage.parquet(name).read(columns=columns)
        except (pa.ArrowInvalid, OSError, StorageError) as error:
            self.read_file(part, name)  # raises if these are not the committed bytes, or if they cannot be read at all
            raise StorageError(f"cannot read {self.uri}/{name}: {error}; run the stage again") from error

    def read_file(self, part: int, name: str) -> bytes:
        """The bytes of one committed file, checked against its receipt."""
        data = self.storage.read(name)
        self._require(part, name, hashlib.sha256(data).hexdigest())
        return data

    def local_file(self, part: int, name: str) -> str:
        """A local path of one committed file, checked against its receipt. A file too large for memory is mapped."""
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
                f"{self.uri}/{name} has a wrong checksum; delete {part_name(part)}.json and manifest.json, "
                "run the stage again"
            )


class Artifact(Parts[F]):
    """A finished artifact. `open_artifact` opens one, and `Draft.seal` gives one."""

    def __init__(self, storage: Storage, kind: Kind[F], manifest: Manifest) -> None:
        super().__init__(storage, kind, manifest.parts)
        self.manifest = manifest

    @property
    def content(self) -> str:
        return self.manifest.content

    @property
    def rows(self) -> int:
        return self.manifest.rows

    @property
    def facts(self) -> F:
        """What the manifest states beyond the counts, typed by the kind."""
        return facts_of(self.kind, self.manifest.facts, self.uri)

    def done(self) -> list[int]:
        return list(range(self.num_parts))

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        for part in range(self.num_parts):
            yield self.read(part, columns)

    def content_of(self, num_parts: int) -> str:
        """The content hash that this artifact had when it consisted of only the first `num_parts` parts."""
        if num_parts == self.num_parts:
            return self.content
        return content_hash([self.receipt(part) for part in range(num_parts)])


@overload
def open_artifact(uri: str, kind: Kind[F], made_by: str = "") -> Artifact[F]: ...
@overload
def open_artifact(uri: str) -> Artifact[Any]: ...
def open_artifact(uri: str, kind: Kind[Any] | None = None, made_by: str = "") -> Artifact[Any]:
    """Open a finished artifact, of this kind or (None) of whatever kind is there.

    ArtifactMissing names the verb that makes it: made_by, or else the kind's own verb. ArtifactMismatch if another kind
    or another version of the schema is there.
    """
    storage = open_storage(uri)
    if not storage.exists(MANIFEST):
        what, verb = (kind.name, made_by or kind.made_by) if kind else ("artifact", "run")
        raise ArtifactMissing(f"{storage.uri}: no finished {what} here; run `react-ray {verb} RECIPE` first")
    found = json.loads(storage.read(MANIFEST))
    kind = kind or kind_named(found["kind"], storage.uri)
    if (found["kind"], found["schema_version"]) != (kind.name, SCHEMA_VERSION):
        raise ArtifactMismatch(
            f"{storage.uri} holds {found['kind']} of version {found['schema_version']}, not {kind.name} of version "
            f"{SCHEMA_VERSION}; name another directory"
        )
    return Artifact(storage, kind, Manifest(**found))


def plan_of(uri: str) -> dict[str, Any]:
    """What the artifact here is, or will be, made of: kind, config, parents, parts. Empty if there is none."""
    storage = open_storage(uri)
    return json.loads(storage.read(BUILDING)) if storage.exists(BUILDING) else {}


def kind_named(name: str, uri: str) -> Kind[Any]:
    """ArtifactMismatch if this version of the package knows no such kind."""
    if name not in KINDS:
        raise ArtifactMismatch(f"{uri} holds {name}, which is none of {', '.join(KINDS)}; name another directory")
    return KINDS[name]


def facts_of(kind: Kind[F], found: dict[str, Any], uri: str) -> F:
    """ArtifactCorrupt if the facts on storage are not those that the kind states."""
    known = {field.name for field in fields(kind.facts)}  # type: ignore[arg-type]
    try:
        return kind.facts(**{name: value for name, value in found.items() if name in known})
    except TypeError as error:
        raise ArtifactCorrupt(
            f"{uri}/{MANIFEST} lacks facts ({error}); delete the directory, run the stage again"
        ) from error
