"""recipes/url_list.yaml runs from a list of URLs to a table, by captions alone or with the images of the whole list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import react_ray as package
from react_ray.artifact import open_artifact
from react_ray.kinds import IMAGES
from tests.support.small_run import react_ray
from tests.support.url_list import misbehaving
from tests.support.web import Web, web_server

RECIPE = str(Path(package.__file__).parent / "recipes/url_list.yaml")
TINY_CLIP = Path(__file__).parents[1] / "support/tiny_clip.json"
NUM_ROWS = 200


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with web_server() as server:
        yield server


def overrides(folder: Path, urls: list[str]) -> list[str]:
    """Returns what makes the recipe small, and its servers those of the tests."""
    captions = [f"a picture of the weather, {row}" for row in range(len(urls))]
    pq.write_table(pa.table({"url": urls, "caption": captions}), folder / "list.parquet")
    return [
        f"database={folder}/database",
        f"out={folder}/run",
        f"ingest.source={folder}/list.parquet",
        "ingest.rows_per_part=50",
        "tasks={file: 'sample://tasks.json', names: [weather]}",
        f"backbone={{name: '{TINY_CLIP}', pretrained: random}}",
        "download.allow_private_addresses=true",
        "download.retries=0",
        "download.per_host_rate=0",
        "download.image_size=32",
        "download.min_image_size=0",
        "customize.epochs=8",
        "customize.last_k_layers=2",
        "evaluate.datasets={test: 'sample://test.parquet'}",
        "cluster={num_cpus: 2, object_store_gb: 0.2, threads_per_actor: 1}",
    ]


WHOLE_LIST = ["embed.images=true", "download.of=pairs", "retrieve.keys=[image, text]"]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [[], WHOLE_LIST], ids=["captions", "images"])
def test_the_recipe_for_a_list_of_urls_runs_to_its_end(web: Web, tmp_path: Path, changes: list[str]) -> None:
    ended = react_ray("run", RECIPE, *overrides(tmp_path, misbehaving(web, NUM_ROWS)), *changes)
    assert ended.returncode == 0, ended.stderr[-3000:]
    images = open_artifact(str(tmp_path / ("database" if changes else "run") / "images"), IMAGES)
    assert 0 < images.manifest.ok < images.manifest.rows <= NUM_ROWS
    assert set(json.loads((tmp_path / "run/summary.json").read_text())["tasks"]) == {"weather"}
