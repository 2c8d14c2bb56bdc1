"""front: an ASGI application listens in a thread of this process.

Serve's own proxy costs a request with a body two hops more, several milliseconds, so a command that serves on its own
machine takes requests itself. On a cluster, proxies and ingress replicas on several nodes take them.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from react_ray.errors import ClusterError

ENDING_S = 5  # for requests that are being answered
LOOK_S = 0.02


@contextmanager
def front(app: Any, host: str, port: int) -> Iterator[int]:
    """Yields the port, when the application has started. port: 0 = one that is free. ClusterError if nothing can listen
    there, or the application does not start."""
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ClusterError(f"nothing can listen at {host}:{port} ({error}); set serve.port to another") from error
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=ENDING_S))
    thread = threading.Thread(target=server.run, args=([listening],), name="front", daemon=True)
    with listening:
        thread.start()
        try:
            while not server.started:
                thread.join(LOOK_S)
                if not thread.is_alive():
                    raise ClusterError("the server did not start, for the reason above; mend it and serve again")
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
