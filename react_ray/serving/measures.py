"""Measures: what GET /metrics says to Prometheus of the requests that this process has answered."""

from __future__ import annotations

import os
import socket
import time
from functools import partial
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
ROUTES = ("search", "search.arrow", "classes", "recipe", "tasks", "recall", "pairs", "index")


class Measures:
    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        of: Any = {"namespace": "react_ray", "registry": self._registry}
        requests = Counter("requests", "Requests by route and status.", ["process", "route", "status"], **of)
        seconds = Histogram("request_seconds", "Time to answer.", ["process", "route"], buckets=SECONDS, **of)
        in_flight = Gauge("requests_in_flight", "Requests that are being answered.", ["process"], **of)
        # Behind a proxy each look at /metrics may reach another process: without its name, counts would seem to fall.
        process = f"{socket.gethostname()}:{os.getpid()}"
        self._requests, self._seconds = partial(requests.labels, process), partial(seconds.labels, process)
        self.in_flight = in_flight.labels(process)

    def answered(self, path: str, status: int, began: float) -> None:
        """began: of time.monotonic()."""
        route = route_of(path)
        self._requests(route, str(status)).inc()
        self._seconds(route).observe(time.monotonic() - began)

    def text(self) -> bytes:
        return generate_latest(self._registry)


def route_of(path: str) -> str:
    """A few names, whatever paths strangers ask for."""
    first = path.removeprefix("/v1/").partition("/")[0]
    return f"/v1/{first}" if path.startswith("/v1/") and first in ROUTES else "other"
