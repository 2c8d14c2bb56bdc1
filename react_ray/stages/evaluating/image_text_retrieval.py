"""ImageTextRetrieval: embeds images and their captions with a model, and ranks each side for the other.

Next: evals/image_text.py, which ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch

from react_ray import schema
from react_ray.clip.backbone import Backbone
from react_ray.clip.embedder import Embedder
from react_ray.evals.captioned import CaptionedSet, open_captioned
from react_ray.evals.classify import embed_rows
from react_ray.evals.image_text import rank, recalls, recalls_of_images
from react_ray.evals.readable import check_share
from react_ray.evals.score import IMAGE_TEXT_RETRIEVAL
from react_ray.recipe import Recipe
from react_ray.stages.evaluating.protocol import Figure, Protocol
from react_ray.vectors import as_vectors, from_vectors


def captioned_sets(recipe: Recipe) -> list[Protocol]:
    """One for each of evaluate.captions."""
    found, made = recipe.evaluate, list[Protocol]()
    for name, uri in found.captions.items():
        whose = f"evaluate.captions.{name}"
        images = open_captioned(uri, whose, found.max_unreadable)
        made.append(ImageTextRetrieval(name, whose, images, found.batch_size, found.max_unreadable))
    return made


@dataclass(frozen=True)
class ImageTextRetrieval(Protocol):
    name: ClassVar[str] = IMAGE_TEXT_RETRIEVAL
    dataset: str
    whose: str
    images: CaptionedSet
    batch_size: int
    most_unreadable: float
    images_per_part: int = 1024

    @property
    def num_images(self) -> int:
        return self.images.num_images

    def config(self) -> dict[str, Any]:
        return {"images": self.images.digest}

    def read(self, part: int) -> pa.Table:
        return self.images.read(part * self.images_per_part, self.images_per_part)

    def prepare(self, backbone: Backbone, device: torch.device, num_threads: int) -> tuple[Embedder, int]:
        return Embedder(backbone, self.batch_size, device), num_threads

    def outputs(self, table: pa.Table, prepared: tuple[Embedder, int]) -> pa.Table:
        """Returns schema.image_text_vectors."""
        embedder, num_threads = prepared
        image_ND = embed_rows(table["image"].to_pylist(), embedder, num_threads)
        captions = table["captions"].combine_chunks()
        text = as_vectors(embedder.embed_texts(captions.flatten().to_pylist()))
        lengths_N = captions.value_lengths().to_numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths_N)]), pa.int32())
        columns = {"image": as_vectors(image_ND), "texts": pa.ListArray.from_arrays(offsets, text)}
        return pa.table(columns, schema=schema.image_text_vectors(image_ND.shape[1]))

    def figures(self, parts: Iterator[pa.Table]) -> list[Figure]:
        table = pa.concat_tables(parts).combine_chunks()
        image_ND, texts = from_vectors(table["image"]), table["texts"].combine_chunks()
        check_share(table["image"].null_count, len(image_ND), self.whose, self.most_unreadable)
        image_of_T = np.repeat(np.arange(len(image_ND)), texts.value_lengths().to_numpy())
        ranks = rank(image_ND, from_vectors(texts.flatten()), image_of_T)
        metrics = recalls_of_images(ranks, image_of_T, len(image_ND))
        return [Figure("", *one, of_images) for one, of_images in zip(recalls(ranks), metrics, strict=True)]
