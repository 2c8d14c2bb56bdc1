"""Defines DownloadConfig, the section `download` of a recipe: how images are fetched, what is stored, when to stop."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from react_ray.pairs.store_config import StoreConfig
from react_ray.section import speed
from react_ray.web.fetch_config import FetchConfig


class DownloadConfig(FetchConfig, StoreConfig):
    of: Literal["pairs", "retrieved"] = speed(
        "pairs",
        "pairs: download the images of the whole database; retrieved: only those of retrieved pairs, "
        "which needs a search by captions (embed.images=false)",
    )
    fused: bool = speed(
        False,
        "`embed` fetches the images itself, in one pipeline with the model, and the verb `download` is not needed",
    )
    keep_images: bool = speed(
        True, "store the images; false: store only their vectors, for which download is always fused with embed"
    )
    min_success: float = speed(
        0.05, "stop when a smaller share of the rows fetched in this run gave an image; 0 = never", ge=0, le=1
    )
    min_success_after: int = speed(1000, "number of rows before that share is judged", ge=1)
    num_workers: int = speed(
        1, "processes that download, at most; limits per process, such as max_in_flight, hold for each", ge=1
    )
    num_threads: int = speed(2, "threads of each process that decode, resize and encode", ge=1)
    parts_per_worker: int = speed(
        2,
        "parts that each process works on at a time: the next part fills the slow end of the last; costs memory",
        ge=1,
    )

    @model_validator(mode="before")
    @classmethod
    def _without_stored_images_only_retrieved_ones_can_be_downloaded(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("keep_images") is False:
            if values.get("of", "retrieved") != "retrieved":
                raise ValueError(
                    "keep_images=false leaves no images of the pairs; leave out download.of, or set keep_images=true"
                )
            return values | {"of": "retrieved"}
        return values
