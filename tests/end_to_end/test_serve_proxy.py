"""Behind the proxy of Ray Serve: a client that hangs up ends its search everywhere, and several processes take
requests."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
import ray.util
from ray import serve
from ray.serve.config import HTTPOptions

import react_ray
from react_ray import open_database
from react_ray.cancellation import Cancelled, stop_if_cancelled
from react_ray.errors import ClusterError
from react_ray.recipe import Recipe
from react_ray.serving.groups import Asked
from react_ray.stages.serve import served
from react_ray.stages.serving.application import NAME, Ingress, group_name
from react_ray.stages.serving.by_ray import QUIET, _free_port
from react_ray.stages.serving.group_replica import GroupReplica
from react_ray.stages.serving.keeper import OF_SERVE, SPACE
from tests.support.ray_serve import num_running
from tests.support.searchable import ANIMALS, write_searchable
from tests.support.serving import serving_recipe

PATIENCE_S = 120.0
BEGUN, ENDED = "begun", "ended"


class Endless(GroupReplica):
    """Searches as long as somebody waits for it, and writes of it into pipes beside the database."""

    def answer(self, asked: Asked) -> None:
        self._says(BEGUN)
        try:
            while True:
                stop_if_cancelled()
        except Cancelled:
            self._says(ENDED)
            raise

    def _says(self, name: str) -> None:
        Path(self.group.uri).with_name(name).write_text(name)


class Pipe:
    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._file = os.open(path, os.O_RDWR)

    def hears(self) -> str:
        """What is said next; empty if nothing is for a long time."""
        there, _, _ = select.select([self._file], [], [], PATIENCE_S)
        return os.read(self._file, 100).decode() if there else ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    write_searchable(f"{folder}/database", [ANIMALS])
    return folder


@pytest.fixture(scope="module")
def port(local_ray: None, folder: Path) -> Iterator[int]:
    recipe = serving_recipe(f"{folder}/database")
    options = {"ray_actor_options": {"num_cpus": 0}}
    group = serve.deployment(Endless).options(name=group_name(0), **options)
    arguments = recipe.database, 0, 1, 2, 60.0, f"{folder}/cache", 1 << 20
    found = _free_port("127.0.0.1")
    serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(port=found), logging_config=QUIET)
    app = Ingress.options(**options).bind(recipe.yaml(), False, group.bind(*arguments))
    serve.run(app, name=NAME, logging_config=QUIET)
    yield found
    serve.shutdown()


def test_a_search_ends_when_its_client_hangs_up(port: int, folder: Path) -> None:
    begun, ended = Pipe(folder / BEGUN), Pipe(folder / ENDED)
    for num_queries in (1, 3):
        connection = HTTPConnection("127.0.0.1", port)
        body = {"queries": [{"text": text} for text in ANIMALS[:num_queries]], "k": 3, "key": "text"}
        connection.request("POST", "/v1/search", json.dumps(body), {"Content-Type": "application/json"})
        assert begun.hears() == BEGUN
        connection.close()
        assert ended.hears() == ENDED


def test_a_second_application_is_refused(folder: Path, port: int) -> None:
    said = r"did not start: .*is being used by application \"react-ray\".*; mend what this names"
    with pytest.raises(ClusterError, match=said), served(two_ingresses(folder, port)):
        pass
    assert serve.status().applications.keys() == {NAME}


def test_another_port_than_that_of_the_proxy_is_refused_whoever_listens_there(folder: Path, port: int) -> None:
    serve.delete(NAME)
    with (
        served(serving_recipe(f"{folder}/database", serve={"port": 0, "max_replicas": 2})) as url,
        pytest.raises(ClusterError, match=r"does not answer at .* \(something else does\); set serve\.port to that"),
        served(two_ingresses(folder, int(url.rpartition(":")[2]))),
    ):
        pass


def test_several_processes_take_requests_beside_what_others_have_started(folder: Path, port: int) -> None:
    with served(two_ingresses(folder, port)) as url:
        assert (num_running("Ingress"), num_running("group-0")) == (2, 1)
        hits = react_ray.connect(url).search("a heron", 20, key="text")["results"][0]["hits"]
        expected = open_database(f"{folder}/database").search("a heron", 20, "text")
        assert [(hit["pair_id"], hit["score"]) for hit in hits] == [(hit.pair_id, hit.score) for hit in expected]
        said = "react-ray-served is served on this cluster already; set `name` to another"
        with pytest.raises(ClusterError, match=said), served(two_ingresses(folder, port)):
            pass
        assert react_ray.connect(url).search("a heron", 3, key="text")["coverage"] == 1
    while serve.status().applications:
        pass
    socket.create_connection(("127.0.0.1", port)).close()


def test_serve_ends_with_the_last_command_if_one_of_them_has_started_it(folder: Path, port: int) -> None:
    serve.shutdown()
    first, second = (
        serving_recipe(f"{folder}/database", name=name, serve={"port": 0, "max_replicas": 2}) for name in ("a", "b")
    )
    with served(first):
        with served(second):
            assert len(serve.status().applications) == 2
        while len(serve.status().applications) > 1:
            pass
    assert not [one for one in ray.util.list_named_actors(all_namespaces=True) if one["namespace"] in (SPACE, OF_SERVE)]


def two_ingresses(folder: Path, port: int) -> Recipe:
    return serving_recipe(f"{folder}/database", serve={"port": port, "ingress_replicas": 2})
