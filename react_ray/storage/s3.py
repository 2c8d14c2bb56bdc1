"""S3Storage: objects of S3 or a compatible server, which the environment variables of AWS configure."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import boto3
import botocore.exceptions
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from botocore.config import Config

from react_ray.errors import ConfigError, StorageError
from react_ray.redact import redact
from react_ray.storage.base import Storage, open_checked
from react_ray.storage.local import LocalStorage

T = TypeVar("T")
ATTEMPTS = 6  # at one request: a body that breaks off is read again
PAUSE_S = 0.1  # before the second attempt; it grows
READ_AHEAD = 8 << 20  # bytes per request of a stream; each request waits, so few large ones are faster
ONE_REQUEST = 1 << 30  # largest object written by a single request, bytes; S3 accepts 5 GiB
GONE = ("404", "NoSuchKey", "NotFound")
CHANGED = (*GONE, "412", "PreconditionFailed", "409", "ConditionalRequestConflict")
S3_ERRORS = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError, pa.ArrowInvalid)
BROKEN = (  # after the first bytes, when boto3 itself tries no more
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.IncompleteReadError,
    botocore.exceptions.ReadTimeoutError,
)


class S3Storage(Storage):
    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        self.prefix = prefix.strip("/")
        if not self.bucket:
            raise ConfigError(f"{uri}: no bucket; write s3://bucket/prefix")
        try:
            self._client = boto3.client("s3", config=Config(retries={"max_attempts": ATTEMPTS - 1, "mode": "standard"}))
        except ValueError as error:
            raise ConfigError(f"{redact(str(error))}; correct AWS_ENDPOINT_URL") from None

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        """Pickles the URI alone: each process makes its own client, with the credentials of its own environment."""
        return S3Storage, (self.uri,)

    def _key(self, path: str) -> str:
        return "/".join(p for p in (self.prefix, path.strip("/")) if p)

    def _try(self, verb: str, path: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except S3_ERRORS as error:
            raise StorageError(
                f"cannot {verb} s3://{self.bucket}/{self._key(path)}: {redact(str(error))}; check the bucket, AWS "
                "credentials and AWS_ENDPOINT_URL"
            ) from error

    def read(self, path: str) -> bytes:
        def action() -> bytes:
            for left in range(ATTEMPTS - 1, -1, -1):
                try:
                    return self._client.get_object(Bucket=self.bucket, Key=self._key(path))["Body"].read()
                except BROKEN:
                    if not left:
                        raise
                    time.sleep(PAUSE_S * (ATTEMPTS - left))
            raise AssertionError

        return self._try("read", path, action)

    def write(self, path: str, data: bytes) -> None:
        def action() -> None:
            if len(data) <= ONE_REQUEST:
                self._client.put_object(Bucket=self.bucket, Key=self._key(path), Body=data)
            else:
                self._client.upload_fileobj(io.BytesIO(data), self.bucket, self._key(path))

        self._try("write", path, action)

    def swap(self, path: str, before: bytes | None, after: bytes) -> bool:
        place: dict[str, Any] = {"Bucket": self.bucket, "Key": self._key(path)}

        def action() -> bool:
            condition: dict[str, Any] = {"IfNoneMatch": "*"}
            if before is not None:
                found = self._client.get_object(**place)
                if found["Body"].read() != before:
                    return False
                condition = {"IfMatch": found["ETag"]}
            try:
                self._client.put_object(**place, Body=after, **condition)
            except botocore.exceptions.ClientError as error:
                if _code(error) != "NotImplemented":  # by some compatible servers; the check above is all they offer
                    raise
                if before is None and self.exists(path):
                    return False
                self._client.put_object(**place, Body=after)
            return True

        try:
            return self._try("write", path, action)
        except StorageError as error:
            if _code(error.__cause__) in CHANGED:
                return False
            raise

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
                if _code(error) in GONE:
                    return False
                raise

        return self._try("read", path, action)

    def list(self, prefix: str = "") -> list[str]:
        return list(self.sizes(prefix))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        key = self._key(prefix)
        return {path: found["Size"] for path, found in self._objects(prefix, f"{key}/" if key else "").items()}

    def versions(self, path: str = "") -> dict[str, str]:
        key = self._key(path)
        found = self._objects(path, key)  # also of keys that only begin alike
        return {name: one["ETag"] for name, one in found.items() if not path or f"{name}/".startswith(f"{path}/")}

    def _objects(self, path: str, key: str) -> dict[str, Any]:
        """What a listing says of all objects whose keys begin with `key`, by their paths, sorted."""
        root = f"{self.prefix}/" if self.prefix else ""

        def action() -> dict[str, Any]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=key)
            found = {o["Key"]: o for page in pages for o in page.get("Contents", [])}
            files = [key for key in sorted(found) if not key.endswith("/")]  # without the markers of folders
            return {key.removeprefix(root): found[key] for key in files}

        return self._try("list", path, action)

    def delete(self, path: str) -> None:
        self._try("delete", path, lambda: self._client.delete_object(Bucket=self.bucket, Key=self._key(path)))

    def local_file(self, path: str) -> str:
        """Copies the object into the cache, under its ETag, so that a changed object is fetched again."""

        def etag() -> str:
            return self._client.head_object(Bucket=self.bucket, Key=self._key(path))["ETag"].strip('"')

        object_version = f"{self.bucket}/{self._key(path)} {self._try('read', path, etag)}"
        name = hashlib.sha256(object_version.encode()).hexdigest()[:32] + Path(path).suffix
        cached = Path(_cache_folder(), name)
        if not cached.exists():
            LocalStorage(str(cached.parent)).write(cached.name, self.read(path))
        return str(cached)

    def parquet(self, path: str) -> pq.ParquetFile:
        place = f"{self.bucket}/{self._key(path)}"

        def open_object() -> pq.ParquetFile:
            return pq.ParquetFile(place, filesystem=s3_filesystem(), page_checksum_verification=True)

        return self._try("read", path, lambda: open_checked(f"s3://{place}", open_object))

    def stream(self, path: str) -> BinaryIO:
        file = self.arrow_file(path)
        return cast(BinaryIO, io.BufferedReader(_Checked(file, partial(self._try, "read", path)), READ_AHEAD))

    def arrow_file(self, path: str) -> pa.NativeFile:
        return self._try("read", path, lambda: s3_filesystem().open_input_file(f"{self.bucket}/{self._key(path)}"))


class _Checked(io.RawIOBase):
    """An opened object of which an error in the middle is a StorageError, as it is when opening."""

    def __init__(self, file: pa.NativeFile, checked: Callable[[Callable[[], Any]], Any]) -> None:
        self._file, self._checked = file, checked

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return int(self._checked(partial(self._file.readinto, buffer)))

    def readall(self) -> bytes:
        return bytes(self._checked(self._file.read))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._checked(partial(self._file.seek, offset, whence)))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _code(error: BaseException | None) -> str:
    """The server's own name for an error."""
    return error.response["Error"]["Code"] if isinstance(error, botocore.exceptions.ClientError) else ""


def _cache_folder() -> Path:
    """Returns a folder that only this user can access: objects may be private, and cached files are trusted."""
    folder = Path(tempfile.gettempdir(), f"react_ray-cache-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StorageError(f"{folder} belongs to somebody else; set TMPDIR to a folder of your own")
    folder.chmod(0o700)
    return folder


def s3_filesystem() -> pafs.S3FileSystem:
    return pafs.S3FileSystem(
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL"),
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )
