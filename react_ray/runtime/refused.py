"""Asks a cluster in one request whether it would refuse this process for want of its token.

Ray itself repeats the refused request for minutes, and its Python side never learns why.
"""

from __future__ import annotations

import grpc
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # the first request of every process that joins
ANSWER_S = 10.0


def is_refused(address: str) -> bool:
    """address: host:port of the GCS. False if it answers, and also if it does not answer at all: Ray says so itself."""
    shown = AuthenticationTokenLoader.instance().get_token_for_http_header()  # empty unless RAY_AUTH_MODE=token
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(CLUSTER_ID)(
                b"", timeout=ANSWER_S, metadata=[(name.lower(), value) for name, value in shown.items()]
            )
        except grpc.RpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAUTHENTICATED)
    return False
