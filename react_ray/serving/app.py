"""The HTTP API as an ASGI application: its middleware, the one shape of errors, and the page. Next: routes.py."""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
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
from react_ray.recipe import Recipe
from react_ray.serving import api
from react_ray.serving.groups import Group
from react_ray.serving.guard import LOOPBACK, Guard
from react_ray.serving.measures import Measures
from react_ray.serving.refusal import GroupUnavailable, Refused
from react_ray.serving.routes import routes
from react_ray.serving.service import Service

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
        421: "it was sent to the name of another server",
        429: "too many requests at once",
        503: "a group of shards does not answer",
        504: "it took longer than the server allows",
    }.items()
}


class PageFiles(StaticFiles):
    """A browser asks whether a file has changed, so that after an upgrade it never mixes modules of two versions."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def asgi_app(recipe: Recipe, groups: Sequence[Group] | None, is_open: bool) -> FastAPI:
    """What takes requests and asks these groups, None = of this process. is_open: it may be reached by any name,
    without a key."""
    key = api_key(recipe)
    return make_app(Service(recipe, groups), key, () if key or is_open else LOOPBACK, warm=True)


def api_key(recipe: Recipe) -> str:
    """The key that requests must show; "" = none. ConfigError if the recipe names a variable that is empty."""
    name = recipe.serve.api_key_env
    if name and not os.environ.get(name):
        raise ConfigError(f"serve.api_key_env={name}, and this variable is not set; set it to the key, or leave it out")
    return os.environ[name] if name else ""


def make_app(service: Service, key: str = "", hosts: Sequence[str] = (), warm: bool = False) -> FastAPI:
    """key: that requests must show, "" = none; hosts: the only names that this server answers to, empty = any.

    warm: what a first image would wait for is loaded in the background.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        warming = asyncio.create_task(service.warm()) if warm else None
        yield
        if warming is not None:
            warming.cancel()
        await service.close()

    config, measures = service.config, Measures()
    app = FastAPI(
        title="react_ray", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, responses=ERRORS
    )
    app.state.service = service
    app.include_router(routes(service))
    app.mount("/static", PageFiles(directory=PAGE, check_dir=False), name="static")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return _page_file(PAGE / "index.html", config.image_hosts)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(measures.text(), media_type=measures.content_type)

    app.add_exception_handler(Exception, _on_fault)
    for kind in (ReactRayError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _on_error)
    app.add_middleware(Guard, config=config, measures=measures, key=key, hosts=tuple(hosts))
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-Api-Key", "Content-Type"],
        )
    _describe(app, key)
    return app


def _describe(app: FastAPI, key: str) -> None:
    """OpenAPI: what FastAPI would refuse with 422 is a 400 here, and a key is sent as a bearer token."""
    described = app.openapi()  # which the application keeps
    for operations in described["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    if key:
        described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]


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
        said = {
            400: "the body cannot be read as JSON; send one JSON object",
            404: "there is nothing here; see /openapi.json",
            405: "another method is meant; see /openapi.json",
        }
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
    if first["type"] == "extra_forbidden" and place[-1] in api.RENAMED:
        return Refused(f"{field} is named {api.RENAMED[place[-1]]}; send it by this name", field=field)
    if first["type"] == "model_attributes_type":  # so is JSON that is sent as something else, which stays a text
        said = "a JSON object is meant" if field else "no JSON object; send one as Content-Type: application/json"
    remedy = "" if "; " in said else "; see /openapi.json"
    return Refused(f"{field or 'the body'}: {said}{remedy}", field=field)


async def _on_error(request: Request, error: Exception) -> Response:
    refused = refusal_of(error)
    return JSONResponse(refused.body(), refused.status, refused.headers())


async def _on_fault(request: Request, error: Exception) -> Response:
    logger.error("%s %s: %s", request.method, request.url.path, told(error))
    return JSONResponse(Refused("the server made a mistake, which its log names", 500, "fault").body(), 500)
