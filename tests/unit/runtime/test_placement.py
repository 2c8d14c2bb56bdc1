"""Whether this process embeds a few images itself, and in how many threads."""

from __future__ import annotations

import pyarrow as pa
import pytest

from react_ray.manifest import Receipt
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import is_running, on_demand
from react_ray.runtime.map_parts import MapStage, Work, map_parts
from react_ray.runtime.placement import FEW_IMAGES, is_soonest_here, num_threads
from react_ray.runtime.work import ReadNothing


@pytest.mark.parametrize(
    ("config", "num_images", "here"),
    [
        (ClusterConfig(), FEW_IMAGES, True),
        (ClusterConfig(), FEW_IMAGES + 1, False),
        (ClusterConfig(gpus_per_actor=1), 1, False),
    ],
)
def test_few_images_are_embedded_here_unless_actors_have_gpus(
    config: ClusterConfig, num_images: int, here: bool
) -> None:
    with on_demand(config):
        assert is_soonest_here(config, num_images) == here
        assert not is_running(), "nobody needs Ray to find out"


def test_this_process_has_the_threads_of_all_actors() -> None:
    config = ClusterConfig(num_actors=3, threads_per_actor=4)
    assert (num_threads(config, True), num_threads(config, False)) == (12, 4)


class Counts(Work):
    def __call__(self, part: int, table: pa.Table) -> Receipt:
        self.done = [*getattr(self, "done", []), part]
        return Receipt(part, rows=1, ok=1, bytes=0, seconds=0.0, statuses={}, files={})


def test_a_stage_that_is_done_here_starts_no_ray() -> None:
    work = Counts()
    with on_demand(ClusterConfig()):
        map_parts(MapStage("count", ReadNothing(), work, here=True), [0, 2], 3)
        assert work.done == [0, 2] and not is_running()
