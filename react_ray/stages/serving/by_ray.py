"""by_ray: processes of Ray Serve answer for the groups of shards, on a cluster or on this machine.

This process takes the requests itself: through Serve's proxy they would take several milliseconds more
(bench_serve.py measures both). Serve's own processes take them where the recipe asks for several, or places them by
roles, as they do where `serve deploy` starts the application (application.py).
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from typing import Any

from ray import serve
from ray.exceptions import ActorAlreadyExistsError, RayError
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig
from ray.util import get_node_ip_address

from react_ray.errors import ClusterError
from react_ray.metadata import printable, shortened
from react_ray.recipe import Recipe
from react_ray.row_guard import one_line
from react_ray.runtime.cluster import connected
from react_ray.serving import ray_tls
from react_ray.serving.app import asgi_app
from react_ray.stages.serving.application import NAME, bound, groups, serve_groups
from react_ray.stages.serving.front import front, listen
from react_ray.stages.serving.keeper import kept

CONNECTING_S, LOOK_S = 5.0, 0.1
MOST_ROUTES = 1 << 20  # bytes of what a proxy says of its routes
QUIET = LoggingConfig(log_level=logging.ERROR, enable_access_log=False)


@contextmanager
def by_ray(recipe: Recipe, is_open: bool, verbose: bool) -> Iterator[int]:
    """Yields the port. ClusterError if the processes do not start."""
    ray_tls.of_server()  # Ray would wait in silence for a file that is not there
    by_serve = recipe.cluster.roles or recipe.serve.most_ingress_replicas > 1
    way = _taken_by_serve if by_serve else _taken_here
    with way(recipe, is_open, verbose) as port:
        yield port


@contextmanager
def _taken_here(recipe: Recipe, is_open: bool, verbose: bool) -> Iterator[int]:
    with listen(recipe.serve.host, recipe.serve.port) as listening, connected(recipe.cluster, verbose):
        name = f"{NAME}-{recipe.name}-{get_node_ip_address()}-{listening.getsockname()[1]}"
        of_groups = {f"{name}-{number}": group for number, group in enumerate(groups(recipe))}
        with (
            _running(name, of_groups, "Disabled", None, verbose) as handles,
            front(asgi_app(recipe, serve_groups(recipe, handles), is_open), listening) as port,
        ):
            yield port


@contextmanager
def _taken_by_serve(recipe: Recipe, is_open: bool, verbose: bool) -> Iterator[int]:
    host, port = recipe.serve.host, recipe.serve.port or _free_port(recipe.serve.host)
    name, options = f"{NAME}-{recipe.name}", HTTPOptions(host=host, port=port)
    with (
        connected(recipe.cluster, verbose),
        _running(name, {name: bound(recipe, is_open)}, "HeadOnly", options, verbose),
    ):
        _check_answers(host, port, name)
        yield port


@contextmanager
def _running(
    name: str, applications: dict[str, serve.Application], proxies: str, http: HTTPOptions | None, verbose: bool
) -> Iterator[list[DeploymentHandle[Any]]]:
    """Starts Serve unless it runs, and these applications by their names, until the block or the command ends."""
    if not verbose:
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
    logs = None if verbose else QUIET
    with kept(name, applications.keys()):
        _start(proxies, http, logs)
        route = None if http is None else "/"
        yield _handles([serve.RunTarget(one, its, route, logs) for its, one in applications.items()])


def _start(proxies: str, http: HTTPOptions | None, logs: LoggingConfig | None) -> None:
    try:
        with suppress(ActorAlreadyExistsError):
            serve.start(proxies, http, logging_config=logs)
            return
        serve.start(proxies, http, logging_config=logs)  # another command has just started it
    except (RuntimeError, RayError) as error:
        said = one_line(getattr(error, "cause", error), 500)
        raise ClusterError(f"Ray Serve did not start: {said}; mend it, or set serve.port to another") from error


def _handles(targets: Sequence[serve.RunTarget]) -> list[DeploymentHandle[Any]]:
    try:
        return serve.run_many(targets)
    except (RuntimeError, RayServeException) as error:
        said = _told(targets) or one_line(getattr(error, "cause", error), 500)
        raise ClusterError(f"it did not start: {said}; mend what this names, or run it with --verbose") from error


def _told(targets: Sequence[serve.RunTarget]) -> str:
    """The last line of what a process died of while it started; empty if none did."""
    there = serve.status().applications
    deployments = [one for target in targets if target.name in there for one in there[target.name].deployments.values()]
    lines = [line for one in deployments for line in one.message.splitlines() if line.strip()]
    return shortened(printable(lines[-1]).strip(), 500) if lines else ""


def _check_answers(host: str, port: int, name: str) -> None:
    """ClusterError if it is not this application that answers there: a Serve that runs already keeps to the port with
    which it was started, or has no proxy, and anything else may listen."""
    said, until = "", time.monotonic() + CONNECTING_S
    while time.monotonic() < until:
        with closing(HTTPConnection(host, port, timeout=CONNECTING_S)) as connection:
            try:
                connection.request("GET", "/-/routes")
                if json.dumps(name).encode() in connection.getresponse().read(MOST_ROUTES):
                    return
                said = "something else does"
            except (OSError, HTTPException) as error:
                said = str(error)
        time.sleep(LOOK_S)
    raise ClusterError(
        f"the proxy of Ray Serve does not answer at {host}:{port} ({said}); set serve.port to that of the Serve that "
        "runs on this cluster, or serve.ingress_replicas and serve.max_ingress_replicas to 1, which need none"
    )


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
        found.bind((host, 0))
        port: int = found.getsockname()[1]
        return port
