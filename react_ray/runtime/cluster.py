"""Join or start Ray for the time of one command, when it is needed, and ask it for its nodes and answers."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import psutil
import ray

from react_ray.errors import ClusterError, ReactRayError
from react_ray.progress import say
from react_ray.recipe import ClusterConfig
from react_ray.redact import redact
from react_ray.runtime import last_words
from react_ray.runtime.explain import first_line, wants_token

REACH_S = 15.0
TOO_SLOW = "timed out during startup"  # as Ray says it

_wanted: tuple[ClusterConfig, bool] | None = None  # by the command of this process, when it needs Ray


@contextmanager
def connected(config: ClusterConfig, verbose: bool = False) -> Iterator[None]:
    """As `on_demand`, with Ray started or joined at once."""
    with on_demand(config, verbose):
        need()
        yield


@contextmanager
def on_demand(config: ClusterConfig, verbose: bool = False) -> Iterator[None]:
    """Until the end of the block, Ray is started or joined as soon as work needs it, and work that does not goes
    without. A Ray that is already initialised is left as it is.

    verbose: Ray's own messages, and those of all workers, appear on stderr; otherwise only our progress display does.
    """
    global _wanted
    if ray.is_initialized():
        yield
        return
    before, _wanted = _wanted, (config, verbose)
    try:
        yield
    finally:
        _wanted = before
        ray.shutdown()


def need() -> None:
    """Starts or joins Ray, if the command has not done so yet; says that it starts, because it takes some seconds."""
    if _wanted is not None and not ray.is_initialized():
        _start(*_wanted)


def is_running() -> bool:
    """False where nothing has needed Ray yet. Without `on_demand` around it, as in a program that calls the stages
    itself, Ray counts as running."""
    return _wanted is None or bool(ray.is_initialized())


def omp_policy() -> dict[str, Any]:
    """The runtime_env by which the workers of a cluster wait for OpenMP as this process does. They do not inherit what
    the command line sets (cli/app.py), and threads that spin after a search cost more than a search of one query."""
    return {"env_vars": {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}}


def _settings(config: ClusterConfig, verbose: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {"logging_level": logging.INFO if verbose else logging.ERROR, "log_to_driver": verbose}
    if not (config.address or os.environ.get("RAY_ADDRESS")):
        return settings | {
            "address": "local",
            "num_cpus": config.num_cpus or None,
            "object_store_memory": int(config.object_store_gb * 2**30),
            "include_dashboard": False,
        }
    return settings | {"runtime_env": omp_policy()} | ({"address": config.address} if config.address else {})


def _start(config: ClusterConfig, verbose: bool) -> None:
    """Starts or joins Ray. ClusterError if that fails."""
    settings = _settings(config, verbose)
    joins = settings.get("address", os.environ.get("RAY_ADDRESS", ""))
    if joins == "local":
        say("starting Ray on this machine ...")
    last_words.watch()
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # omp_policy() may repeat what a job has set
    try:
        _reach(joins)
        if verbose:
            _init(settings)
            return
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        _init(settings, _no_native_stderr)
    except Exception as error:
        said = redact(first_line(error))
        if wants_token(error):
            raise ClusterError(
                f"Ray at {redact(joins)} wants the token of its cluster, and this command has none or another: copy "
                "~/.ray/auth_token from the head node to this machine, or set RAY_AUTH_TOKEN to what it holds; set "
                "RAY_AUTH_MODE=token and run the same command again"
            ) from error
        if joins == "local":
            raise ClusterError(
                f"Ray did not start on this machine ({type(error).__name__}: {said}); free memory and "
                "processors, or lower cluster.object_store_gb, and run the same command again"
            ) from error
        raise ClusterError(
            f"cannot join Ray at {redact(joins)} ({type(error).__name__}: {said}); check cluster.address or "
            "RAY_ADDRESS, and that this cluster runs with the same versions of Ray and Python"
        ) from error
    quiet()


def _init(settings: dict[str, Any], silence: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
    """ray.init, and again if Ray has given up its own processes: it waits 30 s for them, and on a busy machine they may
    need longer. What is left of a start is ended before the next."""
    others = set(psutil.Process().children(recursive=True))
    for is_last in (False, False, True):
        try:
            with silence():
                ray.init(**settings)
            return
        except Exception as error:
            if TOO_SLOW not in str(error) or is_last:
                raise
        say("this machine is busy, and Ray is slow to start; trying again ...")
        for process in set(psutil.Process().children(recursive=True)) - others:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _reach(address: str) -> None:
    """OSError if nobody listens at `host:port` or `ray://host:port`; Ray itself asks for some minutes.

    AuthenticationError if the cluster at `host:port` wants a token that this process does not show.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
        if not address.startswith("ray://"):
            from react_ray.runtime.refused import is_refused  # grpc, which no local start needs

            if is_refused(address):
                raise ray.exceptions.AuthenticationError("no token, or that of another cluster")


@contextmanager
def _no_native_stderr() -> Iterator[None]:
    """Ray's C++ side announces its own log level on file descriptor 2; an error arrives as an exception."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def quiet() -> None:
    """Our progress display speaks for all stages; Ray's libraries stay silent unless something is wrong.

    Ray Data prints the traceback of an error that it also raises; the exception suffices, and its log file has both.
    """
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":  # as Ray Data's own configuration names it
            handler.setLevel(logging.CRITICAL)


def answers(waiting: list[Any]) -> list[Any]:
    """ray.get, except that one of our own errors is raised as itself, without Ray's error around it."""
    try:
        return ray.get(waiting)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, ReactRayError) else error) from None


def nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster that are alive, as Ray describes them."""
    need()
    return [node for node in ray.nodes() if node["Alive"]]
