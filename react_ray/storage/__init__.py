"""Storage: local paths and s3:// behind one small interface. The only importer of boto3 and of pyarrow.fs.

Takes URIs (see uri.py), gives bytes, streams, Parquet files and listings. Every write is whole-object and atomic: a reader sees the old object, the new one,
or none. S3 settings come from the environment variables of AWS (AWS_ENDPOINT_URL for a compatible server).
Next: base.py, then artifact.py.
"""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from react_ray.errors import ConfigError
from react_ray.storage.base import Storage
from react_ray.storage.local import LocalStorage
from react_ray.uri import absolute, is_local, join, matches, split_glob


def open_storage(uri: str) -> Storage:
    uri = absolute(uri)
    if is_local(uri):
        return LocalStorage(uri)
    from react_ray.storage.s3 import S3Storage  # boto3 is slow to load, and most processes need none

    return S3Storage(uri)


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
    from react_ray.storage.s3 import s3_filesystem

    return s3_filesystem(), uri.removeprefix("s3://")


def check_writable(uri: str) -> None:
    """Raises StorageError before a run starts, not after its first hour."""
    storage = open_storage(uri)
    storage.write(".react_ray-probe", b"")
    storage.delete(".react_ray-probe")


def open_empty(uri: str) -> Storage:
    """A folder to export to: writable, and nothing in it."""
    check_writable(uri)
    storage = open_storage(uri)
    if storage.list():
        raise ConfigError(
            f"export: {storage.uri} is not empty, readers would take old files for new ones; name another folder"
        )
    return storage
