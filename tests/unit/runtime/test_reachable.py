"""What a run would need of others is asked for within seconds, and nothing is left behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from react_ray.recipe import load_recipe
from react_ray.runtime.doctor import examine
from react_ray.runtime.finding import Finding
from react_ray.runtime.reachable import _bounded, inputs, place, ray_cluster
from react_ray.storage import Storage
from tests.support.ports import closed_port


def test_a_cluster_is_asked_whether_it_is_there() -> None:
    with closed_port() as port:
        assert next(ray_cluster(f"127.0.0.1:{port}")).state == "problem"
    with socket.create_server(("127.0.0.1", 0)) as server:
        [found, *_] = ray_cluster(f"ray://127.0.0.1:{server.getsockname()[1]}")
    assert found.state == "ok"


def test_a_local_ray_needs_a_short_folder_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert next(ray_cluster("")).state == "ok"
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 20)))
    assert "too long for its sockets" in next(ray_cluster("")).said


def test_places_are_looked_at_and_not_made(tmp_path: Path) -> None:
    assert place("out", str(tmp_path / "a/b/c")).state in ("ok", "warning")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert place("out", str(tmp_path / "file/run")).said == f"{tmp_path}/file cannot be written"
    assert place("out", "/proc/self/run").state == "problem"


def test_a_bucket_that_is_there_and_one_that_is_not(s3_place: Storage) -> None:
    assert place("out", s3_place.uri) == Finding("out", "ok", f"{s3_place.uri} can be written")
    assert s3_place.list() == []
    missing = place("out", "s3://no-such-bucket/run")
    assert missing.state == "problem" and "cannot write s3://no-such-bucket/run" in missing.said
    assert "check the bucket" in missing.said


def test_what_a_recipe_reads_from_s3_is_asked_for(s3_place: Storage, tmp_path: Path) -> None:
    values = {
        "backbone": {"name": "ViT-B-32", "pretrained": "openai"},
        "ingest": {"source": f"{s3_place.uri}/pairs"},
        "tasks": {"class_names": ["heron"]},
        "evaluate": {"datasets": {"test": "s3://no-such-bucket/test.parquet"}},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(values))
    recipe = load_recipe(str(tmp_path / "r.yaml"), [f"out={tmp_path}/run"])
    found = {finding.state: finding.said for finding in inputs(recipe)}
    assert found["ok"] == f"{'/'.join(s3_place.uri.split('/')[:3])} answers to these credentials"
    assert "s3://no-such-bucket" in found["problem"]
    assert [one.what for one in examine(recipe)][-4:] == ["out", "database", "s3", "s3"]


def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    server = socket.create_server(("127.0.0.1", 0))  # accepts, and never answers
    with server:
        connection = socket.create_connection(server.getsockname())
        assert _bounded(lambda: connection.recv(1), 0.1) == "no answer within 0.1 s"
        connection.close()
