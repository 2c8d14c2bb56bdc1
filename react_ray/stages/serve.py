"""serve: a database answers queries over HTTP, until the command ends. react_ray/serving/ has the API.

This process answers alone unless there is a cluster, or the recipe asks for several processes of a kind.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from react_ray.errors import ClusterError, ConfigError
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.row_guard import one_line
from react_ray.runtime.cluster import connected
from react_ray.search.open_database import of_recipe
from react_ray.serving.class_list import own_tasks
from react_ray.stages.serving.application import NAME, api_key, asgi_app, bound
from react_ray.stages.serving.front import front

QUIET = LoggingConfig(log_level=logging.ERROR, enable_access_log=False)


def run(recipe: Recipe, insecure: bool = False, verbose: bool = False) -> None:
    """Serves until it is interrupted. ConfigError if it would be open to others without a key."""
    with served(recipe, insecure, verbose) as url:
        say(f"serving {recipe.database} at {url} (the page; the API is at {url}/v1). Ctrl-C ends it.")
        for task in own_tasks(recipe):
            say(f"what the classes of {task.name} retrieve: {url}/#classes?task={quote(task.name)}")
        threading.Event().wait()


@contextmanager
def served(recipe: Recipe, insecure: bool = False, verbose: bool = False) -> Iterator[str]:
    """The URL of the application, which ends with the block."""
    check_open(recipe, insecure)
    of_recipe(recipe)  # before Ray starts: the database is there and embedded
    is_open = not is_loopback(recipe.serve.host)
    shown = f"[{recipe.serve.host}]" if ":" in recipe.serve.host else recipe.serve.host
    with (_by_ray if on_ray(recipe) else _alone)(recipe, is_open, verbose) as port:
        yield f"http://{shown}:{port}"


def on_ray(recipe: Recipe) -> bool:
    """Whether processes of Ray Serve answer: on a cluster, or where the recipe asks for several of a kind."""
    there = ray.is_initialized() or recipe.cluster.address or os.environ.get("RAY_ADDRESS")
    return bool(there) or max(recipe.serve.ingress_replicas, recipe.serve.max_replicas) > 1


@contextmanager
def _alone(recipe: Recipe, is_open: bool, verbose: bool) -> Iterator[int]:
    """Yields the port. This process does it all: between processes, a search would take several times as long."""
    with front(asgi_app(recipe, None, is_open), recipe.serve.host, recipe.serve.port) as port:
        yield port


@contextmanager
def _by_ray(recipe: Recipe, is_open: bool, verbose: bool) -> Iterator[int]:
    """Yields the port of Serve's proxy, behind which ingress replicas ask those of the groups."""
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


def check_open(recipe: Recipe, insecure: bool) -> None:
    """ConfigError if the recipe's key is not there, or if others would be let in without one."""
    host, key = recipe.serve.host, api_key(recipe)
    if not is_loopback(host) and not key and not insecure:
        raise ConfigError(
            f"serve.host={host} lets others in, and no key is asked for; set serve.api_key_env to an environment "
            "variable with a key, or add --insecure"
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
        found.bind((host, 0))
        port: int = found.getsockname()[1]
        return port
