"""The section `download` of a recipe: how URLs are fetched, what of each image is kept, and when to stop. Next: download.py."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from react_ray.pairs.store_config import StoreConfig
from react_ray.section import speed
from react_ray.web.fetch_config import FetchConfig


class DownloadConfig(FetchConfig, StoreConfig):
    of: Literal["pairs", "retrieved"] = speed(
        "pairs",
        "pairs: the images of the whole database; retrieved: only those of the pairs that were retrieved, for which "
        "captions must be what is searched (embed.images=false)",
    )
    fused: bool = speed(
        False, "`embed` fetches the images itself, in one pipeline with the model, and `download` is not needed"
    )
    keep_images: bool = speed(
        True, "store the images; false: only their vectors are kept, and download is always fused with embed"
    )
    min_success: float = speed(
        0.05, "stop when a smaller share of the rows asked since the start gave an image; 0 = never", ge=0, le=1
    )
    min_success_after: int = speed(1000, "rows before that share is judged", ge=1)
    num_workers: int = speed(1, "processes that download, at most; each has the limits above for itself", ge=1)
    num_threads: int = speed(2, "threads of each process that decode and encode", ge=1)
    queue_mb: float = speed(64, "what is fetched and not yet decoded, of one part; above it, fetching waits", gt=0)
    parts_per_worker: int = speed(
        2, "parts at a time of each process: the next one fills the slow end of the last; more memory", ge=1
    )

    @model_validator(mode="before")
    @classmethod
    def _what_is_not_kept_is_fetched_again_once_it_is_retrieved(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("keep_images") is False:
            if values.get("of", "retrieved") != "retrieved":
                raise ValueError(
                    "keep_images=false leaves no images of the pairs; leave out download.of, or set keep_images=true"
                )
            return values | {"of": "retrieved"}
        return values
