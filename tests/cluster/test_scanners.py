"""An exact search whose actors are killed in the middle of a pass finds what an undisturbed one finds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from react_ray.artifact import Artifact, open_artifact
from react_ray.kinds import EMBEDDINGS
from react_ray.manifest import part_name
from react_ray.recipe import ClusterConfig
from react_ray.stages.retrieval.scanners import Scanners
from react_ray.storage.local import LocalStorage
from tests.support.held_process import HeldProcess
from tests.support.three_nodes import cluster_of
from tests.support.vector_database import clustered, write_database

PARTS = 6


class HoldsReader(LocalStorage):
    """Who reads the last part but one is held."""

    def __init__(self, uri: str, held: HeldProcess) -> None:
        super().__init__(uri)
        self.held = held

    def parquet(self, path: str) -> pq.ParquetFile:
        if path.startswith(part_name(PARTS - 2)):
            self.held.pass_or_stay()
        return super().parquet(path)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[None]:
    with cluster_of("any", "any"):
        yield


@pytest.mark.parametrize(("min_searchers", "by_class"), [(1, False), (2, True)])
def test_an_actor_that_is_killed_in_the_middle_of_a_pass_changes_no_hit(
    tmp_path: Path, two_nodes: None, min_searchers: int, by_class: bool
) -> None:
    """The other one takes over its parts, or waits for a third."""
    write_database(f"{tmp_path}/database", PARTS, 200)
    embeddings = open_artifact(f"{tmp_path}/database/embeddings", EMBEDDINGS)
    held = HeldProcess(tmp_path / "held")
    disturbed = Artifact(HoldsReader(embeddings.uri, held), embeddings.kind, embeddings.manifest)
    asked, deleted = clustered(30, 16, seed=99, noise=0.9).astype(np.float32), np.arange(0, 200, 7)
    cluster = ClusterConfig(num_searchers=2, min_searchers=min_searchers)

    def hits(scanners: Scanners) -> Any:
        if by_class:
            return scanners.search_classes("image", asked, np.arange(30) // 4, 40)
        return scanners.search("image", asked, 40)

    with Scanners(embeddings, cluster, deleted, here=True) as undisturbed:
        want = hits(undisturbed)
    held.arm()
    with ThreadPoolExecutor(1) as pool, Scanners(disturbed, cluster, deleted) as scanners:
        searching = pool.submit(hits, scanners)
        held.kill()
        found = searching.result()
    for column in fields(want):
        np.testing.assert_array_equal(getattr(found, column.name), getattr(want, column.name))
