"""Looks whether a run would reach what it needs beyond its own process: Ray, places to write to, inputs on S3.

A question to somebody else has BOUND_S seconds. This file imports no Ray.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil

from react_ray.errors import ReactRayError, StorageError
from react_ray.evals.set_places import set_places
from react_ray.recipe import Recipe
from react_ray.redact import redact
from react_ray.runtime.finding import Finding
from react_ray.runtime.ray_token import MODE, token_place
from react_ray.storage import check_writable, open_storage
from react_ray.uri import is_local

BOUND_S = 20.0
FULL_GB, TIGHT_GB = 1.0, 10.0  # of disk
LONGEST_TMPDIR = 40  # characters; Ray's sockets lie below, and a socket's path has 107 at most


def ray_cluster(address: str) -> Iterator[Finding]:
    """address: of the cluster to join; "" = a Ray will start on this machine."""
    token, mode = token_place(), os.environ.get(MODE)
    if address:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not port.isdecimal():
            yield Finding("ray", "ok", f"{address}: a Ray on this machine will be looked for")
        elif problem := _unreachable(host.strip("[]") or "127.0.0.1", int(port)):
            yield Finding(
                "ray",
                "problem",
                f"nobody answers at {redact(address)} ({problem})",
                "correct cluster.address or RAY_ADDRESS, open the port, or leave both empty for a Ray of this machine",
            )
        else:
            yield Finding("ray", "ok", f"somebody answers at {redact(address)}")
        if not token and mode != "disabled":
            yield Finding(
                "ray",
                "warning",
                "no token of Ray is here, and most clusters ask for theirs",
                "copy ~/.ray/auth_token from the head node, or set RAY_AUTH_TOKEN",
            )
        return
    folder = os.environ.get("RAY_TMPDIR", tempfile.gettempdir())
    sessions = Path(folder, "ray")
    if len(folder) > LONGEST_TMPDIR:
        yield Finding("ray", "problem", f"RAY_TMPDIR={folder} is too long for its sockets", "name a shorter folder")
    elif not os.access(sessions if sessions.exists() else folder, os.W_OK):
        yield Finding(
            "ray",
            "problem",
            f"{sessions} cannot be written, as if another user had made it",
            "set RAY_TMPDIR to a folder of your own",
        )
    elif problem := _no_port():
        yield Finding("ray", "problem", f"no port can be opened ({problem})", "look at the firewall or the sandbox")
    else:
        yield Finding("ray", "ok", f"a Ray of this machine can start, with its sessions in {sessions}")
    usage = psutil.disk_usage(folder)
    if usage.percent >= 95:
        yield Finding(
            "ray",
            "warning",
            f"{folder} is {usage.percent:.0f} % full, and Ray stores no objects above 95 %",
            "make room there, or set RAY_TMPDIR",
        )


def place(name: str, uri: str) -> Finding:
    """A place that will be written to: whether it can be, and how much room there is."""
    if not is_local(uri):
        problem = _bounded(partial(check_writable, uri))
        if problem:
            return Finding(name, "problem", problem, "" if ";" in problem else "look at the network and the bucket")
        return Finding(name, "ok", f"{uri} can be written")
    above = Path(uri)
    while not above.exists() and above != above.parent:
        above = above.parent
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        return Finding(name, "problem", f"{above} cannot be written", f"change its rights, or name another {name}")
    free_gb = psutil.disk_usage(str(above)).free / 2**30
    if free_gb >= TIGHT_GB:
        return Finding(name, "ok", f"{uri} can be written, {free_gb:,.1f} GB are free")
    said = f"only {free_gb:,.1f} GB are free for {uri}"
    return Finding(name, "problem" if free_gb < FULL_GB else "warning", said, "make room there, or name another place")


def inputs(recipe: Recipe) -> Iterator[Finding]:
    """Whatever the recipe reads from S3, one finding a bucket."""
    read = [recipe.ingest.source, *set_places(recipe.evaluate), recipe.tasks.file, recipe.backbone.pretrained]
    buckets = {"/".join(uri.split("/")[:3]): uri for uri in reversed(read) if uri.startswith("s3://")}
    for bucket, uri in buckets.items():
        problem = _bounded(partial(_ask, uri))
        if problem:
            yield Finding("s3", "problem", problem, "" if ";" in problem else "look at the network")
        else:
            yield Finding("s3", "ok", f"{bucket} answers to these credentials")


def _unreachable(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), 5.0).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _no_port() -> str:
    try:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            socket.create_connection(server.getsockname(), 5.0).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _ask(uri: str) -> None:
    """StorageError if the bucket does not answer to these credentials; that an object is missing is an answer."""
    try:
        open_storage(uri).read(".react_ray-probe")
    except StorageError as error:
        if "NoSuchKey" not in str(error):
            raise


def _bounded(action: Callable[[], object], bound_s: float = BOUND_S) -> str:
    """What went wrong, "" if nothing; an action that takes longer than `bound_s` is left to itself."""
    problems = [f"no answer within {bound_s:g} s"]

    def act() -> None:
        try:
            action()
            problems[0] = ""
        except ReactRayError as error:
            problems[0] = str(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(bound_s)
    return problems[0]
