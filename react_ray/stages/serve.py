"""serve: a database answers queries over HTTP, until the command ends. react_ray/serving/ has the API."""

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
from react_ray.stages.serving.application import NAME, api_key, asgi_app, bound, bound_groups, group_name
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
    mine = not (ray.is_initialized() or recipe.cluster.address or os.environ.get("RAY_ADDRESS"))
    with connected(recipe.cluster, verbose):
        if not verbose:
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
        by = _by_this_process if mine and recipe.serve.ingress_replicas == 1 else _by_proxies
        with by(recipe, is_open, None if verbose else QUIET) as port:
            yield f"http://{shown}:{port}"


@contextmanager
def _by_this_process(recipe: Recipe, is_open: bool, logs: LoggingConfig | None) -> Iterator[int]:
    """Yields the port. The groups end with the Ray that this command started."""
    serve.start(proxy_location="Disabled", logging_config=logs)
    groups = bound_groups(recipe)
    targets = [
        serve.RunTarget(target=group, name=group_name(number), route_prefix=None, logging_config=logs)
        for number, group in enumerate(groups)
    ]
    with _started():
        handles = serve.run_many(targets)
    with front(asgi_app(recipe, handles, is_open), recipe.serve.host, recipe.serve.port) as port:
        yield port


@contextmanager
def _by_proxies(recipe: Recipe, is_open: bool, logs: LoggingConfig | None) -> Iterator[int]:
    """Yields the port of Serve's proxy, behind which ingress replicas are."""
    host, port = recipe.serve.host, recipe.serve.port or _free_port(recipe.serve.host)
    serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(host=host, port=port), logging_config=logs)
    try:
        with _started():
            serve.run(bound(recipe, is_open), name=NAME, logging_config=logs)
        yield port
    finally:
        serve.delete(NAME)


@contextmanager
def _started() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        said = one_line(error, 500)
        raise ClusterError(f"the application did not start: {said}; run it again with --verbose") from error


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
