"""What Ray could never place is refused, not waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from react_ray.errors import ConfigError, ResourceError
from react_ray.gated.config import CustomizeConfig
from react_ray.recipe import ClusterConfig, load_recipe
from react_ray.stages import run
from react_ray.stages.training.checks import check_resources
from tests.support.small_run import small_recipe


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"num_workers": 3},
            r"customize needs 3 x 1 CPUs, and Ray has 2 CPUs and 0 GPUs, room for 2 of them; lower "
            r"customize\.num_workers or cpus_per_worker, or use a larger machine",
        ),
        ({"num_workers": 1, "cpus_per_worker": 4}, r"needs 1 x 4 CPUs, .*, room for 0 of them"),
        ({"num_workers": 1, "gpus_per_worker": 1}, r"needs 1 x 1 CPUs and 1 GPUs, .* or gpus_per_worker, or use"),
        (
            {"num_workers": 2, "watch_dataset": "held", "watch_gpus": 0.5},
            r"customize\.watch_gpus needs 1 x 0\.5 GPUs beside customize, .* or watch_gpus, or use",
        ),
    ],
)
def test_more_than_this_machine_has_is_refused(local_ray: None, changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ResourceError, match=problem):
        check_resources(ClusterConfig(), [CustomizeConfig.model_validate(changes)])


def test_what_fits_is_not_refused_nor_what_an_elastic_training_can_do_without(local_ray: None) -> None:
    for changes in (
        {"num_workers": 2, "data_workers": 4},
        {"num_workers": 8, "min_workers": 2},
        {"num_workers": 20, "cpus_per_worker": 0.1},
    ):
        check_resources(ClusterConfig(), [CustomizeConfig.model_validate(changes)])


def test_a_cluster_may_start_nodes_that_nobody_knows_yet(local_ray: None, caplog: pytest.LogCaptureFixture) -> None:
    check_resources(ClusterConfig(address="auto"), [CustomizeConfig(num_workers=3)] * 2)
    [told] = [record.getMessage() for record in caplog.records]
    assert (
        "room for 2 of them; it waits until nodes with that come: if none will, stop it and lower customize.num_workers"
        in told
    )


def test_a_run_finds_what_its_last_training_cannot_have_before_its_first_stage(local_ray: None, tmp_path: Path) -> None:
    for change, problem in (("gpus_per_worker: 1", ResourceError), ("batch_size: 63", ConfigError)):
        recipe = load_recipe(small_recipe(tmp_path), [f"arms={{fine: {{}}, not: {{customize.{change}}}}}"])
        with pytest.raises(problem, match=r"gpus_per_worker, or use a larger machine|not a multiple of 2 workers"):
            run.run(recipe)
        assert not (tmp_path / "database").exists()
