"""OpenDatabase: what `react_ray.open_database(uri)` gives, for searching and looking up pairs.

open_database.py makes an OpenDatabase from a URI. A query is a sentence, an image or a vector, or a
list of these; a hit is a pair with its caption and URL. Nothing of Ray is started, and nothing is written.

Next: query_model.py embeds the query, key_search.py finds the pairs.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, overload

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.config import BackboneConfig
from react_ray.errors import ArtifactMissing, ConfigError, RetrievalError
from react_ray.index.config import IndexConfig, Key
from react_ray.index.deleted import deleted_pairs
from react_ray.kinds import EMBEDDINGS, IMAGES, INDEX, PAIRS, EmbeddingsFacts, IndexFacts, PairsFacts
from react_ray.manifest import MANIFEST, part_name
from react_ray.metadata import shown
from react_ray.pair_id import part_of, row_of
from react_ray.search.gather import gather
from react_ray.search.key_search import KeySearch
from react_ray.search.query_model import QueryModel
from react_ray.storage import join, open_storage, read_bytes
from react_ray.vectors import from_vectors

BOTH: Literal["both"] = "both"
KEYS: tuple[Key, ...] = get_args(Key)
Query: TypeAlias = Any  # a sentence, an encoded image (bytes, Path, PIL), or a vector [D]


@dataclass(frozen=True)
class Hit:
    """One pair that was found."""

    pair_id: int
    score: float  # cosine of the query with the pair's image or caption
    z: float | None  # standard deviations above the mean cosine of the query with pairs of this database
    key: Key
    caption: str | None
    url: str | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class OpenDatabase:
    """The first search opens the shards, later ones reuse them."""

    def __init__(
        self,
        uri: str,
        backbones: Sequence[BackboneConfig] = (),
        seed: int = 0,
        config: IndexConfig | None = None,
        keys: Sequence[Key] = (),
        others: Callable[[], Sequence[BackboneConfig]] = tuple,
    ) -> None:
        """backbones, seed, others: as in QueryModel. config: how an approximate index is searched. keys: those that the
        user prefers, the first of which is searched unless a search says otherwise."""
        self.uri = open_storage(uri).uri
        self.embeddings: Artifact[EmbeddingsFacts] = open_artifact(join(uri, EMBEDDINGS.name), EMBEDDINGS)
        self.pairs_artifact: Artifact[PairsFacts] = open_artifact(join(uri, PAIRS.name), PAIRS)
        if not self.embeddings.rows:
            raise RetrievalError(f"{self.embeddings.uri} is empty; ingest a source that has pairs")
        index_uri = join(uri, INDEX.name)
        self.index: Artifact[IndexFacts] | None = (
            open_artifact(index_uri, INDEX) if open_storage(index_uri).exists(MANIFEST) else None
        )
        self.deleted = deleted_pairs(uri)
        self.model = QueryModel(self.embeddings.uri, self.embeddings.facts.backbone, backbones, seed, others)
        self._config, self._wanted_keys = config, tuple(keys)
        self._searches: dict[Key, KeySearch] = {}

    @property
    def keys(self) -> tuple[Key, ...]:
        """The sides of a pair that can be searched; the first of them is searched unless a search says otherwise."""
        return tuple(filter(self._has, self._in_order()))

    def _in_order(self) -> tuple[Key, ...]:
        """Captions before images unless the user prefers otherwise: most queries are sentences, and cosines of two
        texts tell more than those of a text and an image."""
        return tuple(dict.fromkeys((*self._wanted_keys, "text", "image")))

    def _has(self, key: Key) -> bool:
        return len(self.key_search(key).sample_ND) > 0

    @overload
    def search(self, query: str | bytes | Path, k: int = 10, key: str = "") -> list[Hit]: ...
    @overload
    def search(self, query: Query, k: int = 10, key: str = "") -> Any: ...
    def search(self, query: Query, k: int = 10, key: str = "") -> Any:
        """The k best pairs, best first; of several queries, a list of such lists.

        query: a sentence, an encoded image (bytes, or its Path, or a PIL image), a vector [D] of the same model, or a
        list or an array [N, D] of these. key: "image" or "text" says which side of a pair is compared, "both" searches
        both and ranks by `z`, since cosines of images and of captions cannot be compared; "" = the database's first, or
        images if every query is an image.
        """
        if k < 1:
            raise ConfigError(f"k is {k}; ask for at least 1 hit")
        queries, is_one = _as_list(query)
        if not key and all(isinstance(one, (bytes, Path)) or _is_picture(one) for one in queries):
            key = "image" if self._has("image") else key
        wanted = self.keys_of(key)
        queries_QD = self._vectors_of(queries)
        found: list[list[Hit]] = [[] for _ in queries]
        for one in wanted:
            search = self.key_search(one)
            hits = search.search(queries_QD, k)
            z_QK = search.z_scores(queries_QD, hits.scores)
            for row in range(len(queries)):
                valid = hits.valid[row]
                found[row] += [
                    Hit(int(pair), float(score), None if np.isnan(z) else float(z), one, None, None)
                    for pair, score, z in zip(
                        hits.pair_ids[row][valid], hits.scores[row][valid], z_QK[row][valid], strict=True
                    )
                ]
        if len(wanted) > 1:
            found = [merged(hits, k) for hits in found]
        found = self._described(found)
        return found[0] if is_one else found

    def pairs(self, pair_ids: Sequence[int], columns: list[str] | None = None) -> pa.Table:
        """The rows of these pairs, in this order, with all columns of the source. RetrievalError for an unknown id."""
        return gather(self.pairs_artifact, self.known(pair_ids), columns and ["pair_id", *columns])

    def images(self, pair_ids: Sequence[int]) -> list[bytes | None]:
        """The encoded images of these pairs, None where there is none. ArtifactMissing if the database has no images.

        A part of images is read for each part that the pairs lie in.
        """
        uri = join(self.uri, IMAGES.name)
        if not open_storage(uri).exists(MANIFEST):
            raise ArtifactMissing(f"{uri}: no finished images here; run `react-ray download RECIPE` first")
        images = open_artifact(uri, IMAGES)
        ids = self.known(pair_ids)
        if len(ids) and int(part_of(ids).max()) >= images.num_parts:
            raise ArtifactMissing(f"{uri} has no images of the pairs that were added; run `react-ray download RECIPE`")
        return gather(images, ids, ["pair_id", "image"])["image"].to_pylist() if len(ids) else []

    def vectors(self, pair_ids: Sequence[int], key: Key = "image") -> np.ndarray:
        """float16 [N, D]: the unit vectors of these pairs, NaN where there is none. They can be searched for again."""
        ids = self.known(pair_ids)
        if not len(ids):
            return np.empty((0, self.embeddings.facts.dim), np.float16)
        return from_vectors(gather(self.embeddings, ids, ["pair_id", key])[key])

    def _vectors_of(self, queries: list[Query]) -> np.ndarray:
        """float16 [Q, D], in the order of the queries."""
        dim = self.embeddings.facts.dim
        out_QD = np.empty((len(queries), dim), np.float16)
        texts = [row for row, query in enumerate(queries) if isinstance(query, str)]
        images = {row: data for row, query in enumerate(queries) if (data := _encoded(query)) is not None}
        for row in texts:
            if not queries[row].strip():
                raise ConfigError("the query is empty; write what to search for")
        if texts:
            out_QD[texts] = self.model.embed_texts([queries[row] for row in texts])
        if images:
            out_QD[list(images)] = self.model.embed_images(list(images.values()))
        for row in set(range(len(queries))) - {*texts, *images}:
            out_QD[row] = unit(queries[row], dim)
        return out_QD

    def keys_of(self, key: str) -> tuple[Key, ...]:
        """The keys that a search compares. Of the others no vector is read."""
        if key in KEYS:
            [wanted] = (one for one in KEYS if one == key)
            if self._has(wanted):
                return (wanted,)
            other = next((one for one in KEYS if one != wanted and self._has(one)), None)
            instead = f"search key={other}, or " if other else ""
            raise RetrievalError(
                f"{self.embeddings.uri} has no vectors of {wanted} keys; {instead}embed them "
                f"(embed.{'images' if wanted == 'image' else 'captions'}=true)"
            )
        if key not in ("", BOTH):
            raise ConfigError(f"key={key!r} is none of {', '.join((*KEYS, BOTH))}; name one of them")
        found = self.keys if key == BOTH else tuple(next(([one] for one in self._in_order() if self._has(one)), []))
        if not found:
            raise RetrievalError(f"{self.embeddings.uri} has no vector in it; look at its statuses, and embed again")
        return found

    def key_search(self, key: Key) -> KeySearch:
        if key not in self._searches:
            self._searches[key] = KeySearch(self.embeddings, self.index, key, self.deleted, self._config)
        return self._searches[key]

    def _described(self, found: list[list[Hit]]) -> list[list[Hit]]:
        """The same hits with captions and URLs: only the parts that they lie in are read."""
        ids = np.unique([hit.pair_id for hits in found for hit in hits]).astype(np.int64)
        if not len(ids):
            return found
        names = self.pairs_artifact.storage.parquet(f"{part_name(0)}.parquet").schema_arrow.names
        columns = ["pair_id", *(name for name in ("caption", "url") if name in names)]
        table = gather(self.pairs_artifact, ids, columns)
        rows = {row["pair_id"]: row for row in table.to_pylist()}

        def described(hit: Hit) -> Hit:
            row = rows[hit.pair_id]
            return replace(hit, caption=row.get("caption"), url=row.get("url"))

        return [[described(hit) for hit in hits] for hits in found]

    def known(self, pair_ids: Sequence[int]) -> np.ndarray:
        """int64 [N]. RetrievalError if one of them is no pair of the database."""
        ids = np.asarray(pair_ids, dtype=np.int64).reshape(-1)
        for part in np.unique(part_of(ids)).tolist():
            there = 0 <= part < self.pairs_artifact.num_parts
            num_rows = self.pairs_artifact.receipt(part).rows if there else 0
            missing = ids[(part_of(ids) == part) & (row_of(ids) >= num_rows)]
            if len(missing):
                raise RetrievalError(f"{self.uri} has no pair {missing[0]}; take the pair_id of a hit")
        return ids


def _as_list(query: Query) -> tuple[list[Query], bool]:
    """(the queries, whether it was one)"""
    if isinstance(query, (str, bytes, Path)) or _is_picture(query):
        return [query], True
    if isinstance(query, (list, tuple)) and not (query and isinstance(query[0], (int, float, np.number))):
        if not query:
            raise ConfigError("there is no query; write what to search for")
        return list(query), False
    array = np.asarray(query)
    return (list(array), False) if array.ndim == 2 else ([array], True)


def _is_picture(query: Query) -> bool:
    return hasattr(query, "save") and hasattr(query, "convert")  # a PIL image, without importing PIL


def _encoded(query: Query) -> bytes | None:
    """The bytes of an image; None for another kind of query."""
    if isinstance(query, Path):
        return read_bytes(str(query))
    if _is_picture(query):
        sink = io.BytesIO()
        query.convert("RGB").save(sink, "PNG")
        return sink.getvalue()
    return query if isinstance(query, bytes) else None


def unit(vector: Query, dim: int) -> np.ndarray:
    """float32 [D] of length 1. ConfigError for anything that is no vector of this dimension."""
    try:
        vector_D = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{shown(vector)} is no query; give a sentence, an image (bytes, a Path, PIL) or a vector"
        ) from error
    if vector_D.shape != (dim,):
        raise ConfigError(
            f"a query has shape {list(vector_D.shape)}, the database has vectors of dimension {dim}; "
            "give vectors of the same model"
        )
    norm = float(np.linalg.norm(vector_D))
    if not (np.isfinite(norm) and norm > 1e-12):
        raise ConfigError("a vector of the query is null or not finite; give another")
    return vector_D / norm


def merged(hits: list[Hit], k: int) -> list[Hit]:
    """The k best of the hits of several keys, each of which comes best first; see `best_of_keys`."""
    counts = Counter(hit.key for hit in hits)
    z = np.array([np.nan if hit.z is None else hit.z for hit in hits])
    rows = best_of_keys(np.array([hit.pair_id for hit in hits], np.int64), z, list(counts.values()), k)
    return [hits[row] for row in rows.tolist()]


def best_of_keys(pair_ids: np.ndarray, z: np.ndarray, counts: Sequence[int], k: int) -> np.ndarray:
    """Returns int64 [at most k], the rows of the best hits of several keys, best first. A pair that both found comes
    once.

    pair_ids int64 [N], z float [N], NaN = not known; counts: hits of each key, which come best first. They are ranked
    by z, or in turn where a key has too few vectors to have one.
    """
    rank = np.concatenate([np.empty(0), *(np.arange(count) for count in counts)]) if np.isnan(z).any() else -z
    order = np.lexsort((pair_ids, rank))
    first = np.unique(pair_ids[order], return_index=True)[1]
    return order[np.sort(first)[:k]]
