"""Embeds a table of images or pairs: one row of `embeddings` for each row, in the same order.

A row whose image is missing or cannot be embedded keeps its place: its vector is null and its status gives the reason.
The model embeds each distinct caption of a part once.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.clip.config import EmbedConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.heads import LinearHead
from react_ray.clip.pixels import decoded_batches
from react_ray.row_guard import texts
from react_ray.vectors import embeddings_table


def embed(
    table: pa.Table, embedder: Embedder, config: EmbedConfig, heads: Sequence[LinearHead], pool: ThreadPoolExecutor
) -> pa.Table:
    """Takes columns pair_id, caption, image (encoded) and status; returns schema.embeddings.

    pool: the threads that decode images.
    """
    status = np.array(table["status"].to_pylist(), dtype=object)
    captions = texts(table["caption"], "replace")
    has_caption = np.array([bool(caption) for caption in captions], bool)
    text_ND, untokenizable = _captions(captions, embedder) if config.captions else (None, [])
    image_ND = _images(table["image"], status, embedder, pool) if config.images else None
    status[[row for row in untokenizable if status[row] == schema.OK]] = schema.INTERNAL_ERROR
    if text_ND is not None:
        status[has_caption & ~_finite(text_ND) & (status == schema.OK)] = schema.NOT_FINITE
    if image_ND is None:
        status[~has_caption & (status == schema.OK)] = schema.NO_CAPTION
    nothing_ND = np.full((len(table), embedder.backbone.dim), np.nan, np.float16)
    image_ND, text_ND = (nothing_ND if found is None else found for found in (image_ND, text_ND))
    scores = {head.name: head.scores({"image": image_ND, "text": text_ND}) for head in heads}
    return embeddings_table(table["pair_id"], image_ND, text_ND, status, scores)


def _captions(captions: list[str | None], embedder: Embedder) -> tuple[np.ndarray, list[int]]:
    """Returns float16 [N, D], NaN for an empty caption, and the rows on whose captions the tokenizer fails."""
    text_ND = np.full((len(captions), embedder.backbone.dim), np.nan, np.float16)
    rows = [row for row, caption in enumerate(captions) if caption]
    if not rows:
        return text_ND, []
    try:
        text_ND[rows] = embedder.embed_texts([caption for caption in captions if caption])
    except Exception:
        failing = embedder.untokenizable({caption for caption in captions if caption})
        if not failing:
            raise  # the model failed, and not on one row
        others, _ = _captions([None if caption in failing else caption for caption in captions], embedder)
        return others, [row for row in rows if captions[row] in failing]
    return text_ND, []


def _images(images: pa.ChunkedArray, status: np.ndarray, embedder: Embedder, pool: ThreadPoolExecutor) -> np.ndarray:
    """Returns float16 [N, D], NaN where there is no image. Updates `status` for rows that fail to decode or embed."""
    backbone = embedder.backbone
    image_ND = np.full((len(images), backbone.dim), np.nan, np.float16)
    rows = np.flatnonzero(status == schema.OK)
    encoded = images.take(pa.array(rows)).to_pylist()
    batches = decoded_batches(
        encoded, embedder.batch_size, backbone.image_size, backbone.crop, backbone.interpolation, pool
    )
    begin = 0
    for pixels_BCHW, failures in batches:
        of_batch = rows[begin : begin + len(failures)]
        begin += len(failures)
        good = np.array([failure is None for failure in failures], bool)
        if good.any():
            image_ND[of_batch] = embedder.embed_images(pixels_BCHW)
        image_ND[of_batch[~good]] = np.nan
        status[of_batch[~good]] = [failure for failure in failures if failure is not None]
        status[of_batch[good & ~_finite(image_ND[of_batch])]] = schema.NOT_FINITE
    return image_ND


def _finite(vector_ND: np.ndarray) -> np.ndarray:
    return np.isfinite(vector_ND).all(axis=1)
