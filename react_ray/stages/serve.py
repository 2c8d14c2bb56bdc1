"""serve: a database answers queries over HTTP, until the command ends. react_ray/serving/ has the API.

This process answers alone unless there is a cluster, or the recipe asks for several processes of a kind.
"""

from __future__ import annotations

import ipaddress
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from urllib.parse import quote

from react_ray.errors import ConfigError
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.search.open_database import of_recipe
from react_ray.serving.app import api_key, asgi_app
from react_ray.serving.class_list import own_tasks
from react_ray.stages.serving.front import front, listen


def run(recipe: Recipe, insecure: bool = False, verbose: bool = False) -> None:
    """Serves until it is interrupted. ConfigError if it would be open to others without a key."""
    # On stdout Ray tells of the death of Serve's own actors, whatever its level of logs.
    with (
        open(os.devnull, "w") as nothing,
        nullcontext() if verbose else redirect_stdout(nothing),
        served(recipe, insecure, verbose) as url,
    ):
        say(f"serving {recipe.database} at {url} (the page; the API is at {url}/v1). Ctrl-C ends it.")
        for task in own_tasks(recipe):
            say(f"what the classes of {task.name} retrieve: {url}/#classes?task={quote(task.name)}")
        threading.Event().wait()


@contextmanager
def served(recipe: Recipe, insecure: bool = False, verbose: bool = False) -> Iterator[str]:
    """The URL of the application, which ends with the block."""
    check_open(recipe, insecure)
    of_recipe(recipe)  # before anything starts: the database is there and embedded
    is_open = not is_loopback(recipe.serve.host)
    shown = f"[{recipe.serve.host}]" if ":" in recipe.serve.host else recipe.serve.host
    if on_ray(recipe):
        from react_ray.stages.serving.by_ray import by_ray  # Ray takes a second to import

        listening = by_ray(recipe, is_open, verbose)
    else:  # between processes, a search would take several times as long
        listening = front(asgi_app(recipe, None, is_open), listen(recipe.serve.host, recipe.serve.port))
    with listening as port:
        yield f"http://{shown}:{port}"


def on_ray(recipe: Recipe) -> bool:
    """Whether processes of Ray Serve answer: on a cluster, or where the recipe asks for several of a kind."""
    ray = sys.modules.get("ray")
    there = recipe.cluster.address or os.environ.get("RAY_ADDRESS") or (ray is not None and ray.is_initialized())
    return bool(there) or max(recipe.serve.most_ingress_replicas, recipe.serve.most_replicas) > 1


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
