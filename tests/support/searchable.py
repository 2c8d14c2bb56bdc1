"""Makes a small database that can be searched by sentences: captions embedded by the sample's own text tower."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.artifact import open_artifact
from react_ray.clip.config import BackboneConfig
from react_ray.clip.text_tower import TextTower, read_text_tower
from react_ray.draft import Piece, create
from react_ray.index.config import FLAT, IndexConfig, Key
from react_ray.index.deleted import deleted_pairs
from react_ray.index.list_shard import ListShardBuilder
from react_ray.index.quantizer import train
from react_ray.index.shard import build_shard
from react_ray.index.shards import files_checksum, quantizer_name, shard_name
from react_ray.kinds import EMBEDDINGS, IMAGES, INDEX, PAIRS, EmbeddingsFacts, IndexFacts, PairsFacts
from react_ray.pair_id import pair_ids
from react_ray.vectors import embeddings_table, from_vectors

BASE = BackboneConfig(name="sample://base_clip.json", pretrained="sample://base_clip.safetensors")
TEXT_SHA256 = "d6833572b64aba5ffbee00f8fa207f61bc490d407108f3f06c7377fa620c8340"
ANIMALS = ["a heron", "a duck on a pond", "a horse", "a red apple", "a banana", "a rocket", "a church", "a violin"]
KEYS: tuple[Key, ...] = ("image", "text")


@cache
def base_tower() -> TextTower:
    tower = read_text_tower(BASE, TEXT_SHA256)
    assert tower is not None
    return tower


@cache
def vector(caption: str) -> np.ndarray:
    """float16 [128]"""
    return base_tower().embed_texts([caption])[0]


def write_searchable(uri: str, captions: list[list[str]], image: bytes = b"", **facts: object) -> None:
    """One part for each list of captions; the image vectors are random, and every 4th pair has none.

    image: the bytes of every image; b"" = the database has no images. facts: of the embeddings' description.
    """
    made_by = {"name": BASE.name, "tag": "base_clip.safetensors", "text_sha256": TEXT_SHA256, "dim": 128} | facts
    pairs = create(f"{uri}/pairs", PAIRS, {}, {}, len(captions), grows=True)
    embeddings = create(f"{uri}/embeddings", EMBEDDINGS, {}, {}, len(captions), grows=True)
    for part in pairs.pending():
        ids, texts = pair_ids(part, len(captions[part])), captions[part]
        urls = [f"http://e.org/{number}.jpg" for number in ids.tolist()]
        pairs.commit(part, pa.table({"pair_id": ids, "url": urls, "caption": texts, "width": ids % 100}), 0.0)
        image_ND = np.random.default_rng(part).standard_normal((len(ids), 128))
        image_ND = (image_ND / np.linalg.norm(image_ND, axis=1, keepdims=True)).astype(np.float16)
        image_ND[::4] = np.nan
        status = np.array([schema.OK] * len(ids), object)
        embeddings.commit(
            part, embeddings_table(pa.array(ids), image_ND, np.stack([vector(text) for text in texts]), status, {}), 0.0
        )
    pairs.seal(PairsFacts())
    embeddings.seal(EmbeddingsFacts(made_by, 128))
    if image:
        images = create(f"{uri}/images", IMAGES, {}, {}, len(captions))
        for part in range(len(captions)):
            ids = pair_ids(part, len(captions[part]))
            data = [image if row % 2 == 0 else None for row in range(len(ids))]
            status = [schema.OK if one else "http_404" for one in data]
            images.commit(part, pa.table({"pair_id": ids, "image": pa.array(data, pa.binary()), "status": status}), 0.0)
        images.seal()


def write_index(uri: str, num_shards: int = 2, kind: str = FLAT, first: int = 0) -> None:
    """An index of the parts from `first` on, with both keys, as the stage `index` writes it; first > 0 = a delta."""
    embeddings = open_artifact(f"{uri}/embeddings", EMBEDDINGS)
    parts, deleted = list(range(first, embeddings.num_parts)), deleted_pairs(uri)
    place = f"{uri}/index/deltas/00001" if first else f"{uri}/index"
    config = IndexConfig(kind=kind, num_lists=0 if kind == FLAT else 4)
    index = create(place, INDEX, {"kind": kind}, {"embeddings": embeddings}, len(KEYS) * num_shards)

    def block(part: int, key: Key) -> tuple[np.ndarray, np.ndarray]:
        table = embeddings.read(part, ["pair_id", key])
        ids, vectors_ND = table["pair_id"].to_numpy(), from_vectors(table[key])
        kept = ~np.isin(ids, deleted) & np.isfinite(vectors_ND).all(axis=1)
        return ids[kept], vectors_ND[kept]

    for number, key in enumerate(KEYS):
        blocks = {part: block(part, key) for part in parts}
        sample_ND = np.concatenate([vectors_ND for _, vectors_ND in blocks.values()]).astype(np.float32)
        quantizer = train(sample_ND, config, seed=0)
        if quantizer is not None:
            index.storage.write(quantizer_name(key), quantizer)
        for shard in range(num_shards):
            name = shard_name(key, shard)
            mine = [blocks[part] for part in parts[shard::num_shards]]
            if quantizer is None:
                files = {f"{name}.faiss": build_shard(iter(mine), config, None).to_bytes()}
                facts = {}
            else:
                builder = ListShardBuilder(quantizer)
                for ids, vectors_ND in mine:
                    builder.add(ids, vectors_ND)
                files = {f"{name}.{suffix}": _joined(data) for suffix, data in builder.finish()[1].items()}
                facts = {"quantizer": hashlib.sha256(quantizer).hexdigest()}
            rows = sum(len(ids) for ids, _ in mine)
            index.commit_files(number * num_shards + shard, files, 0.0, rows, **facts)
    receipts = embeddings.receipts()
    index.seal(
        IndexFacts(
            kind=kind,
            keys=list(KEYS),
            num_shards=num_shards,
            dim=128,
            num_lists=config.num_lists,
            backbone=embeddings.facts.backbone,
            covers={str(part): files_checksum(receipts[part]) for part in parts},
            rows={key: embeddings.rows for key in KEYS},
            family="none" if kind == FLAT else "ivf",
        )
    )


def _joined(data: bytes | Iterator[Piece]) -> bytes:
    return data if isinstance(data, bytes) else b"".join(bytes(piece) for piece in data)


def many(count: int, start: int = 0) -> list[str]:
    """Distinct captions that are about nothing in particular."""
    return [f"drawing number {number} of a box" for number in range(start, start + count)]


def png(folder: Path) -> bytes:
    """A small image."""
    from PIL import Image

    path = folder / "image.png"
    Image.new("RGB", (24, 24), (200, 30, 40)).save(path)
    return path.read_bytes()
