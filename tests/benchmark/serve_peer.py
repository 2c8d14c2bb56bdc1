"""What clip-retrieval's back end takes for the searches of bench_serve.py.

It has the same vectors in a mapped IVF of 8-bit codes (IVF4096,SQ8) that visits as many lists as the same recall asks
for, and the same captions in Arrow.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import httpx
import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.kinds import EmbeddingsFacts
from react_ray.vectors import from_vectors

PACKAGE = "clip-retrieval==2.45.0"
NEEDED = "flask<4 flask_restful flask_cors faiss-cpu numpy<2 pandas<3 pyarrow<16 h5py"
ALSO = "prometheus-client fsspec fire pillow tqdm"
NUM_LISTS, TRAINED, COMPARED = 4096, 200_000, 100
PROGRAM = Path(__file__).with_name("bench_serve_peer.py")


def peer_python(folder: Path) -> str:
    """A venv with the package and what its back end needs: all of its models would be gigabytes more."""
    python = folder / "bin/python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        for what in (["--no-deps", PACKAGE], [*NEEDED.split(), *ALSO.split()]):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *what], check=True)
    return str(python)


def write(folder: Path, embeddings: Artifact[EmbeddingsFacts], pairs: pa.Table, queries_QD: np.ndarray, k: int,
          recall: float) -> tuple[int, float]:  # fmt: skip
    """Writes the index and the captions. Returns the lists to visit, and the recall with them."""
    native: Any = faiss
    vectors_ND = image_vectors(embeddings)
    dim = vectors_ND.shape[1]
    index = native.index_factory(dim, f"IVF{NUM_LISTS},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors_ND[:: max(1, len(vectors_ND) // TRAINED)])
    index.add(vectors_ND)

    def found(nprobe: int) -> np.ndarray:
        index.nprobe = nprobe
        return index.search(queries_QD[:COMPARED], k)[1]

    nprobe, reached = fewest_lists(found, vectors_ND, queries_QD[:COMPARED], k, recall)
    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    faiss.write_index(index, str(folder / "image.index"))
    with pa.OSFile(str(folder / "metadata/0.arrow"), "wb") as file, pa.ipc.new_file(file, pairs.schema) as writer:
        writer.write_table(pairs)
    return nprobe, reached


def image_vectors(embeddings: Artifact[EmbeddingsFacts]) -> np.ndarray:
    """float32 [N, D], in the order of the pairs."""
    return np.concatenate([from_vectors(one["image"]).astype(np.float32) for one in embeddings.tables(["image"])])


def fewest_lists(found: Callable[[int], np.ndarray], vectors_ND: np.ndarray, queries_QD: np.ndarray, k: int,
                 recall: float) -> tuple[int, float]:  # fmt: skip
    """The lists to visit for that recall, and the recall with them. found: the rows [Q, k] of the hits with so many."""
    _, truth_QK = faiss.knn(queries_QD, vectors_ND, k, metric=faiss.METRIC_INNER_PRODUCT)
    reached = 0.0
    for lists in range(4, NUM_LISTS, 4):
        rows = zip(found(lists), truth_QK, strict=True)
        reached = float(np.mean([np.isin(one, truth).mean() for one, truth in rows]))
        if reached >= recall:
            break
    return lists, reached


@contextmanager
def listening(python: str, folder: Path) -> Iterator[str]:
    """The address of the back end, host:port."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with subprocess.Popen([python, PROGRAM, folder, str(port)], stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise SystemExit(f"the peer ended with {process.returncode}") from None
                    time.sleep(0.2)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def body(vector_D: np.ndarray, k: int) -> str:
    asked = {"embedding_input": vector_D.tolist(), "modality": "image", "num_images": k, "num_result_ids": k}
    return json.dumps(asked | {"indice_name": "made", "deduplicate": False})


def measured(address: str, queries_QD: np.ndarray, k: int, times: int, deep_k: int) -> dict[str, float]:
    connection = http.client.HTTPConnection(address, timeout=300)

    num_hits = 0

    def ask(vector_D: np.ndarray, num: int) -> float:
        nonlocal num_hits
        text, began = body(vector_D, num), time.perf_counter()
        connection.request("POST", "/knn-service", text, {"Content-Type": "application/json"})
        said = connection.getresponse().read()
        seconds = time.perf_counter() - began
        num_hits = len(json.loads(said))
        assert num_hits == num or num == deep_k, said[:300]
        return 1000 * seconds

    for number in range(10):
        ask(queries_QD[number], k)
    p50, p99 = np.quantile([ask(queries_QD[number % len(queries_QD)], k) for number in range(times)], [0.5, 0.99])
    deep = np.median([ask(queries_QD[0], deep_k) for _ in range(6)][1:])
    deep_hits = num_hits
    return {
        "peer_http_p50_ms": round(float(p50), 2),
        "peer_http_p99_ms": round(float(p99), 2),
        "peer_k10000_ms": round(float(deep), 1),
        "peer_k10000_hits": deep_hits,  # fewer where its lists, which are the same for every k, hold no more
        "peer_rps_100_clients": round(asyncio.run(requests_per_s(f"http://{address}", queries_QD, k)), 1),
    }


async def requests_per_s(url: str, queries_QD: np.ndarray, k: int, seconds: float = 10.0) -> float:
    began, done = time.perf_counter(), 0

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            answer = await client.post("/knn-service", content=body(queries_QD[number], k))
            assert len(answer.json()) == k
            done += 1

    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        await asyncio.gather(*(ask(client, number) for number in range(100)))
    return done / (time.perf_counter() - began)
