"""A served database in this process: the real application over real shards, asked through ASGI without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from threading import Thread
from typing import Any

import httpx
import uvicorn

from react_ray.recipe import Recipe
from react_ray.serving.app import make_app
from react_ray.serving.service import Service
from tests.support.searchable import BASE


def serving_recipe(uri: str, **sections: Any) -> Recipe:
    values: dict[str, Any] = {
        "name": "served",
        "database": uri,
        "out": f"{uri}/../run",
        "backbone": BASE.model_dump(),
        "ingest": {"source": "sample://pool.parquet"},
        "retrieve": {"keys": ["image", "text"]},
        "tasks": {"name": "animals", "class_names": ["heron", "horse"], "templates": ["a {}"]},
    }
    patient = {"timeout_s": 300.0}  # a busy machine takes long to load the model of a first image
    return Recipe.model_validate(values | sections | {"serve": patient | sections.get("serve", {})})


class Client:
    """`await client.post("/v1/search", {...})` -> (status, JSON)."""

    def __init__(self, http: httpx.AsyncClient, service: Service) -> None:
        self.http, self.service = http, service

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        answer = await self.http.post(path, json=body, headers=headers)
        return answer.status_code, answer.json()

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        answer = await self.http.get(path, headers=headers)
        return answer.status_code, answer.json()

    async def ids(self, query: Any, **asked: Any) -> list[int]:
        """The pair_ids of the hits of one query."""
        status, found = await self.post("/v1/search", {"query": query, **asked})
        assert status == 200, found
        return [hit["pair_id"] for hit in found["results"][0]["hits"]]


@contextmanager
def listening(recipe: Recipe, key: str = "") -> Iterator[str]:
    """The URL of a server on loopback, in a thread of this process."""
    service = Service(recipe)
    server = uvicorn.Server(uvicorn.Config(make_app(service, key), port=0, log_level="critical", lifespan="on"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.01)
    [port] = {one.getsockname()[1] for listener in server.servers for one in listener.sockets}
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@asynccontextmanager
async def served(
    recipe: Recipe, key: str = "", hosts: Sequence[str] = (), service: Service | None = None
) -> AsyncIterator[Client]:
    service = service or Service(recipe)
    app = make_app(service, key, hosts)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield Client(http, service)
