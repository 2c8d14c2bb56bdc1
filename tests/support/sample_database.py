"""Makes a small database of real pictures without Ray: pairs of the sample, embedded by the sample's own CLIP."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.clip.embedder import Embedder
from react_ray.draft import create
from react_ray.gated.load import load_backbone
from react_ray.kinds import EMBEDDINGS, IMAGES, PAIRS, EmbeddingsFacts, PairsFacts
from react_ray.pair_id import pair_ids
from react_ray.storage import open_storage
from react_ray.vectors import embeddings_table
from tests.support.searchable import BASE, write_index

THINGS = ("sushi", "pizza", "tomato", "fox", "cat", "bus", "bell", "anchor", "calendar", "briefcase")
NUM_OTHERS = 160  # so that a pair can stand out among unrelated ones
ROWS_PER_PART = 128
HOSTILE = "<img src=x onerror=alert(1)> of a rocket"  # the caption of the first pair
LAST_WITHOUT_IMAGE = 7  # every 7th pair of the last part has only a caption


def write_sample_database(uri: str) -> None:
    """Pairs, images, embeddings of both keys and a flat index; columns `url`, `caption`, `source` and `license`."""
    rows = _rows()
    parts = [rows.slice(start, ROWS_PER_PART) for start in range(0, len(rows), ROWS_PER_PART)]
    embedder = Embedder(load_backbone(BASE), 64, "cpu")
    pairs = create(f"{uri}/pairs", PAIRS, {}, {}, len(parts), grows=True)
    images = create(f"{uri}/images", IMAGES, {}, {}, len(parts))
    embeddings = create(f"{uri}/embeddings", EMBEDDINGS, {}, {}, len(parts), grows=True)
    for part, table in enumerate(parts):
        ids = pa.array(pair_ids(part, len(table)))
        urls = pa.array([f"http://pictures.example/{one}.png" for one in ids.to_pylist()])
        columns = {name: table[name] for name in ("caption", "source", "license")}
        pairs.commit(part, pa.table({"pair_id": ids, "url": urls, **columns}), 0.0)
        data = table["image"].to_pylist()
        if part == len(parts) - 1:
            data = [None if row % LAST_WITHOUT_IMAGE == 0 else one for row, one in enumerate(data)]
        status = [schema.OK if one else "http_404" for one in data]
        images.commit(part, pa.table({"pair_id": ids, "image": pa.array(data, pa.binary()), "status": status}), 0.0)
        pixels_NCHW, _ = embedder.decode(data)
        image_ND = embedder.embed_images(pixels_NCHW)
        image_ND[[one is None for one in data]] = np.nan
        text_ND = embedder.embed_texts(table["caption"].to_pylist())
        whole = np.array([schema.OK] * len(ids), object)
        embeddings.commit(part, embeddings_table(ids, image_ND, text_ND, whole, {}), 0.0)
    pairs.seal(PairsFacts())
    images.seal()
    embeddings.seal(EmbeddingsFacts(embedder.backbone.describe(), embedder.backbone.dim))
    write_index(uri)


def _rows() -> pa.Table:
    """The pictures of THINGS, and others spread over the sample."""
    pool = open_storage("sample://").parquet("pool.parquet").read()
    keys = np.array(pool["key"].to_pylist())
    others = np.linspace(0, len(pool) - 1, NUM_OTHERS).round().astype(int)
    rows = pool.take(np.union1d(np.flatnonzero(np.isin(keys, THINGS)), others))
    captions = pa.array([HOSTILE, *rows["caption"].to_pylist()[1:]])
    return rows.set_column(rows.schema.get_field_index("caption"), "caption", captions)
