"""The memory of a search follows from how many searchers share the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from react_ray.planning.plan import plan_job
from react_ray.recipe import load_recipe
from tests.support.small_run import small_recipe


def test_a_node_of_a_cluster_must_hold_the_part_of_an_index_that_the_fewest_searchers_leave_it(tmp_path: Path) -> None:
    def plan(**cluster: Any) -> tuple[float, list[str]]:
        index = {"kind": "flat", "num_shards": 3}
        planned = plan_job(load_recipe(small_recipe(tmp_path, index=index, cluster=cluster)), quick=True)
        [retrieve] = [stage for stage in planned.stages if stage.stage == "retrieve"]
        return retrieve.memory_gb or 0, planned.problems

    here, alone, two, many = (
        plan(min_searchers=2)[0],
        plan(roles=True)[0],
        plan(roles=True, min_searchers=2)[0],
        plan(roles=True, min_searchers=8, num_searchers=8)[0],
    )
    shard = 400 * (4 * 16 + 8) * 2 / 2**30  # of both keys
    assert here == alone == pytest.approx(two + shard, abs=1e-9) == pytest.approx(many + 2 * shard, abs=1e-9)
    small = plan(roles=True, memory_gb=0.1)[1]
    assert [line.split()[0] for line in small] == ["retrieve"] and "raise cluster.min_searchers" in small[0]
