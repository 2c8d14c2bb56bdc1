"""The HTTP API as an ASGI application: routes, the one shape of errors, and the page.

`python -m react_ray.serving.app RECIPE [section.field=value ...]` serves a database in one process, without Ray.
"""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from react_ray import __version__
from react_ray.errors import (
    ArtifactError,
    BackboneError,
    ConfigError,
    ReactRayError,
    RetrievalError,
    ShardUnavailable,
)
from react_ray.fault_log import told
from react_ray.pairs.image_kind import kind_of
from react_ray.serving import api
from react_ray.serving.class_list import task_list
from react_ray.serving.classes import classes
from react_ray.serving.described import index_facts, ready
from react_ray.serving.finding import search
from react_ray.serving.guard import Guard
from react_ray.serving.measured_recall import measured_recall
from react_ray.serving.records import Records
from react_ray.serving.refusal import GroupUnavailable, Refused
from react_ray.serving.service import Service
from react_ray.serving.written_recipe import written_recipe

logger = logging.getLogger(__name__)
PAGE = Path(__file__).with_name("page")
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": api.ErrorAnswer, "description": said}
    for status, said in {
        400: "the request cannot be meant",
        401: "no key, or a wrong one",
        404: "there is no such pair",
        408: "it took longer than its timeout_ms",
        413: "the body is too large",
        429: "too many requests at once",
        503: "a group of shards does not answer",
        504: "it took longer than the server allows",
    }.items()
}
IMAGE_TYPES = {"jpg": "image/jpeg", "tif": "image/tiff", "ico": "image/x-icon", "dib": "image/bmp"}


class PageFiles(StaticFiles):
    """A browser asks whether a file has changed, so that after an upgrade it never mixes modules of two versions."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def make_app(service: Service, key: str = "", hosts: Sequence[str] = ()) -> FastAPI:
    """key: that requests must show, "" = none; hosts: the only names that this server answers to, empty = any."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.close()

    config = service.config
    app = FastAPI(
        title="react_ray", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, responses=ERRORS
    )
    app.state.service = service
    app.include_router(routes(service))
    app.mount("/static", PageFiles(directory=PAGE, check_dir=False), name="static")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return _page_file(PAGE / "index.html", config.image_hosts)

    app.add_exception_handler(Exception, _on_fault)
    for kind in (ReactRayError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _on_error)
    app.add_middleware(Guard, config=config, key=key, hosts=tuple(hosts))
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-Api-Key", "Content-Type"],
        )
    return app


def routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/search", response_model=api.SearchAnswer)
    async def _search(body: api.SearchBody) -> Response:
        """The nearest pairs to texts, images, vectors, pairs, or weighted sums of these."""
        return JSONResponse(await service.answered(lambda view: search(service, view, body), body.timeout_ms))

    @router.post("/v1/classes", response_model=api.ClassesAnswer)
    async def _classes(body: api.ClassesBody) -> Response:
        """What a retrieval would select for a list of classes."""
        return JSONResponse(await service.answered(lambda view: classes(service, view, body), body.timeout_ms))

    @router.post("/v1/recipe", response_model=api.RecipeAnswer)
    async def _recipe(body: api.RecipeBody) -> Response:
        """The recipe that retrieves what a list of classes showed."""
        view = service.now
        await service.in_thread(view.check_filters, body.filters)
        return JSONResponse(await service.in_thread(written_recipe, service.recipe, view, body))

    @router.get("/v1/tasks")
    async def _tasks() -> Response:
        """The tasks that are built in, and those of the recipe."""
        return JSONResponse(await service.in_thread(task_list, service.recipe))

    @router.get("/v1/recall")
    async def _recall(n: int = 50, k: int = 10, key: str = "") -> Response:
        """The recall of n held-out text queries against exact search, measured now."""
        return JSONResponse(await service.answered(lambda view: measured_recall(service, view, n, k, key)))

    @router.get("/v1/pairs/{pair_id}")
    async def _pair(pair_id: api.PairId) -> Response:
        """All columns of a pair."""
        return JSONResponse(await service.in_thread(_described_pair, service.now.records, pair_id))

    @router.get("/v1/pairs/{pair_id}/image", response_class=Response)
    async def _image(pair_id: api.PairId) -> Response:
        """The stored image of a pair."""
        data = await service.in_thread(service.now.records.image, pair_id)
        if not data:
            raise Refused(f"pair {pair_id} has no stored image; look at its url", 404, "not_found")
        kind = kind_of(data)
        headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type=IMAGE_TYPES.get(kind, f"image/{kind or 'x-unknown'}"), headers=headers)

    @router.get("/v1/index")
    async def _index() -> Response:
        """What is served, and within which limits."""
        return JSONResponse(await index_facts(service, service.now))

    @router.get("/healthz")
    async def _healthz() -> Response:
        """This process is alive."""
        return JSONResponse({"status": "alive"})

    @router.get("/readyz")
    async def _readyz() -> Response:
        """Every group of shards answers."""
        return JSONResponse(await ready(service))

    return router


def _described_pair(records: Records, pair_id: int) -> dict[str, Any]:
    try:
        ids = records.known([pair_id])
    except RetrievalError as error:
        raise Refused(str(error), 404, "not_found") from error
    row = records.rows(ids, records.columns)[pair_id]
    image = f"/v1/pairs/{pair_id}/image" if records.stored(ids) else None
    return {"pair_id": pair_id, "columns": row, "image": image}


def _page_file(path: Path, image_hosts: Sequence[str]) -> Response:
    if not path.is_file():
        raise Refused("this installation has no page; use the API below /v1", 404, "not_found")
    images = " ".join(["'self'", "data:", "blob:", *image_hosts])
    headers = {
        "Content-Security-Policy": f"default-src 'self'; img-src {images}; object-src 'none'; base-uri 'none'; "
        "frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return Response(path.read_bytes(), media_type=mimetypes.guess_type(path.name)[0], headers=headers)


def refusal_of(error: Exception) -> Refused:
    """Every error that a request can end with, as what the client is told."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, (GroupUnavailable, ShardUnavailable)):
        return Refused(str(error), 503, "group_unavailable", retry_s=2)
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        said = {404: "there is nothing here; see /openapi.json", 405: "another method is meant; see /openapi.json"}
        return Refused(said.get(error.status_code, str(error.detail)), error.status_code, "http")
    if isinstance(error, (ConfigError, RetrievalError, BackboneError)):
        return Refused(str(error))
    if isinstance(error, ArtifactError):
        return Refused(str(error), 503, "database", retry_s=5)
    return Refused(str(error), 503, "storage", retry_s=5)


def _of_validation(error: RequestValidationError) -> Refused:
    first = error.errors()[0]
    place = [str(one) for one in first["loc"][1:]]  # without "body", "query" or "path"
    field = ".".join(place) or None
    said = str(first.get("ctx", {}).get("error") or first["msg"])
    if first["type"] == "json_invalid":
        return Refused(f"the body is no JSON ({said}); send one JSON object", code="bad_json")
    remedy = "" if "; " in said else "; see /openapi.json"
    return Refused(f"{field or 'the body'}: {said}{remedy}", field=field)


async def _on_error(request: Request, error: Exception) -> Response:
    refused = refusal_of(error)
    return JSONResponse(refused.body(), refused.status, refused.headers())


async def _on_fault(request: Request, error: Exception) -> Response:
    logger.error("%s %s: %s", request.method, request.url.path, told(error))
    return JSONResponse(Refused("the server made a mistake, which its log names", 500, "fault").body(), 500)


def main(recipe_uri: str, overrides: list[str]) -> None:
    import uvicorn

    from react_ray.recipe import load_recipe

    recipe = load_recipe(recipe_uri, overrides)
    uvicorn.run(make_app(Service(recipe)), host=recipe.serve.host, port=recipe.serve.port, log_level="warning")


if __name__ == "__main__":
    import sys

    main(sys.argv[1], sys.argv[2:])
