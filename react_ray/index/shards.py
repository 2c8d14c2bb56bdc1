"""The shards of an index on storage: where they lie, how one is opened, what lies beside it.

Takes the `index` artifact (the base, and the deltas that parts added later got); gives open shards. Parts of an index
artifact are numbered key * num_shards + shard. Next: list_shard.py, shard.py.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import pyarrow as pa

from react_ray.artifact import MANIFEST, Artifact, open_artifact
from react_ray.errors import ArtifactCorrupt, RetrievalError
from react_ray.index.config import IVF_RABITQ, SearchParams
from react_ray.index.list_shard import FILES, ListShard, coarse_quantizer
from react_ray.index.merge import Hits, merge
from react_ray.index.recall import choose
from react_ray.index.shard import IndexShard
from react_ray.index.together import search_together
from react_ray.pair_id import part_of, row_of
from react_ray.storage import join

DELTAS = "deltas"


@dataclass(frozen=True)
class ShardPlace:
    """One shard of one key, of the base or of a delta."""

    index: Artifact
    key: str
    shard: int

    @property
    def part(self) -> int:
        return int(self.index.facts["keys"].index(self.key)) * int(self.index.facts["num_shards"]) + self.shard

    def read_quantizer(self) -> bytes:
        """ArtifactCorrupt if these are not the bytes that the shard was built with."""
        name = quantizer_name(self.key)
        data = self.index.storage.read(name)
        if hashlib.sha256(data).hexdigest() != self.index.receipt(self.part).facts["quantizer"]:
            raise ArtifactCorrupt(
                f"{self.index.uri}/{name} is not the quantiser of {shard_name(self.key, self.shard)}; delete the index and build it again"
            )
        return data

    def metadata(self) -> pa.Table:
        """The columns of `pairs`, memory-mapped; of an ivf-rabitq shard in the order of its rows, else by pair_id."""
        path = self.index.local_file(self.part, f"{shard_name(self.key, self.shard)}.arrow")
        return pa.ipc.open_file(pa.memory_map(path)).read_all()


def open_shards(places: list[ShardPlace], deleted: np.ndarray | None = None) -> list[IndexShard | ListShard]:
    """Checks all bytes against their receipts first: ArtifactCorrupt names the file. `deleted`: pair_ids, sorted.

    What shards share is in memory once.
    """
    shared: dict[bytes, faiss.Index] = {}
    found: list[IndexShard | ListShard] = []
    for place in places:
        name = shard_name(place.key, place.shard)
        if place.index.facts["kind"] == IVF_RABITQ:
            quantizer = place.read_quantizer()
            coarse = shared.setdefault(quantizer, shared.get(quantizer) or coarse_quantizer(quantizer))
            hot, cold, ids = (place.index.local_file(place.part, f"{name}.{suffix}") for suffix in FILES)
            found.append(ListShard(hot, cold, ids, coarse, deleted))
        else:
            found.append(IndexShard.read(place.index.local_file(place.part, f"{name}.faiss"), deleted=deleted))
    return found


def quantizer_name(key: str) -> str:
    return f"quantizer-{key}.faiss"


def shard_name(key: str, shard: int) -> str:
    return f"{key}-{shard:05d}"


def deltas(index: Artifact) -> list[Artifact]:
    """What was added to a base since it was built or compacted, in order."""
    found = sorted({path.split("/")[1] for path in index.storage.list(DELTAS) if path.endswith(f"/{MANIFEST}")})
    return [open_artifact(join(index.uri, DELTAS, name), "index") for name in found]


def shard_places(index: Artifact, key: str) -> list[ShardPlace]:
    """All shards of a key; RetrievalError if the index has no such key."""
    if key not in index.facts["keys"]:
        raise RetrievalError(f"the index has no {key} keys, only {index.facts['keys']}; add it to index.keys and build again")
    return [ShardPlace(one, key, shard) for one in (index, *deltas(index)) for shard in range(one.facts["num_shards"])]


def search_shards(
    shards: Sequence[IndexShard | ListShard], queries_QD: np.ndarray, k: int, params: SearchParams
) -> Hits:
    """Exact merge; shards that share their lists are searched as one."""
    groups: dict[int, list[ListShard]] = {}
    found = []
    for shard in shards:
        if isinstance(shard, ListShard) and params.k_factor and shard.num_vectors:
            groups.setdefault(id(shard.coarse), []).append(shard)
        else:
            found.append(shard.search(queries_QD, k, params))
    for group in groups.values():
        alone = len(group) == 1
        found.append(group[0].search(queries_QD, k, params) if alone else search_together(group, queries_QD, k, params))
    return merge(found, k)


def params_for(index: Artifact, key: str, recall: float, k: int) -> tuple[SearchParams, float]:
    """What the calibration of this index says for a recall at k, and the recall that it measured there (1 where exact)."""
    if index.facts["family"] == "none":
        return SearchParams(), 1.0
    tables: dict[str, list[dict[str, float]]] = {}
    for row in index.facts["calibration"].get(key, []):
        tables.setdefault(row["queries"], []).append(row)
    rows_per_list = index.facts["rows"][key] / max(index.facts["num_lists"], 1)
    return choose(list(tables.values()), recall, k, index.facts["dim"], rows_per_list)


def metadata_bytes(tables: dict[int, pa.Table], pair_ids: np.ndarray) -> bytes:
    """Arrow IPC, not compressed, so that it can be mapped: the rows of these parts of `pairs`, in the order of pair_ids."""
    parts = sorted(tables)
    lengths = [tables[part].num_rows for part in parts]
    starts = np.cumsum([0, *lengths[:-1]])
    at = np.searchsorted(parts, part_of(pair_ids))
    joined = pa.concat_tables([_wide(tables[part]) for part in parts]).take(pa.array(starts[at] + row_of(pair_ids)))
    assert np.array_equal(joined["pair_id"].to_numpy(), pair_ids), "rows are not where their ids say"
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, joined.schema) as writer:
        writer.write_table(joined.combine_chunks(), max_chunksize=1 << 16)
    return sink.getvalue()


def _wide(table: pa.Table) -> pa.Table:
    """64-bit offsets: the captions of a large shard are more than 2 GB."""
    large = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
    return table.cast(pa.schema([field.with_type(large.get(field.type, field.type)) for field in table.schema]))
