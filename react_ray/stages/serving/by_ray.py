"""by_ray: Ray Serve takes requests behind its proxy, on a cluster or on this machine."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from react_ray.errors import ClusterError
from react_ray.recipe import Recipe
from react_ray.row_guard import one_line
from react_ray.runtime.cluster import connected
from react_ray.stages.serving.application import NAME, bound

QUIET = LoggingConfig(log_level=logging.ERROR, enable_access_log=False)


@contextmanager
def by_ray(recipe: Recipe, is_open: bool, verbose: bool) -> Iterator[int]:
    """Yields the port of the proxy, behind which ingress replicas ask those of the groups. ClusterError if they do not
    start."""
    host, port = recipe.serve.host, recipe.serve.port or _free_port(recipe.serve.host)
    with connected(recipe.cluster, verbose):
        if not verbose:
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
        logs = None if verbose else QUIET
        serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(host=host, port=port), logging_config=logs)
        try:
            try:
                serve.run(bound(recipe, is_open), name=NAME, logging_config=logs)
            except RuntimeError as error:
                said = one_line(error, 500)
                raise ClusterError(f"the application did not start: {said}; run it again with --verbose") from error
            yield port
        finally:
            serve.delete(NAME)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
        found.bind((host, 0))
        port: int = found.getsockname()[1]
        return port
