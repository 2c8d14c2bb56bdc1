"""Client: a served database from Python, `react_ray.connect(url)`; the same names as the HTTP API.

Takes sentences, images (bytes), vectors, pair_ids (int) or what the API calls a query; gives the JSON of the API. Every
refusal is a RetrievalError with the server's own sentence. async_client.py has the same with `await`.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import pyarrow as pa

from react_ray.errors import ConfigError, RetrievalError, ShardUnavailable

ARROW, JSON = "application/vnd.apache.arrow.stream", "application/json"
KEY_ENV = "REACT_RAY_KEY"  # the key where none is given
Query = Any


@dataclass(frozen=True)
class Call:
    """One request: `body` is sent as `kind`, and the answer is read by its content type."""

    method: str
    path: str
    body: bytes | None = None
    kind: str = JSON


class Calls:
    """What can be asked. `_send` sends a Call and returns what `read` makes of the answer, or a coroutine of it."""

    def _send(self, call: Call) -> Any:
        raise NotImplementedError

    def search(
        self, query: Query = None, k: int = 20, *, queries: Sequence[Query] | None = None, **options: Any
    ) -> Any:
        """options: key, filters, recall, dedup, columns, allow_partial, timeout_ms."""
        asked = {"query": as_query(query)} if queries is None else {"queries": [as_query(one) for one in queries]}
        return self._post("/v1/search", {**asked, "k": k, **options})

    def search_vectors(self, vectors_QD: np.ndarray, k: int = 20, **options: Any) -> Any:
        """vectors: float [Q, D]. Gives a pyarrow.Table of query, rank, pair_id and score.

        options: key, filters, recall, allow_partial.
        """
        path = f"/v1/search.arrow?{urlencode({'k': k, **options}, doseq=True)}"
        return self._send(Call("POST", path, arrow_bytes(vectors_QD), ARROW))

    def classes(self, classes: Sequence[Any] | None = None, *, task: str | None = None, **options: Any) -> Any:
        """classes: names, or lists of the names of a class. options: those of `recipe`, per_class, recall,
        allow_partial, timeout_ms."""
        return self._post("/v1/classes", {"classes": classes, "task": task, **options})

    def recipe(self, classes: Sequence[Any] | None = None, *, task: str | None = None, **options: Any) -> Any:
        """options: name, templates, and what changes in the recipe's section `retrieve`: key, pairs_per_class, filters,
        exclude, min_score, dedup, exclusive, prompts."""
        return self._post("/v1/recipe", {"classes": classes, "task": task, **options})

    def recall(self, n: int = 50, k: int = 10, key: str = "") -> Any:
        return self._get(f"/v1/recall?{urlencode({'n': n, 'k': k, 'key': key})}")

    def pair(self, pair_id: int) -> Any:
        return self._get(f"/v1/pairs/{int(pair_id)}")

    def image(self, pair_id: int) -> Any:
        """The bytes of the stored image."""
        return self._get(f"/v1/pairs/{int(pair_id)}/image")

    def index(self) -> Any:
        return self._get("/v1/index")

    def tasks(self) -> Any:
        return self._get("/v1/tasks")

    def _get(self, path: str) -> Any:
        return self._send(Call("GET", path))

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._send(Call("POST", path, json.dumps(body).encode()))


class Client(Calls):
    """Several threads may use one Client; each keeps a connection of its own."""

    def __init__(self, url: str, key: str = "", timeout_s: float = 60.0) -> None:
        self.url, self.headers, self.timeout_s = checked(url), headers_of(key), timeout_s
        self._local = threading.local()

    def _send(self, call: Call) -> Any:
        headers = self.headers | ({"Content-Type": call.kind} if call.body is not None else {})
        path = urlsplit(self.url).path.rstrip("/") + call.path
        for attempt in (1, 2):  # a connection that was kept may have been closed by the server
            kept = getattr(self._local, "connection", None)
            connection = kept or self._connection()
            try:
                connection.request(call.method, path, call.body, headers)
                answer = connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._local.connection = None
                if kept is not None and attempt == 1 and not isinstance(error, TimeoutError):
                    continue
                raise ShardUnavailable(
                    f"{self.url} does not answer ({type(error).__name__}: {error}); start it with `react-ray serve`"
                ) from error
            self._local.connection = connection
            return read(answer.status, answer.getheader("content-type", ""), data)
        raise AssertionError("unreachable")

    def _connection(self) -> http.client.HTTPConnection:
        place = urlsplit(self.url)
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        return kind(place.netloc, timeout=self.timeout_s)


def connect(url: str, key: str = "", timeout_s: float = 60.0, asynchronous: bool = False) -> Any:
    """A Client of what `react-ray serve` serves at this URL, or an AsyncClient, whose calls are awaited.

    key: what the server asks for; "" = that of the environment variable REACT_RAY_KEY, if it is set.
    """
    if not asynchronous:
        return Client(url, key, timeout_s)
    from react_ray.serving.async_client import AsyncClient  # aiohttp

    return AsyncClient(url, key, timeout_s)


def checked(url: str) -> str:
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise ConfigError(f"{url!r} is no URL of a server; write for example http://localhost:8000")
    return url.rstrip("/")


def headers_of(key: str) -> dict[str, str]:
    key = key or os.environ.get(KEY_ENV, "")
    return {"Authorization": f"Bearer {key}"} if key else {}


def read(status: int, kind: str, data: bytes) -> Any:
    """The answer as Python has it: JSON, a pyarrow.Table or bytes. RetrievalError if it is a refusal."""
    if status >= 400:
        try:
            said = json.loads(data)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            said = f"the server answers with status {status}; look at its log"
        raise (ShardUnavailable if status in (408, 429, 503, 504) else RetrievalError)(said)
    if kind.startswith(JSON):
        return json.loads(data)
    return pa.ipc.open_stream(io.BytesIO(data)).read_all() if kind.startswith(ARROW) else data


def as_query(query: Query) -> dict[str, Any]:
    if isinstance(query, Mapping):
        return dict(query)
    if isinstance(query, str):
        return {"text": query}
    if isinstance(query, (bytes, bytearray)):
        return {"image": base64.b64encode(query).decode()}
    if isinstance(query, (int, np.integer)) and not isinstance(query, bool):
        return {"pair_id": int(query)}
    if isinstance(query, (list, tuple, np.ndarray)) and np.asarray(query).ndim == 1:
        return {"embedding": np.asarray(query, np.float64).tolist()}
    raise ConfigError(
        f"a query is a sentence, the bytes of an image, a vector, a pair_id or a dict, not {type(query).__name__}; "
        "give one of these"
    )


def arrow_bytes(vectors_QD: np.ndarray) -> bytes:
    vectors_QD = np.asarray(vectors_QD)
    if vectors_QD.ndim != 2:
        raise ConfigError(f"vectors have shape {list(vectors_QD.shape)}; give one row per query")
    values = pa.array(vectors_QD.astype(np.float32).ravel())
    table = pa.table({"vector": pa.FixedSizeListArray.from_arrays(values, vectors_QD.shape[1])})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
