"""Artifact: a finished directory of numbered parts, a receipt for each part, and a manifest that was written last.

    part-00000.parquet (or any files), then part-00000.json   a part is done iff its receipt exists
    _building.json at create(), manifest.json by seal()       an artifact exists iff its manifest exists

This file reads artifacts; draft.py makes them. `facts` are typed by the artifact's kind (kinds.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Generic, NoReturn, TypeVar, cast, overload

import pyarrow as pa
import pyarrow.parquet as pq

from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, ArtifactMissing, StorageError
from react_ray.kinds import KINDS, Kind
from react_ray.manifest import (
    BUILDING,
    MANIFEST,
    SCHEMA_VERSION,
    Manifest,
    Plan,
    Receipt,
    StoredFile,
    content_hash,
    part_name,
)
from react_ray.metadata import parse_json, read_json, shaped
from react_ray.parquet import FOOTER_END, footer_sha256, read_rows
from react_ray.storage import Storage, open_storage

F = TypeVar("F")
HEAD_BYTES = 1 << 16  # of a column at a time


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
        name = f"{part_name(part)}.json"
        receipt = read_json(self.storage, name, Receipt, self.remedy(part))
        if receipt.part != part:
            raise ArtifactCorrupt(f"{self.uri}/{name} is the receipt of part {receipt.part}; {self.remedy(part)}")
        return receipt

    def read(self, part: int, columns: list[str] | None = None) -> pa.Table:
        """The table of a part. Its footer is compared with the receipt, and Parquet compares each page that is read
        with a checksum, so that no more is read than `columns` needs (verify.py reads every byte)."""
        name = f"{part_name(part)}.parquet"
        try:
            file = self.storage.parquet(name)
            self._require_footer(part, name, file.metadata)
            return file.read(columns=columns)
        except (pa.ArrowException, OSError, StorageError) as error:
            self.read_file(part, name)  # raises if these are not the committed bytes, or if they cannot be read at all
            raise StorageError(f"cannot read {self.uri}/{name}: {error}; run the stage again") from error

    def footer(self, part: int) -> pq.FileMetaData:
        """The footer of a part's table: its row groups, and how large they are."""
        name = f"{part_name(part)}.parquet"
        with self._opened(part, name) as file:
            return file.metadata

    def read_rows(self, part: int, start: int, count: int, columns: list[str]) -> pa.Table:
        """As `read`, of some rows; only the row groups that hold them are read."""
        name = f"{part_name(part)}.parquet"
        with self._opened(part, name) as file:
            return read_rows(file, start, count, columns)

    @contextmanager
    def _opened(self, part: int, name: str) -> Iterator[pq.ParquetFile]:
        """pre_buffer: neighbouring columns are read by one request."""
        try:
            with self.storage.arrow_file(name) as source:
                file = pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True)
                self._require_footer(part, name, file.metadata)
                yield file
        except (pa.ArrowException, OSError) as error:
            self.read_file(part, name)  # raises if these are not the committed bytes
            raise StorageError(f"cannot read {self.uri}/{name}: {error}; run the stage again") from error

    def head(self, part: int, num_rows: int) -> pa.Table:
        """The first rows of a part. Only the pages that hold them are read, so that a look at a large part is quick."""
        name = f"{part_name(part)}.parquet"
        try:
            with self.storage.arrow_file(name) as source:
                file = pq.ParquetFile(source, buffer_size=HEAD_BYTES, pre_buffer=False, page_checksum_verification=True)
                self._require_footer(part, name, file.metadata)
                batches = file.iter_batches(batch_size=num_rows)
                return pa.Table.from_batches([next(batches)] if file.metadata.num_rows else [], file.schema_arrow)
        except (pa.ArrowException, OSError) as error:
            self.read_file(part, name)  # raises if these are not the committed bytes
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

    def remedy(self, part: int) -> str:
        return f"delete {part_name(part)}.json and {MANIFEST}, run the stage again"

    def _file(self, part: int, name: str) -> StoredFile:
        files = self.receipt(part).files
        if name not in files:
            raise ArtifactCorrupt(f"{self.uri}/{part_name(part)}.json does not know {name}; {self.remedy(part)}")
        return files[name]

    def _require_footer(self, part: int, name: str, metadata: pq.FileMetaData) -> None:
        stored = self._file(part, name)
        wanted = stored.get("footer_sha256")
        if wanted in (None, footer_sha256(metadata)):  # None: of an earlier version
            return
        # Another version of pyarrow may write a footer otherwise than it was: only its own bytes prove that it changed.
        length = metadata.serialized_size
        raw = self.storage.read_range(name, stored["bytes"] - FOOTER_END - length, length)
        if hashlib.sha256(raw).hexdigest() != wanted:
            self._fail(part, name)

    def _require(self, part: int, name: str, checksum: str) -> None:
        if self._file(part, name)["sha256"] != checksum:
            self._fail(part, name)

    def _fail(self, part: int, name: str) -> NoReturn:
        raise ArtifactCorrupt(f"{self.uri}/{name} has a wrong checksum; {self.remedy(part)}")


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

    @cached_property
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
        inside = [name for name in held_below(storage) if kind is None or name == kind.name]
        remedy = f"name {storage.uri}/{inside[0]}" if inside else f"run `react-ray {verb} RECIPE` first"
        raise ArtifactMissing(f"{storage.uri}: no finished {what} here; {remedy}")
    where, remedy = f"{storage.uri}/{MANIFEST}", f"delete {MANIFEST} there, run the stage again"
    raw = parse_json(storage.read(MANIFEST), where, remedy)
    if isinstance(raw, dict) and isinstance(raw.get("kind"), str):  # of another version it may have another shape
        kind, version = kind or kind_named(raw["kind"], storage.uri), raw.get("schema_version", SCHEMA_VERSION)
        if (raw["kind"], version) != (kind.name, SCHEMA_VERSION):
            raise ArtifactMismatch(
                f"{storage.uri} holds {raw['kind']} of version {version}, not {kind.name} of version {SCHEMA_VERSION}; "
                "name another directory"
            )
    manifest = shaped(raw, Manifest, where, remedy)
    return Artifact(storage, kind or kind_named(manifest.kind, storage.uri), manifest)


def held_below(storage: Storage) -> list[str]:
    """The artifacts, finished or not, in folders of their kinds' names: those of a database or a run."""
    return [name for name in KINDS if storage.exists(f"{name}/{BUILDING}") or storage.exists(f"{name}/{MANIFEST}")]


def plan_of(uri: str) -> dict[str, Any]:
    """What the artifact here is, or will be, made of: kind, config, parents, parts. Empty if there is none."""
    storage = open_storage(uri)
    if not storage.exists(BUILDING):
        return {}
    return cast(dict[str, Any], read_json(storage, BUILDING, Plan, "delete that directory, run the stage again"))


def kind_named(name: str, uri: str) -> Kind[Any]:
    """ArtifactMismatch if this version of the package knows no such kind."""
    if name not in KINDS:
        raise ArtifactMismatch(f"{uri} holds {name}, which is none of {', '.join(KINDS)}; name another directory")
    return KINDS[name]


def facts_of(kind: Kind[F], found: dict[str, Any], uri: str) -> F:
    """ArtifactCorrupt if the facts on storage are not those that the kind states."""
    return shaped(found, kind.facts, f"{uri}/{MANIFEST}, facts", "delete that directory, run the stage again")
