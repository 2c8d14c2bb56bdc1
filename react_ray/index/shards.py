"""Finds and opens the shards of an index on storage.

Takes the `index` artifact (the base, and a delta for each later addition of parts); gives open shards. The parts of an
index artifact are numbered key * num_shards + shard.

Next: search_shards.py.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import faiss
import numpy as np

from react_ray.artifact import Artifact, open_artifact
from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, RetrievalError
from react_ray.index.allowed import Allowed
from react_ray.index.config import FLAT, IVF_RABITQ, SearchParams
from react_ray.index.exact import as_queries
from react_ray.index.list_index import ListIndex, nearest_lists
from react_ray.index.list_shard import FILES, coarse_quantizer
from react_ray.index.recall import choose
from react_ray.index.search_shards import Probes
from react_ray.index.shard import IndexShard
from react_ray.index.shard_cache import ShardCache
from react_ray.kinds import INDEX, EmbeddingsFacts, IndexFacts
from react_ray.manifest import MANIFEST, Receipt
from react_ray.storage import join

DELTAS = "deltas"


@dataclass(frozen=True)
class ShardPlace:
    """One shard of one key, of the base or of a delta."""

    index: Artifact[IndexFacts]
    key: str
    shard: int

    @property
    def part(self) -> int:
        return int(self.index.facts.keys.index(self.key)) * int(self.index.facts.num_shards) + self.shard

    @property
    def quantizer(self) -> str:
        """The name of its quantiser, which shards of several keys or deltas may share."""
        return str(self.index.receipt(self.part).facts["quantizer"])

    def read_quantizer(self) -> bytes:
        """Raises ArtifactCorrupt if these are not the bytes that the shard was built with."""
        name = quantizer_name(self.key)
        data = self.index.storage.read(name)
        if hashlib.sha256(data).hexdigest() != self.quantizer:
            raise ArtifactCorrupt(
                f"{self.index.uri}/{name} is not the quantiser of {shard_name(self.key, self.shard)}; delete the index "
                "and build it again"
            )
        return data

    def local_file(self, suffix: str, cache: ShardCache | None = None) -> str:
        """Returns a local path of one of its files, checked against its receipt: at each call, or once by the cache."""
        name = f"{shard_name(self.key, self.shard)}.{suffix}"
        files = self.index.receipt(self.part).files
        if cache is None or name not in files:
            return self.index.local_file(self.part, name)
        return cache.path(self.index.storage, name, files[name]["sha256"])


def open_shards(
    places: list[ShardPlace],
    deleted: np.ndarray | None = None,
    allowed: Allowed | None = None,
    cache: ShardCache | None = None,
) -> list[IndexShard | ListIndex]:
    """Opens shards after checking their bytes against their receipts; ArtifactCorrupt names the file.

    deleted: sorted pair_ids that no search returns; allowed: the pairs that a search may return, None = all. ivf-rabitq
    shards that share a quantiser become one index. cache: where copies of remote shards are; None = each is copied and
    hashed now. It must stay open as long as the shards.
    """
    lists: dict[str, list[list[str]]] = {}
    found: list[IndexShard | ListIndex] = []
    for place in places:
        if place.index.facts.kind == IVF_RABITQ:
            files = [place.local_file(suffix, cache) for suffix in FILES]
            lists.setdefault(place.quantizer, []).append(files)
        else:
            path = place.local_file("faiss", cache)
            found.append(IndexShard.read(path, deleted=deleted, allowed=allowed))
    coarse = coarse_quantizers(places)
    return found + [ListIndex(shards, coarse[name], deleted, allowed, name) for name, shards in lists.items()]


class Lists:
    """Looks up the lists that queries visit, once for all searchers of these shards."""

    def __init__(self, places: list[ShardPlace]) -> None:
        self._coarse = coarse_quantizers(places)

    def probes(self, queries_QD: np.ndarray, nprobe: int) -> Probes:
        """queries: float [Q, D]. Returns the nprobe nearest lists of each quantiser, int64 [Q, P]."""
        return {
            name: nearest_lists(coarse, as_queries(queries_QD, coarse.d), nprobe)
            for name, coarse in self._coarse.items()
        }


def coarse_quantizers(places: list[ShardPlace]) -> dict[str, faiss.Index]:
    """The centroids of the lists of ivf-rabitq shards, by the names of their quantisers."""
    some = {place.quantizer: place for place in places if place.index.facts.kind == IVF_RABITQ}
    return {name: coarse_quantizer(place.read_quantizer()) for name, place in some.items()}


def quantizer_name(key: str) -> str:
    return f"quantizer-{key}.faiss"


def shard_name(key: str, shard: int) -> str:
    return f"{key}-{shard:05d}"


def deltas(index: Artifact[IndexFacts]) -> list[Artifact]:
    """Returns the additions to a base since it was built or compacted, in order."""
    found = sorted({path.split("/")[1] for path in index.storage.list(DELTAS) if path.endswith(f"/{MANIFEST}")})
    return [open_artifact(join(index.uri, DELTAS, name), INDEX) for name in found]


def check_covers(index: Artifact[IndexFacts], embeddings: Artifact[EmbeddingsFacts]) -> None:
    """Raises ArtifactMismatch unless the base and its deltas were built from these embeddings, of the same model."""
    if index.facts.backbone != embeddings.facts.backbone:
        raise ArtifactMismatch(
            f"{index.uri} was built of vectors of another model than {embeddings.uri} holds; delete the index and "
            "build it again"
        )
    receipts = embeddings.receipts()
    for one in (index, *deltas(index)):
        for part, checksum in one.facts.covers.items():
            if int(part) >= len(receipts) or files_checksum(receipts[int(part)]) != checksum:
                raise ArtifactMismatch(
                    f"{index.uri} covers another content of part {part} of {embeddings.uri}; delete the index and "
                    "build it again"
                )


def uncovered(index: Artifact[IndexFacts], embeddings: Artifact[EmbeddingsFacts]) -> list[int]:
    """Returns the parts of the embeddings that are neither in the base nor in its deltas."""
    covered = {int(part) for one in (index, *deltas(index)) for part in one.facts.covers}
    return [part for part in range(embeddings.num_parts) if part not in covered]


def files_checksum(receipt: Receipt) -> str:
    return " ".join(receipt.files[name]["sha256"][:16] for name in sorted(receipt.files))


def shard_places(index: Artifact[IndexFacts], key: str) -> list[ShardPlace]:
    """Returns all shards of a key. Raises RetrievalError if the index has no such key."""
    check_has_key(index, key)
    return [ShardPlace(one, key, shard) for one in (index, *deltas(index)) for shard in range(one.facts.num_shards)]


def check_has_key(index: Artifact[IndexFacts], key: str) -> None:
    if key not in index.facts.keys:
        raise RetrievalError(
            f"the index has no {key} keys, only {index.facts.keys}; add it to index.keys and build again"
        )


def params_for(index: Artifact[IndexFacts], key: str, recall: float, k: int) -> tuple[SearchParams, float]:
    """Returns the parameters that the calibration found for a recall at k, and the recall that it measured with them: 1
    for an exact index, and for one without parameters that was not measured."""
    tables: dict[str, list[dict[str, float]]] = {}
    for row in index.facts.calibration.get(key, []):
        tables.setdefault(row["queries"], []).append(row)
    if index.facts.kind == FLAT or (index.facts.family == "none" and not tables):
        return SearchParams(), 1.0
    rows_per_list = index.facts.rows[key] / max(index.facts.num_lists, 1)
    return choose(list(tables.values()), recall, k, index.facts.dim, rows_per_list)
