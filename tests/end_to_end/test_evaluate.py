"""evaluate with actors on Ray: scores and predictions are those of one process, however many actors share the work."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import ray._private.state

from react_ray.evals.labelled import IMAGES_PER_PART
from react_ray.recipe import load_recipe
from react_ray.runtime import placement
from react_ray.stages import evaluate
from tests.support.small_run import small_recipe

WRITTEN = ("scores.json", "scores.parquet", "scores/base/part-*.parquet")


@pytest.fixture
def three_parts(sample_dir: Path, tmp_path: Path) -> str:
    """A labelled set of the small run's tasks: the sample's test images, again and again."""
    table = pq.read_table(sample_dir / "test.parquet")
    table = table.filter(pc.is_in(table["task"], pa.array(["weather", "food"])))
    pq.write_table(pa.concat_tables([table] * (3 * IMAGES_PER_PART // len(table))), tmp_path / "set.parquet")
    return str(tmp_path / "set.parquet")


def evaluated(folder: Path, labelled: str, num_actors: int) -> tuple[dict[str, bytes], int]:
    """The files with the scores of the base and with its prediction of each image, and the number of new actors."""
    path = small_recipe(folder, arms={}, evaluate={"datasets": {"test": labelled}, "pixel_pairs": 0})
    recipe = load_recipe(path, [f"cluster.num_actors={num_actors}", f"cluster.min_actors={num_actors}"])
    before = actors()
    evaluate.run(recipe)
    run = Path(recipe.out)
    files = sorted(path for pattern in WRITTEN for path in run.glob(pattern))
    return {str(path.relative_to(run)): path.read_bytes() for path in files}, len(actors() - before)


def actors() -> set[str]:
    """The ids of all actors that this Ray has had for the parts of stages."""
    return {key for key, actor in ray._private.state.actors().items() if "MapWorker" in actor["ActorClassName"]}


def test_the_scores_and_the_prediction_of_each_image_do_not_depend_on_the_number_of_actors(
    three_parts: str, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, none = evaluated(tmp_path / "here", three_parts, 1)
    assert none == 0 and len(here) == 2 + 3
    monkeypatch.setattr(placement, "FEW_IMAGES", 0)  # so that it pays to start actors that embed
    found, started = evaluated(tmp_path / "actors", three_parts, 2)
    assert started == 2 and found == here
