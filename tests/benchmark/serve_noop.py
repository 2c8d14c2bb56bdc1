"""Deployments of Ray Serve that do nothing, beside which bench_serve.py puts the same calls with a search in them."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.util import get_node_ip_address
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from react_ray.serving.groups import Asked
from react_ray.serving.question_server import Address, QuestionServer


@serve.deployment
class Echo:
    """A group."""

    def __init__(self) -> None:
        methods = {"answer": lambda asked: asked.queries_QD}
        self._server = QuestionServer(get_node_ip_address(), methods)

    async def where(self) -> Address:
        return self._server.address

    async def answer(self, asked: Asked) -> Any:
        return asked.queries_QD


async def _echo(request: Request) -> Response:
    await request.body()
    return Response(b" " * int(request.headers["answer"]))


@serve.deployment
@serve.ingress(Starlette(routes=[Route("/", _echo, methods=["POST"])]))
class EchoPost:
    """An ingress, which reads a body and answers with as many bytes as it is told to."""
