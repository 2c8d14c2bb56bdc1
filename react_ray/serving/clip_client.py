"""The routes of clip-retrieval, so that programs over its `ClipClient` work unchanged: /knn-service, /metadata,
/indices-list. What it asks of safety and aesthetics is not known here and is ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from react_ray.serving.api import Number, PairId, Query, SearchBody, Text
from react_ray.serving.finding import find
from react_ray.serving.refusal import Refused
from react_ray.serving.service import Service
from react_ray.serving.view import View

NEAR = 0.94  # cosine of images from which on clip-retrieval takes two for duplicates


class KnnBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    text: Text | None = None
    image: str | None = None
    image_url: Text | None = None
    embedding_input: Annotated[list[Number] | None, Field(max_length=65_536)] = None
    deduplicate: bool = False
    modality: Literal["image", "text"] = "image"
    num_images: Annotated[int, Field(ge=1)] = 100
    num_result_ids: int | None = None
    indice_name: str | None = None


class MetadataBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    ids: Annotated[list[PairId], Field(max_length=10_000)]
    indice_name: str | None = None


async def knn(service: Service, view: View, body: KnnBody) -> list[dict[str, Any]]:
    """Hits with url, caption, id and similarity; beyond num_images only the last two."""
    _check_name(service, body.indice_name)
    key = body.modality if body.modality in view.plans else ""
    k = max(body.num_images, body.num_result_ids or 0)
    dedup = NEAR if body.deduplicate and "image" in view.plans else 0.0
    given = {"text": body.text, "image": body.image, "url": body.image_url, "embedding": body.embedding_input}
    try:
        query = Query.model_validate({name: value for name, value in given.items() if value})
        asked = SearchBody(query=query, k=k, key=key, dedup=dedup)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(str(first.get("ctx", {}).get("error") or first["msg"])) from error
    _, [hits] = await find(service, view, asked)
    shown = hits.pair_ids[: body.num_images]
    described = await service.in_thread(view.records.columns_of, shown, ["url", "caption"])
    short = [
        {"id": pair, "similarity": score}
        for pair, score in zip(hits.pair_ids.tolist(), hits.scores.tolist(), strict=True)
    ]
    long = zip(short, described["url"], described["caption"], strict=False)
    return [{"url": url, "caption": caption, **one} for one, url, caption in long] + short[len(shown) :]


def metadata(service: Service, view: View, body: MetadataBody) -> list[dict[str, Any]]:
    _check_name(service, body.indice_name)
    ids = view.records.known(body.ids)
    names = view.records.columns
    rows = zip(*view.records.columns_of(ids, names).values(), strict=True)
    return [
        {"id": pair, "metadata": dict(zip(names, row, strict=True))}
        for pair, row in zip(ids.tolist(), rows, strict=True)
    ]


def indices(service: Service) -> list[str]:
    return [service.recipe.name]


def _check_name(service: Service, name: str | None) -> None:
    if name and name not in indices(service):
        raise Refused(f"there is no index {name[:80]!r} here; name {service.recipe.name}", field="indice_name")
