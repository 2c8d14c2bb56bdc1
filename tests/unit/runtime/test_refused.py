"""A cluster that refuses a process without its token is told from one that answers, and from one that is silent."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from react_ray.runtime.refused import CLUSTER_ID, is_refused
from tests.support.ports import closed_port

Answer = Callable[[bytes, grpc.ServicerContext], bytes]


class Gcs(grpc.GenericRpcHandler):
    """Answers the first request of a process that joins."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return grpc.unary_unary_rpc_method_handler(self.answer) if details.method == CLUSTER_ID else None


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((Gcs(answer),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken: Authentication token is missing or incorrect")
    return b""


def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.INTERNAL, "not now")
    return b""


def test_only_a_cluster_that_says_so_refuses() -> None:
    with serving(refuse) as address:
        assert is_refused(address)
    for answer in (lambda request, context: b"", fail):
        with serving(answer) as address:
            assert not is_refused(address)
    with closed_port() as port:
        assert not is_refused(f"127.0.0.1:{port}")


JOIN = """
import sys
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import connected
with connected(ClusterConfig(address=sys.argv[1])):
    pass
"""


def test_a_command_without_the_token_is_told_at_once() -> None:
    with serving(refuse) as address:  # in a process of its own, since this one may have a Ray
        done = subprocess.run([sys.executable, "-c", JOIN, address], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(r"ClusterError: .*wants the token of its cluster, .*RAY_AUTH_MODE=token", last), done.stderr
