"""One process serves unless there is a cluster, or the recipe asks for several of a kind."""

from __future__ import annotations

from typing import Any

import pytest

from react_ray.stages.serve import on_ray
from tests.support.serving import serving_recipe


@pytest.mark.parametrize(
    ("serve", "wanted"),
    [({}, False), ({"min_replicas": 2}, True), ({"max_replicas": 2}, True), ({"ingress_replicas": 2}, True)],
)
def test_several_processes_of_a_kind_need_ray(
    serve: dict[str, Any], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert on_ray(serving_recipe("/nowhere", serve=serve)) == wanted


def test_a_cluster_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert on_ray(serving_recipe("/nowhere", cluster={"address": "auto"}))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert on_ray(serving_recipe("/nowhere"))
