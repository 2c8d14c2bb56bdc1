"""Reads and writes local paths and s3:// URIs through one small interface.

Takes URIs (see uri.py), gives bytes, streams, Parquet files and listings. Every write is atomic and replaces the whole
object: a reader sees the old object, the new one, or none. S3 settings come from the environment variables of AWS
(AWS_ENDPOINT_URL for a compatible server). No other package imports boto3 or pyarrow.fs.
"""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from react_ray.errors import ConfigError
from react_ray.storage.base import Storage
from react_ray.storage.local import LocalStorage
from react_ray.uri import absolute, is_local, matches, split_glob, target
from react_ray.uri import join as join


def open_storage(uri: str) -> Storage:
    uri = absolute(uri)
    if is_local(uri):
        return LocalStorage(uri)
    from react_ray.storage.s3 import S3Storage  # boto3 loads slowly, and most processes do not need it

    return S3Storage(uri)


def _split(uri: str) -> tuple[Storage, str]:
    folder, _, name = absolute(uri).rpartition("/")
    if folder == "s3:/":  # a bucket
        return open_storage(uri), ""
    return open_storage(folder or "/"), name


def read_bytes(uri: str) -> bytes:
    storage, name = _split(uri)
    return storage.read(name)


def local_file(uri: str) -> str:
    """Returns a local path with the contents of the URI."""
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
    """Lists the URIs of one file, of all files below a folder, or of a glob (`*`, `?`, `[a-z]`, `**`), sorted. Links
    to folders are followed.

    suffix: lists only the files whose names end with it.
    """
    storage, name = _split(uri)
    if name and storage.exists(name):
        return [absolute(uri)]
    folder = open_storage(uri)
    found = list(folder.files()[0])
    root, pattern = split_glob(uri)
    if not found and pattern:
        folder = open_storage(root)
        found = [path for path in folder.files()[0] if matches(path, pattern)]
    # Not join, which would make another key of one with two slashes in a row: absolute refuses it.
    return [absolute(f"{folder.uri.rstrip('/')}/{path}") for path in found if path.endswith(suffix)]


def versions(uri: str) -> dict[str, str]:
    """Returns, for one file, for all files below a folder or for those of a glob, a text that differs once the file was
    written again; {} if there is none."""
    storage, name = _split(uri)
    if found := storage.versions(name):
        return found
    root, pattern = split_glob(uri)
    if not pattern:
        return {}
    return {path: one for path, one in open_storage(root).versions().items() if matches(path, pattern)}


def arrow_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Returns the place as a pyarrow filesystem and a path in it, for libraries that take these."""
    uri = absolute(uri)
    if is_local(uri):
        return pafs.LocalFileSystem(), uri
    from react_ray.storage.s3 import s3_filesystem

    return s3_filesystem(), uri.removeprefix("s3://")


def check_writable(uri: str) -> None:
    """Raises StorageError if nothing can be written there, before a run starts instead of after its first hour."""
    storage = open_storage(target(uri, "the place to write to"))
    storage.write(".react_ray-probe", b"")
    storage.delete(".react_ray-probe")


def open_empty(uri: str) -> Storage:
    """Opens a folder to export to; raises ConfigError unless it is empty."""
    check_writable(uri)
    storage = open_storage(uri)
    if storage.list():
        raise ConfigError(
            f"export: {storage.uri} is not empty, readers would take old files for new ones; name another folder"
        )
    return storage
