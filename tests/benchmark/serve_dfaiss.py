"""What distributed-faiss takes for the searches of bench_serve.py.

Each of its servers has a share of the same vectors in an IVF of 8-bit codes, and all of them together have as many
lists as serve_peer.py and visit as many as the same recall asks for. The metadata of a vector are its number, URL and
caption. Its own client asks all servers and merges. It is not on PyPI; a clone is used where it is.

    python -m tests.benchmark.serve_dfaiss FOLDER RANK STORAGE SOCKET

is one server, which answers one client on a socket that the caller listens on: its own way to listen is open to every
network, and whoever reaches it runs code there (it unpickles what it is sent).
"""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.kinds import EmbeddingsFacts
from tests.benchmark.quantiles import quantiles
from tests.benchmark.serve_peer import COMPARED, NUM_LISTS, TRAINED, fewest_lists, image_vectors

CLONED = "https://github.com/facebookresearch/distributed-faiss"
PACKAGE, NAME, ROWS_PER_BATCH = "distributed_faiss", "made", 5_000


def is_clone(folder: str) -> bool:
    return Path(folder, PACKAGE, "server.py").is_file()


@contextmanager
def listening(folder: str, num_servers: int) -> Iterator[Any]:
    """Its `IndexClient`, connected to so many servers on this machine, which share its cores."""
    threads = max(1, (os.cpu_count() or 1) // num_servers)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with ExitStack() as stack:
        storage = stack.enter_context(tempfile.TemporaryDirectory())
        ports = []
        for rank in range(num_servers):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                ports.append(listener.getsockname()[1])
                given = [str(Path(folder).absolute()), str(rank), storage, str(listener.fileno())]
                process = subprocess.Popen(
                    [sys.executable, "-m", __name__, *given],
                    cwd=Path(__file__).parents[2],
                    env=environment,
                    stderr=subprocess.DEVNULL,  # it logs each call
                    pass_fds=[listener.fileno()],
                )
            stack.enter_context(process)
            stack.callback(process.terminate)
        servers = Path(storage, "servers.txt")
        servers.write_text("\n".join([str(num_servers), *(f"127.0.0.1,{port}" for port in ports)]))
        client = imported(folder, "client").IndexClient(str(servers))
        stack.callback(client.close)
        yield client


def write(client: Any, embeddings: Artifact[EmbeddingsFacts], pairs: pa.Table, queries_QD: np.ndarray, k: int,
          recall: float) -> dict[str, float]:  # fmt: skip
    """Sends the vectors and their metadata, trains, and sets the lists to visit, which all servers share."""
    vectors_ND = image_vectors(embeddings)
    num, dim = vectors_ND.shape
    config = importlib.import_module(f"{PACKAGE}.index_cfg").IndexCfg(
        faiss_factory="IVF{centroids},SQ8",
        dim=dim,
        centroids=NUM_LISTS // client.get_num_servers(),
        metric="dot",
        train_ratio=min(1.0, TRAINED / num),
    )
    client.create_index(NAME, config)
    metadata = list(zip(range(num), *(column.to_pylist() for column in pairs.columns), strict=True))
    for start in range(0, num, ROWS_PER_BATCH):
        rows = slice(start, start + ROWS_PER_BATCH)
        client.add_index_data(NAME, vectors_ND[rows], metadata[rows])
    client.sync_train(NAME)
    while client.get_state(NAME).name != "TRAINED":  # vectors are added in a thread; its README asks so too
        time.sleep(0.2)
    assert client.get_ntotal(NAME) == num

    def found(lists: int) -> np.ndarray:
        client.set_nprobe(NAME, max(1, lists // client.get_num_servers()))
        _, metadata_QK = client.search(queries_QD[:COMPARED], k, NAME)
        return np.array([[one[0] if one else -1 for one in row] for row in metadata_QK])

    lists, reached = fewest_lists(found, vectors_ND, queries_QD[:COMPARED], k, recall)
    return {"dfaiss_lists": lists, "dfaiss_recall": round(reached, 3)}


def measured(client: Any, queries_QD: np.ndarray, k: int, times: int, deep_k: int) -> dict[str, float]:
    p50, p99 = quantiles(lambda number: client.search(queries_QD[number, None], k, NAME), times, len(queries_QD))
    deep, _ = quantiles(lambda number: client.search(queries_QD[:1], deep_k, NAME), 20, 1)
    _, [deep_hits] = client.search(queries_QD[:1], deep_k, NAME)
    batched, _ = quantiles(lambda number: client.search(queries_QD, k, NAME), 10, 1)
    return {
        "dfaiss_p50_ms": p50,
        "dfaiss_p99_ms": p99,
        "dfaiss_k10000_ms": deep,
        "dfaiss_k10000_hits": sum(one is not None for one in deep_hits),  # as many as the lists hold
        "dfaiss_batched_per_s": round(1000 * len(queries_QD) / batched, 1),
    }


def serve(folder: str, rank: int, storage: str, listener: socket.socket) -> None:
    """Answers one client, until it hangs up."""
    server = imported(folder, "server").IndexServer(rank, storage)
    with listener:
        connection, _ = listener.accept()
    server.exec_loop_blocking(connection)


def imported(folder: str, module: str) -> Any:
    sys.path.append(folder)
    return importlib.import_module(f"{PACKAGE}.{module}")


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3], socket.socket(fileno=int(sys.argv[4])))
