"""Writes a small database that every rule of a selection has something to do in: repeated URLs, files and pictures."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
from PIL import Image

from react_ray import schema
from react_ray.draft import create
from react_ray.kinds import EMBEDDINGS, IMAGES, PAIRS, EmbeddingsFacts, PairsFacts
from react_ray.pair_id import pair_ids
from react_ray.pairs.image import inspect
from react_ray.vectors import embeddings_table
from tests.support.searchable import BASE, TEXT_SHA256, vector

NAMES = ["heron", "horse", "apple", "violin", "rocket", "church"]
WORDS = ["by the water", "at night", "in a field", "on a table", "drawn with a pencil", "for children", "in red", "old"]
PICTURES = 40  # different ones, of which each pair has one


def picture(number: int, light: int = 0) -> bytes:
    """light: brightens it a little, which is another file with nearly the same perceptual hash."""
    pixels = np.random.default_rng(number).integers(0, 200, (4, 4, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels + np.uint8(light)).resize((32, 32), Image.Resampling.BICUBIC).save(sink, "PNG")
    return sink.getvalue()


def write_screened(uri: str, num_parts: int = 3) -> None:
    """Each part has each name in each context once, with a picture, hash, URL and image vector that repeat."""
    random = np.random.default_rng(0)
    centre_PD = random.standard_normal((PICTURES, 128))
    pairs = create(f"{uri}/pairs", PAIRS, {}, {}, num_parts)
    images = create(f"{uri}/images", IMAGES, {}, {}, num_parts)
    embeddings = create(f"{uri}/embeddings", EMBEDDINGS, {}, {}, num_parts)
    for part in range(num_parts):
        captions = [f"{'a ' * (part % 2)}{name} {word}" for word in WORDS for name in NAMES]
        num, ids = len(captions), pair_ids(part, len(captions))
        shown, light_N = random.integers(0, PICTURES, num), random.integers(0, 9, num)
        data = [picture(number, light) for number, light in zip(shown.tolist(), light_N.tolist(), strict=True)]
        facts = [inspect(one) for one in data]
        urls = [f"http://{'abc'[number % 3]}.org/{number}.jpg" for number in random.integers(0, 2 * PICTURES, num)]
        pairs.commit(part, pa.table({"pair_id": ids, "url": urls, "caption": captions, "width": ids % 100}), 0.0)
        columns = {"sha256": [one.sha256 for one in facts], "phash": pa.array([f.phash for f in facts], pa.uint64())}
        table = {"pair_id": ids, "image": pa.array(data, pa.binary()), **columns, "status": [schema.OK] * num}
        images.commit(part, pa.table(table), 0.0)
        image_ND = centre_PD[shown] + 0.02 * random.standard_normal((num, 128))
        image_ND = (image_ND / np.linalg.norm(image_ND, axis=1, keepdims=True)).astype(np.float16)
        text_ND = np.stack([vector(caption) for caption in captions])
        status = np.array([schema.OK] * num, object)
        embeddings.commit(part, embeddings_table(pa.array(ids), image_ND, text_ND, status, {}), 0.0)
    pairs.seal(PairsFacts())
    images.seal()
    embeddings.seal(
        EmbeddingsFacts(
            {"name": BASE.name, "tag": "base_clip.safetensors", "text_sha256": TEXT_SHA256, "dim": 128}, 128
        )
    )
