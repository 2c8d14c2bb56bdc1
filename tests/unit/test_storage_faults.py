"""A server that breaks off is asked again, a bounded number of times, and no password of it is shown."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.errors import ReactRayError, StorageError
from react_ray.pairs.source import IngestConfig, open_source
from react_ray.storage import Storage, check_writable, open_storage
from react_ray.storage import s3 as storage_s3
from tests.support.s3_faults import Faults, s3_proxy

DATA = bytes(range(256)) * 4000
TABLE = pa.table({"a": [str(number) * 20 for number in range(5000)]})


def pieces(file: BinaryIO) -> bytes:
    return b"".join(iter(partial(file.read, 100_000), b""))


READS: dict[str, Callable[[Storage], object]] = {
    "read": lambda place: place.read("f") == DATA,
    "range": lambda place: place.read_range("f", 7, 500_000) == DATA[7:500_007],
    "stream": lambda place: place.stream("f").read() == DATA,
    "a stream in pieces": lambda place: pieces(place.stream("f")) == DATA,
    "parquet": lambda place: place.parquet("t.parquet").read().equals(TABLE),
    "a copy": lambda place: Path(place.local_file("f")).read_bytes() == DATA,
}


@pytest.fixture
def faulty(s3_place: Storage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Storage, Faults]]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # no copy of an earlier run is found
    sink = io.BytesIO()
    pq.write_table(TABLE, sink, compression="none")
    s3_place.write("f", DATA)
    s3_place.write("t.parquet", sink.getvalue())
    with s3_proxy(os.environ["AWS_ENDPOINT_URL"]) as (endpoint, faults):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield open_storage(s3_place.uri), faults


@pytest.mark.parametrize("what", list(READS))
def test_a_body_that_breaks_off_is_read_again(faulty: tuple[Storage, Faults], what: str) -> None:
    place, faults = faulty
    faults.left = 2
    assert READS[what](place) and faults.broken == 2


@pytest.mark.parametrize("what", list(READS))
def test_a_body_that_always_breaks_off_is_a_storage_error(
    faulty: tuple[Storage, Faults], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_s3, "ATTEMPTS", 2)
    place, faults = faulty
    faults.left = 100
    with pytest.raises(
        StorageError, match=r"^cannot read s3://bucket/\S+: .*check the bucket, AWS credentials"
    ) as told:
        READS[what](place)
    assert "not a Parquet file" not in str(told.value) and faults.broken < 10


@pytest.mark.parametrize("name", ["t.arrow", "t.parquet"])
def test_a_source_that_cannot_be_read_to_its_end_is_not_taken_for_a_damaged_file(
    faulty: tuple[Storage, Faults], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, faults = faulty
    table = pa.table({"url": [f"http://a.b/{number}" for number in range(50_000)]})
    sink = io.BytesIO()
    if name == "t.arrow":
        with pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)
    else:
        pq.write_table(table, sink)
    place.write(name, sink.getvalue())
    source = open_source(IngestConfig(source=f"{place.uri}/{name}"))
    monkeypatch.setattr(storage_s3, "ATTEMPTS", 2)
    faults.left = 100
    with pytest.raises(StorageError, match=r"^cannot read s3://bucket/\S+: .*check the bucket, AWS credentials"):
        source.read(0)


@pytest.mark.parametrize(
    "endpoint", ["http://me:hidden-word@127.0.0.1:1", "http://me:hidden-word@no host", "x://me:hidden-word@h"]
)
def test_the_password_of_an_endpoint_is_not_shown(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setattr(storage_s3, "ATTEMPTS", 2)
    verbs: dict[str, Callable[[], object]] = {
        "write": lambda: check_writable("s3://bucket/a"),
        **{name: lambda read=read: read(open_storage("s3://bucket/a")) for name, read in READS.items()},  # type: ignore[misc]
    }
    for verb in verbs.values():
        with pytest.raises(ReactRayError) as told:
            verb()
        assert "hidden" not in str(told.value) and "AWS_ENDPOINT_URL" in str(told.value)
