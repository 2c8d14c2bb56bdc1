"""A database is served by Ray Serve: as in one process, through deaths of replicas, and following its changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import yaml

import react_ray
from react_ray import open_database
from react_ray.errors import ClusterError, ConfigError
from react_ray.index.deleted import delete_pairs
from react_ray.recipe import Recipe
from react_ray.serving.client import Client
from react_ray.stages.serve import check_open, is_loopback, served
from tests.support.ports import free_port
from tests.support.ray_serve import processes_of
from tests.support.searchable import ANIMALS, many, png, write_index, write_searchable
from tests.support.serving import serving_recipe

PATIENCE_S = 300.0  # as long as the server's own: on a busy machine a process takes long to come back


def recipe_of(folder: Path, **fields: Any) -> Recipe:
    uri = f"{folder}/database"
    write_searchable(uri, [ANIMALS + many(120), many(250, 200), many(7, 500)], png(folder))
    write_index(uri, num_shards=2)
    section = {"port": 0, "reload_s": 0.2, "group_memory_gb": 2.2e-4, **fields}  # half of the four shards
    return serving_recipe(uri, serve=section, cluster={"num_cpus": 2, "object_store_gb": 0.2})


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return recipe_of(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def client(local_ray: None, recipe: Recipe) -> Iterator[Client]:
    with served(recipe) as url:
        yield react_ray.connect(url, timeout_s=PATIENCE_S)


def ids(found: Any) -> list[int]:
    return [hit["pair_id"] for hit in found["results"][0]["hits"]]


def test_two_groups_answer_what_the_database_answers(client: Client, recipe: Recipe) -> None:
    database = open_database(recipe.database)
    for key in ("text", "image"):
        hits = database.search("a heron", 20, key)
        found = client.search("a heron", 20, key=key)
        assert [(one["pair_id"], one["score"]) for one in found["results"][0]["hits"]] == [
            (hit.pair_id, hit.score) for hit in hits
        ]
        assert found["coverage"] == 1 and found["recall"] == 1
    groups = client.index()["groups"]
    assert [(one["shards"], one["replicas"]) for one in groups] == [(2, 1)] * 2
    assert client._get("/readyz")["status"] == "ready" and b"react_ray_requests" in client._get("/metrics")
    filtered = client.search("a heron", 5, key="text", filters=["width >= 60"])
    assert all(pair % 100 >= 60 for pair in ids(filtered))


def test_questions_and_answers_of_more_than_four_megabytes_arrive(client: Client, recipe: Recipe) -> None:
    """More than one message between processes takes."""
    queries_QD = np.random.default_rng(0).standard_normal((1100, 128)).astype(np.float32)
    found = client.search_vectors(queries_QD, 385, key="text")
    assert found.num_rows == 1100 * 385
    for row in (0, 1023, 1099):
        hits = open_database(recipe.database).search(queries_QD[row], 385, "text")
        of_row = found.slice(row * 385, 385)
        assert of_row["query"].to_pylist() == [row] * 385
        assert of_row["pair_id"].to_pylist() == [hit.pair_id for hit in hits]
    others = list(range(1 << 40, (1 << 40) + 600_000))
    asked = {"templates": ["a {}"], "key": "text", "pairs_per_class": 4}
    [first] = client.classes(["heron"], **asked)["classes"]
    assert client.classes(["heron"], **asked, exclude=others)["classes"] == [first]
    [without] = client.classes(["heron"], **asked, exclude=[*others, first["hits"][0]["pair_id"]])["classes"]
    assert [hit["pair_id"] for hit in without["hits"][:3]] == [hit["pair_id"] for hit in first["hits"][1:4]]


def test_a_search_outlives_a_replica_and_follows_a_deletion(client: Client, recipe: Recipe) -> None:
    before = ids(client.search("a heron", 20, key="text"))
    [replica] = processes_of("group-0")
    replica.kill()
    assert ids(client.search("a heron", 20, key="text")) == before  # asked again of the replica that follows
    delete_pairs(recipe.database, np.array(before[:1]))
    while before[0] in (now := ids(client.search("a heron", 20, key="text"))):
        pass
    assert now[:19] == before[1:]


@contextmanager
def command(folder: Path, recipe: Recipe, port: int, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True)))
    words = [sys.executable, "-m", "react_ray.cli", "serve", f"{folder}/recipe.yaml", "--port", str(port)]
    env = os.environ | {"OMP_NUM_THREADS": "1"} | env
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env) as run:
        assert run.stderr is not None
        said = next(line for line in run.stderr if line.startswith("serving "))
        try:
            yield run, said.partition(" at ")[2].partition(" ")[0]
        except BaseException:
            run.kill()
            raise


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    with command(tmp_path, recipe_of(tmp_path), 0) as (run, url):
        assert len(ids(react_ray.connect(url, timeout_s=PATIENCE_S).search("a heron", 3))) == 3
        assert psutil.Process(run.pid).children() == [], "one process answers, without Ray"
        run.send_signal(signal.SIGINT)
        assert run.stderr is not None
        rest = run.stderr.read().splitlines()
    link = f"what the classes of animals retrieve: {url}/#classes?task=animals"
    assert run.returncode == 130 and rest == [link, "serving has ended"]


def test_a_killed_command_leaves_nothing_and_can_be_started_again(local_ray: None, tmp_path: Path) -> None:
    recipe, port, address = recipe_of(tmp_path), free_port(), ray.get_runtime_context().gcs_address
    others, before = set(processes_of("group-0")), set[psutil.Process]()
    for _ in range(2):
        with command(tmp_path, recipe, port, RAY_ADDRESS=address) as (run, url):
            assert len(ids(react_ray.connect(url, timeout_s=PATIENCE_S).search("a heron", 3))) == 3
            assert not any(process.is_running() for process in before)
            before = set(processes_of("group-0")) - others
            assert len(before) == 1
            run.kill()
    assert psutil.wait_procs(before, PATIENCE_S)[1] == []
    assert set(processes_of("group-0")) == others, "another command's process goes on"


@pytest.mark.slow
def test_a_damaged_shard_is_named(local_ray: None, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, min_replicas=2)
    shard = Path(recipe.database, "index/image-00000.faiss")
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ClusterError, match=rf"did not start: .*{shard} has a wrong checksum"), served(recipe):
        pass


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("e.org", False)],
)
def test_others_are_let_in_with_a_key_or_if_it_is_asked_for(
    host: str, loopback: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert is_loopback(host) == loopback
    open_to_all = serving_recipe(str(tmp_path), serve={"host": host})
    with_key = serving_recipe(str(tmp_path), serve={"host": host, "api_key_env": "A_KEY"})
    check_open(open_to_all, insecure=True)
    monkeypatch.setenv("A_KEY", "secret")
    check_open(with_key, insecure=False)
    monkeypatch.delenv("A_KEY")
    if not loopback:
        with pytest.raises(ConfigError, match=r"lets others in, and no key is asked for; set .* or add --insecure"):
            check_open(open_to_all, insecure=False)
    with pytest.raises(ConfigError, match=r"serve\.api_key_env=A_KEY, and this variable is not set; set it"):
        check_open(with_key, insecure=True)
