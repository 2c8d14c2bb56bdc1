"""The routes of the HTTP API: what each takes, and what answers it."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request
from fastapi import Query as QueryString
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from react_ray.errors import RetrievalError
from react_ray.pairs.image_kind import kind_of
from react_ray.serving import api, clip_client
from react_ray.serving.answer import answer
from react_ray.serving.arrow_search import TYPE as ARROW
from react_ray.serving.arrow_search import arrow_search
from react_ray.serving.class_list import task_list
from react_ray.serving.classes import classes
from react_ray.serving.described import index_facts, ready
from react_ray.serving.finding import search
from react_ray.serving.measured_recall import measured_recall
from react_ray.serving.records import Records
from react_ray.serving.refusal import Refused
from react_ray.serving.service import Service
from react_ray.serving.written_recipe import written_recipe

IMAGE_TYPES = {"jpg": "image/jpeg", "tif": "image/tiff", "ico": "image/x-icon", "dib": "image/bmp"}
M = TypeVar("M", bound=BaseModel)


def routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/search", response_model=api.SearchAnswer)
    async def _search(body: api.SearchBody) -> Response:
        """The nearest pairs to texts, images, vectors, pairs, or weighted sums of these."""
        found = await service.answered(lambda view: search(service, view, body), body.timeout_ms)
        return Response(found, media_type="application/json")

    @router.post("/v1/classes", response_model=api.ClassesAnswer)
    async def _classes(body: api.ClassesBody) -> Response:
        """What a retrieval would select for a list of classes."""
        return answer(await service.answered(lambda view: classes(service, view, body), body.timeout_ms))

    @router.post("/v1/recipe", response_model=api.RecipeAnswer)
    async def _recipe(body: api.RecipeBody) -> Response:
        """The recipe that retrieves what a list of classes showed."""
        view = service.now
        await service.in_thread(view.check_filters, body.filters)
        return answer(await service.in_thread(written_recipe, service.recipe, view, body))

    @router.get("/v1/tasks")
    async def _tasks() -> Response:
        """The tasks that are built in, and those of the recipe."""
        return answer(await service.in_thread(task_list, service.recipe))

    @router.get("/v1/recall")
    async def _recall(n: int = 50, k: int = 10, key: str = "") -> Response:
        """The recall of n held-out text queries against exact search, measured now."""
        return answer(await service.answered(lambda view: measured_recall(service, view, n, k, key)))

    @router.get("/v1/pairs/{pair_id}")
    async def _pair(pair_id: api.PairId) -> Response:
        """All columns of a pair."""
        return answer(await service.answered(lambda view: service.in_thread(_described_pair, view.records, pair_id)))

    @router.get("/v1/pairs/{pair_id}/image", response_class=Response)
    async def _image(pair_id: api.PairId) -> Response:
        """The stored image of a pair."""
        data = await service.answered(lambda view: service.in_thread(_image_of, view.records, pair_id))
        if not data:
            raise Refused(f"pair {pair_id} has no stored image; look at its url", 404, "not_found")
        kind = kind_of(data)
        headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type=IMAGE_TYPES.get(kind, f"image/{kind or 'x-unknown'}"), headers=headers)

    @router.get("/v1/index")
    async def _index() -> Response:
        """What is served, and within which limits."""
        return answer(await index_facts(service, service.now))

    @router.post("/v1/search.arrow", response_class=Response)
    async def _arrow(
        request: Request,
        k: int = 20,
        key: api.KeyName = "",
        recall: Annotated[float | None, QueryString(gt=0, le=1)] = None,
        filters: Annotated[list[str], QueryString(max_length=api.MOST_FILTERS)] = [],  # noqa: B006
        allow_partial: bool = False,
    ) -> Response:
        """Vectors in bulk: an Arrow IPC stream with a column `vector`; the hits are one, too."""
        asked = api.Searching(key=key, recall=recall, filters=filters, allow_partial=allow_partial)
        body = await request.body()
        found = await service.answered(lambda view: arrow_search(service, view, body, k, asked))
        return Response(found, media_type=ARROW)

    @router.post("/knn-service")
    async def _knn(request: Request) -> Response:
        """As clip-retrieval's; its client sends JSON without saying so."""
        body = plain(clip_client.KnnBody, await request.body())
        return answer(await service.answered(lambda view: clip_client.knn(service, view, body)))

    @router.post("/metadata")
    async def _metadata(request: Request) -> Response:
        """As clip-retrieval's."""
        body = plain(clip_client.MetadataBody, await request.body())
        return answer(await service.answered(lambda view: service.in_thread(clip_client.metadata, service, view, body)))

    @router.get("/indices-list")
    async def _indices() -> Response:
        """As clip-retrieval's."""
        return answer(clip_client.indices(service))

    @router.get("/healthz")
    async def _healthz() -> Response:
        """This process is alive."""
        return answer({"status": "alive"})

    @router.get("/readyz")
    async def _readyz() -> Response:
        """Every group of shards answers."""
        return answer(await ready(service))

    return router


def _known(records: Records, pair_id: int) -> np.ndarray:
    """int64 [1]"""
    try:
        return records.known([pair_id])
    except RetrievalError as error:
        raise Refused(str(error), 404, "not_found") from error


def _image_of(records: Records, pair_id: int) -> bytes | None:
    return records.image(int(_known(records, pair_id)[0]))


def _described_pair(records: Records, pair_id: int) -> dict[str, Any]:
    ids = _known(records, pair_id)
    row = {name: value for name, [value] in records.columns_of(ids, records.columns).items()}
    image = f"/v1/pairs/{pair_id}/image" if records.stored(ids)[0] else None
    return {"pair_id": pair_id, "columns": row, "image": image}


def plain(kind: type[M], body: bytes) -> M:
    """A body whose content type says nothing."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        errors = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        raise RequestValidationError(errors) from error
