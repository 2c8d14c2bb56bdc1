"""A served database is used from Python, with and without await, by the same names as over HTTP."""

from __future__ import annotations

import asyncio
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import react_ray
from react_ray import open_database
from react_ray.errors import ConfigError, RetrievalError, ShardUnavailable
from react_ray.serving.client import Call, Client, arrow_bytes
from tests.support.searchable import ANIMALS, many, png, write_index, write_searchable
from tests.support.serving import listening, serving_recipe

KEY = "s3cret"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    write_searchable(f"{folder}/database", [ANIMALS + many(120), many(30, 200)], png(folder))
    write_index(f"{folder}/database", num_shards=1)
    return folder


@pytest.fixture(scope="module")
def url(place: Path) -> Iterator[str]:
    with listening(serving_recipe(f"{place}/database", serve={"max_k": 200, "max_body_mb": 1.0}), KEY) as url:
        yield url


@pytest.fixture
def client(url: str) -> Client:
    client: Client = react_ray.connect(url, key=KEY, timeout_s=300)
    return client


def ids(found: Any) -> list[int]:
    return [hit["pair_id"] for hit in found["results"][0]["hits"]]


def test_every_kind_of_query_and_every_route(client: Client, place: Path) -> None:
    database = open_database(f"{place}/database")
    horse = [hit.pair_id for hit in database.search("a horse", 9, "text")]
    assert ids(client.search("a horse", 9, key="text")) == horse
    vector_D = database.vectors([2], "text")[0]
    assert (
        ids(client.search(vector_D, 9, key="text")) == ids(client.search({"text": "a horse"}, 9, key="text")) == horse
    )
    assert ids(client.search(5, 1)) == [5] and len(client.search(queries=["a", "b"])["results"]) == 2
    image = client.image(2)
    assert image == png(place) and len(ids(client.search(image, 3))) == 3
    assert client.pair(2)["columns"]["caption"] == "a horse" and client.index()["pairs"] == 158
    [heron, _] = client.classes(["heron", ["horse", "pony"]], templates=["a {}"], pairs_per_class=5)["classes"]
    assert heron["hits"][0]["caption"] == "a heron"
    assert "horse" in client.recipe([["horse", "pony"]], exclude=[1])["yaml"]
    assert client.tasks()["own"] == ["animals"] and client.recall(n=3, k=2)["recall"] == 1


def test_vectors_in_bulk_find_what_one_by_one_finds(client: Client, place: Path) -> None:
    queries_QD = np.random.default_rng(3).standard_normal((1500, 128)).astype(np.float16)
    table = client.search_vectors(queries_QD, 7, key="image", filters=["width >= 50", "width < 90"])
    assert table.schema.names == ["query", "rank", "pair_id", "score"] and table.num_rows == 1500 * 7
    assert table.schema.metadata[b"recall"] == b"1.0" and table.schema.metadata[b"coverage"] == b"1.0"
    for row in (0, 1023, 1024, 1499):
        of_row = table.slice(7 * row, 7)
        assert set(of_row["query"].to_pylist()) == {row} and of_row["rank"].to_pylist() == list(range(7))
        one = client.search(queries_QD[row], 7, key="image", filters=["width >= 50", "width < 90"])
        assert of_row["pair_id"].to_pylist() == ids(one)


def compressed(vector: pa.Array) -> bytes:
    """Zeros become a thousandth of their size, and all their size again where they are read."""
    table, sink = pa.table({"vector": vector}), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no Arrow IPC stream"),
        (b"ARROW1\0\0 but no more", "no Arrow IPC stream"),
        (arrow_bytes(np.ones((3, 128)))[:-200], "no Arrow IPC stream"),
        (compressed(pa.FixedSizeListArray.from_arrays(np.zeros(1 << 20, np.float32), 128)), "it is compressed"),
        (compressed(pa.array(["a"] * 9999).dictionary_encode()), "it is compressed"),
        (arrow_bytes(np.ones((3, 127))), "send fixed_size_list<float32, 128>"),
        (arrow_bytes(np.full((3, 128), np.nan)), "vector 0 is null or not finite; leave it out"),
        (arrow_bytes(np.zeros((3, 128))), "vector 0 is null or not finite; leave it out"),
        (arrow_bytes(np.ones((3000, 128))), "the body is larger than 1 MB"),
    ],
)
def test_malformed_arrow_is_told_what_to_do(client: Client, body: bytes, said: str) -> None:
    with pytest.raises(RetrievalError, match=said):
        client._send(Call("POST", "/v1/search.arrow", body, "application/vnd.apache.arrow.stream"))


def test_the_servers_own_sentence_is_raised(client: Client, url: str) -> None:
    with pytest.raises(RetrievalError, match="k is at most 200 here, not 201; ask for fewer hits"):
        client.search("a", 201)
    with pytest.raises(RetrievalError, match="this server asks for its key"):
        react_ray.connect(url).search("a")
    with pytest.raises(ConfigError, match="is no URL of a server"):
        react_ray.connect("localhost:8000")
    with pytest.raises(ConfigError, match="a query is a sentence"):
        client.search(3.5)
    with pytest.raises(ShardUnavailable, match="start it with `react-ray serve`"):
        react_ray.connect("http://127.0.0.1:9").search("a")


def test_the_same_with_await(url: str, client: Client) -> None:
    async def all_of() -> list[Any]:
        async with react_ray.connect(url, key=KEY, asynchronous=True) as there:
            with pytest.raises(RetrievalError, match="ask for fewer hits"):
                await there.search("a", 201)
            return await asyncio.gather(*(there.search(text, 5) for text in ANIMALS))

    def told(found: Any) -> list[int]:
        return ids(found)

    assert list(map(told, asyncio.run(all_of()))) == [ids(client.search(text, 5)) for text in ANIMALS]


def test_a_metric_counts_what_was_answered(client: Client) -> None:
    client.search("a heron")
    said = client._get("/metrics").decode()
    process = f"{socket.gethostname()}:{os.getpid()}"
    assert f'react_ray_requests_total{{process="{process}",route="/v1/search",status="200"}}' in said
    assert f'react_ray_request_seconds_bucket{{le="+Inf",process="{process}",route="/v1/search"}}' in said
