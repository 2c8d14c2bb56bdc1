"""by_ray: processes of Ray Serve answer for the groups of shards, on a cluster or on this machine.

This process takes the requests itself: through Serve's proxy they would take several milliseconds more
(bench_serve.py measures both). Serve's own processes take them where the recipe asks for several, or places them by
roles, as they do where `serve deploy` starts the application (application.py).
"""

from __future__ import annotations

import io
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from react_ray.errors import ClusterError
from react_ray.recipe import Recipe
from react_ray.row_guard import one_line
from react_ray.runtime.cluster import connected
from react_ray.serving.app import asgi_app
from react_ray.stages.serving.application import NAME, bound, groups, serve_groups
from react_ray.stages.serving.front import front, listen

CONNECTING_S = 5.0
QUIET = LoggingConfig(log_level=logging.ERROR, enable_access_log=False)


@contextmanager
def by_ray(recipe: Recipe, is_open: bool, verbose: bool) -> Iterator[int]:
    """Yields the port. ClusterError if the processes do not start."""
    by_serve = recipe.cluster.roles or recipe.serve.most_ingress_replicas > 1
    way = _taken_by_serve if by_serve else _taken_here
    with way(recipe, is_open, verbose) as port:
        yield port


@contextmanager
def _taken_here(recipe: Recipe, is_open: bool, verbose: bool) -> Iterator[int]:
    with listen(recipe.serve.host, recipe.serve.port) as listening, _serve("Disabled", None, recipe, verbose) as logs:
        name = f"{NAME}-{recipe.name}-{listening.getsockname()[1]}"  # that of a command that was killed is taken over
        targets = [
            serve.RunTarget(group, f"{name}-{number}", None, logs) for number, group in enumerate(groups(recipe))
        ]
        with (
            _running(targets) as handles,
            front(asgi_app(recipe, serve_groups(recipe, handles), is_open), listening) as port,
        ):
            yield port


@contextmanager
def _taken_by_serve(recipe: Recipe, is_open: bool, verbose: bool) -> Iterator[int]:
    host, port = recipe.serve.host, recipe.serve.port or _free_port(recipe.serve.host)
    with _serve("HeadOnly", HTTPOptions(host=host, port=port), recipe, verbose) as logs:
        _check_listens(host, port)
        with _running([serve.RunTarget(bound(recipe, is_open), f"{NAME}-{recipe.name}", logging_config=logs)]):
            yield port


@contextmanager
def _serve(proxies: str, http: HTTPOptions | None, recipe: Recipe, verbose: bool) -> Iterator[LoggingConfig | None]:
    """Starts Serve, and yields how its processes log."""
    with connected(recipe.cluster, verbose):
        if not verbose:
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
        logs = None if verbose else QUIET
        serve.start(proxies, http, logging_config=logs)
        yield logs


@contextmanager
def _running(targets: Sequence[serve.RunTarget]) -> Iterator[list[DeploymentHandle[Any]]]:
    """Serve ends with the last application."""
    try:
        yield _handles(targets)
    finally:
        names = {target.name for target in targets}
        with redirect_stdout(io.StringIO()):  # Ray tells there of the death of Serve's own actors
            if serve.status().applications.keys() <= names:
                serve.shutdown()
            else:
                for name in names:
                    serve.delete(name, _blocking=False)


def _handles(targets: Sequence[serve.RunTarget]) -> list[DeploymentHandle[Any]]:
    try:
        return serve.run_many(targets)
    except (RuntimeError, RayServeException) as error:
        said = one_line(getattr(error, "cause", error), 500)
        raise ClusterError(f"it did not start: {said}; mend what this names, or run it with --verbose") from error


def _check_listens(host: str, port: int) -> None:
    """ClusterError if Serve does not: one that runs already keeps to the port with which it was started."""
    try:
        socket.create_connection((host, port), CONNECTING_S).close()
    except OSError as error:
        said = f"the proxy of Ray Serve does not listen at {host}:{port} ({error})"
        raise ClusterError(f"{said}; if it runs already on this cluster, end it with `serve shutdown`") from error


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
        found.bind((host, 0))
        port: int = found.getsockname()[1]
        return port
