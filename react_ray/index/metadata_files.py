"""MetadataFiles: the rows of `pairs` beside the shards of an index, as uncompressed Arrow whose rows can be read one by
one, without a scan. `index.metadata` writes them: a file for each shard, with a record batch for each part in it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any

import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.errors import StorageError
from react_ray.index.shard_cache import ShardCache
from react_ray.index.shards import deltas
from react_ray.kinds import IndexFacts


def file_name(shard: int) -> str:
    return f"pairs-{shard:05d}.arrow"


def as_arrow(tables: Iterable[pa.Table]) -> Iterator[bytes]:
    """Yields the bytes of a file with a record batch for each table, a table at a time. There is at least one table."""
    sink, writer = _Written(), None
    for table in tables:
        wide = _wide(table)
        writer = writer or pa.ipc.new_file(sink, wide.schema)
        columns = [column.combine_chunks() for column in wide.columns]
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=wide.schema))
        yield sink.take()
    assert writer is not None, "a shard has parts"
    writer.close()
    yield sink.take()


class MetadataFiles:
    """`part in files` tells whether the rows of a part are there, `batch(part)` gives them; safe for threads."""

    def __init__(self, index: Artifact[IndexFacts], cache: ShardCache) -> None:
        """cache: where the copies of remote files are."""
        self._cache, self._lock = cache, Lock()
        self._places: dict[int, tuple[Artifact[IndexFacts], int, int]] = {}  # part -> index, shard, number of the batch
        self._files: dict[tuple[str, int], pa.RecordBatchFileReader] = {}
        self._batches: dict[int, pa.RecordBatch] = {}
        for one in (index, *deltas(index)):
            for shard in range(one.facts.num_shards):
                parts = one.receipt(shard).facts.get("metadata_of", [])
                self._places |= {part: (one, shard, batch) for batch, part in enumerate(parts)}

    def __contains__(self, part: int) -> bool:
        return part in self._places

    def batch(self, part: int) -> pa.RecordBatch:
        """The rows of one part of `pairs`; strings are large_string. What is not looked at is not read."""
        found = self._batches.get(part)
        if found is None:
            index, shard, number = self._places[part]
            with self._lock:
                found = self._batches[part] = self._opened(index, shard).get_batch(number)
        return found

    def _opened(self, index: Artifact[IndexFacts], shard: int) -> pa.RecordBatchFileReader:
        place = index.uri, shard
        if place not in self._files:
            name = file_name(shard)
            path = self._cache.path(index.storage, name, index.receipt(shard).files[name]["sha256"])
            try:
                self._files[place] = pa.ipc.open_file(pa.memory_map(path))
            except (pa.ArrowException, OSError) as error:
                raise StorageError(f"cannot read {path}: {error}; delete the index and build it again") from error
        return self._files[place]


class _Written(io.RawIOBase):
    """What was written since the last `take`."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def _wide(table: pa.Table) -> pa.Table:
    """Gives strings 64-bit offsets, because the captions of a large part may exceed 2 GB."""
    large = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
    return table.cast(pa.schema([field.with_type(large.get(field.type, field.type)) for field in table.schema]))
