"""Storage: local paths and s3:// behind one small interface. The only importer of boto3 and of pyarrow.fs.

Takes URIs (see uri.py), gives bytes, streams, Parquet files and listings. Every write is whole-object and atomic: a reader sees the old object, the new one,
or none. S3 settings come from the environment variables of AWS (AWS_ENDPOINT_URL for a compatible server).
Next: artifact.py.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import boto3
import botocore.exceptions
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from botocore.config import Config

from react_ray.errors import ConfigError, StorageError
from react_ray.uri import absolute, is_local, join, matches, split_glob

T = TypeVar("T")
READ_AHEAD = 8 << 20  # bytes of one request for a stream from S3: at 100 ms a request, 80 MB/s
S3_ERRORS = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError)


class Storage:
    """A directory-like place. Paths are relative and use `/`."""

    def __init__(self, uri: str) -> None:
        self.uri = absolute(uri)

    def read(self, path: str) -> bytes:
        raise NotImplementedError

    def write(self, path: str, data: bytes) -> None:
        raise NotImplementedError

    @contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        """A file to write what is too large for memory; it is there, whole, once the block has ended without an error."""
        raise NotImplementedError
        yield

    def exists(self, path: str) -> bool:
        raise NotImplementedError

    def list(self, prefix: str = "") -> list[str]:
        """Paths of all files below `prefix` (a folder), sorted, relative to this storage."""
        raise NotImplementedError

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """As `list`, with the bytes of each file."""
        raise NotImplementedError

    def delete(self, path: str) -> None:
        raise NotImplementedError

    def delete_all(self, prefix: str = "") -> None:
        for path in self.list(prefix):
            self.delete(path)

    def local_file(self, path: str) -> str:
        """A local path with the file's bytes: itself, or a copy in the cache directory."""
        raise NotImplementedError

    def parquet(self, path: str) -> pq.ParquetFile:
        raise NotImplementedError

    def stream(self, path: str) -> BinaryIO:
        """A file to read from its beginning on, or to seek in."""
        raise NotImplementedError

    def arrow_file(self, path: str) -> pa.NativeFile:
        """A file of which only what is asked for is read: a memory map, or ranges of an object."""
        raise NotImplementedError

    def read_range(self, path: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes; StorageError where the file ends before."""

        def action() -> bytes:
            with self.arrow_file(path) as file:
                return bytes(file.read_at(length, start))

        data = self._try("read", path, action)
        if len(data) < length:
            raise StorageError(
                f"cannot read {self.uri}/{path}: it ends before byte {start + length}; it has changed or is cut off, write it again"
            )
        return data

    def _try(self, verb: str, path: str, action: Callable[[], T]) -> T:
        raise NotImplementedError

    def at(self, *parts: str) -> Storage:
        return open_storage(join(self.uri, *parts))


class LocalStorage(Storage):
    def _path(self, path: str) -> Path:
        return Path(self.uri, path) if path else Path(self.uri)

    def _try(self, verb: str, path: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(f"cannot {verb} {self._path(path)}: {reason}; check the path and its permissions") from error

    def read(self, path: str) -> bytes:
        return self._try("read", path, lambda: self._path(path).read_bytes())

    def write(self, path: str, data: bytes) -> None:
        def action() -> None:
            with self.writing(path) as file:
                file.write(data)

        self._try("write", path, action)

    @contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        target = self._path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".writing-", delete=False) as file:
            try:
                yield cast(BinaryIO, file)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise

    def exists(self, path: str) -> bool:
        return self._path(path).is_file()

    def list(self, prefix: str = "") -> list[str]:
        root = self._path(prefix)
        found = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".writing-"))
        return sorted(str(p.relative_to(self.uri)) for p in found)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return self._try("list", prefix, lambda: {path: self._path(path).stat().st_size for path in self.list(prefix)})

    def delete(self, path: str) -> None:
        self._try("delete", path, lambda: self._path(path).unlink(missing_ok=True))

    def local_file(self, path: str) -> str:
        if not self.exists(path):
            raise StorageError(f"cannot read {self._path(path)}: no such file; check the path")
        return str(self._path(path))

    def parquet(self, path: str) -> pq.ParquetFile:
        source = self.local_file(path)
        return _open_parquet(source, lambda: pq.ParquetFile(source, page_checksum_verification=True))

    def stream(self, path: str) -> BinaryIO:
        return self._try("read", path, lambda: self._path(path).open("rb"))

    def arrow_file(self, path: str) -> pa.NativeFile:
        return self._try("read", path, lambda: pa.memory_map(str(self._path(path))))


class S3Storage(Storage):
    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        self.prefix = prefix.strip("/")
        if not self.bucket:
            raise ConfigError(f"{uri}: no bucket; write s3://bucket/prefix")
        self._client = boto3.client("s3", config=Config(retries={"max_attempts": 5, "mode": "standard"}))

    def __reduce__(self) -> tuple[Callable[[str], Storage], tuple[str]]:
        """Each process makes its own client; credentials come from its own environment, never with a task."""
        return open_storage, (self.uri,)

    def _key(self, path: str) -> str:
        return "/".join(p for p in (self.prefix, path.strip("/")) if p)

    def _try(self, verb: str, path: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except S3_ERRORS as error:
            raise StorageError(
                f"cannot {verb} s3://{self.bucket}/{self._key(path)}: {error}; check the bucket, AWS credentials and AWS_ENDPOINT_URL"
            ) from error

    def read(self, path: str) -> bytes:
        return self._try(
            "read", path, lambda: self._client.get_object(Bucket=self.bucket, Key=self._key(path))["Body"].read()
        )

    def write(self, path: str, data: bytes) -> None:
        self._try("write", path, lambda: self._client.put_object(Bucket=self.bucket, Key=self._key(path), Body=data))

    @contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        with tempfile.TemporaryFile() as file:
            yield cast(BinaryIO, file)
            file.seek(0)
            self._try("write", path, lambda: self._client.upload_fileobj(file, self.bucket, self._key(path)))

    def exists(self, path: str) -> bool:
        def action() -> bool:
            try:
                self._client.head_object(Bucket=self.bucket, Key=self._key(path))
                return True
            except botocore.exceptions.ClientError as error:
                if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                    return False
                raise

        return self._try("read", path, action)

    def list(self, prefix: str = "") -> list[str]:
        return list(self.sizes(prefix))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        key = self._key(prefix)
        root = f"{self.prefix}/" if self.prefix else ""

        def action() -> dict[str, int]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=f"{key}/" if key else ""
            )
            found = {o["Key"]: o["Size"] for page in pages for o in page.get("Contents", [])}
            return {key.removeprefix(root): found[key] for key in sorted(found) if not key.endswith("/")}  # no markers of folders

        return self._try("list", prefix, action)

    def delete(self, path: str) -> None:
        self._try("delete", path, lambda: self._client.delete_object(Bucket=self.bucket, Key=self._key(path)))

    def local_file(self, path: str) -> str:
        """Cached by ETag, so that a changed object is fetched again."""

        def etag() -> str:
            return self._client.head_object(Bucket=self.bucket, Key=self._key(path))["ETag"].strip('"')

        object_version = f"{self.bucket}/{self._key(path)} {self._try('read', path, etag)}"
        name = hashlib.sha256(object_version.encode()).hexdigest()[:32] + Path(path).suffix
        cached = Path(tempfile.gettempdir(), f"react_ray-cache-{os.getuid()}", name)
        if not cached.exists():
            LocalStorage(str(cached.parent)).write(cached.name, self.read(path))
        return str(cached)

    def parquet(self, path: str) -> pq.ParquetFile:
        place = f"{self.bucket}/{self._key(path)}"

        def open_object() -> pq.ParquetFile:
            return pq.ParquetFile(place, filesystem=_s3_filesystem(), page_checksum_verification=True)

        return self._try("read", path, lambda: _open_parquet(f"s3://{place}", open_object))

    def stream(self, path: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(self.arrow_file(path), READ_AHEAD))

    def arrow_file(self, path: str) -> pa.NativeFile:
        return self._try("read", path, lambda: _s3_filesystem().open_input_file(f"{self.bucket}/{self._key(path)}"))


def _s3_filesystem() -> pafs.S3FileSystem:
    return pafs.S3FileSystem(endpoint_override=os.environ.get("AWS_ENDPOINT_URL"))


def _open_parquet(name: str, action: Callable[[], pq.ParquetFile]) -> pq.ParquetFile:
    try:
        return action()
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(f"cannot read {name}: not a Parquet file ({error}); write it again or name another file") from error


def open_storage(uri: str) -> Storage:
    uri = absolute(uri)
    return LocalStorage(uri) if is_local(uri) else S3Storage(uri)


def _split(uri: str) -> tuple[Storage, str]:
    folder, _, name = absolute(uri).rpartition("/")
    return open_storage(folder or "/"), name


def read_bytes(uri: str) -> bytes:
    storage, name = _split(uri)
    return storage.read(name)


def local_file(uri: str) -> str:
    """A readable local path of any URI."""
    storage, name = _split(uri)
    return storage.local_file(name)


def open_parquet(uri: str) -> pq.ParquetFile:
    storage, name = _split(uri)
    return storage.parquet(name)


def open_stream(uri: str) -> BinaryIO:
    storage, name = _split(uri)
    return storage.stream(name)


def open_arrow_file(uri: str) -> pa.NativeFile:
    storage, name = _split(uri)
    return storage.arrow_file(name)


def read_range(uri: str, start: int, length: int) -> bytes:
    storage, name = _split(uri)
    return storage.read_range(name, start, length)


def list_files(uri: str, suffix: str = "") -> list[str]:
    """URIs of one file, or of all files with this suffix below a folder or of a glob (`*`, `?`, `[a-z]`, `**`), sorted."""
    storage, name = _split(uri)
    if storage.exists(name):
        return [absolute(uri)]
    folder = open_storage(uri)
    found = folder.list()
    root, pattern = split_glob(uri)
    if not found and pattern:
        folder = open_storage(root)
        found = [path for path in folder.list() if matches(path, pattern)]
    return [join(folder.uri, path) for path in found if path.endswith(suffix)]


def arrow_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The same place for libraries that take a pyarrow filesystem and a path in it."""
    uri = absolute(uri)
    if is_local(uri):
        return pafs.LocalFileSystem(), uri
    return _s3_filesystem(), uri.removeprefix("s3://")


def check_writable(uri: str) -> None:
    """Raises StorageError before a run starts, not after its first hour."""
    storage = open_storage(uri)
    storage.write(".react_ray-probe", b"")
    storage.delete(".react_ray-probe")
