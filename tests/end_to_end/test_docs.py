"""The pages of docs/start/ do what they say: their blocks run in order, in an empty folder, as a newcomer runs them.

All commands join one Ray, which a newcomer's would each start for themselves.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from tests.support.web import Web, web_server

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLASS = re.compile(r"\b(cat|dog|car|house)\b")
NUM_PHOTOS = 300
# What no newcomer types: the web of these tests is on loopback, which a download refuses to visit.
REACT_RAY = """#!/bin/sh
case "$1" in run) set -- "$@" download.allow_private_addresses=true;; esac
exec "{python}" -m react_ray.cli "$@"
"""


# Slow: trainings of as many steps as a newcomer's.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


def follow(page: str, folder: Path) -> str:
    """Runs the blocks of a page in `folder`, consecutive ones of a language in one process; returns their output."""
    blocks = BLOCK.findall((ROOT / "docs/start" / page).read_text(encoding="utf-8"))
    assert blocks, f"{page} has no blocks"
    bin_folder = folder.with_name(f"{folder.name}.bin")
    bin_folder.mkdir(exist_ok=True)
    (bin_folder / "react-ray").write_text(REACT_RAY.format(python=sys.executable))
    (bin_folder / "react-ray").chmod(0o755)
    env = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    env["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    out = []
    for language, some in itertools.groupby(blocks, key=lambda block: block[0]):
        code = "\n".join(text for _, text in some)
        start = ["bash", "-e", "-c"] if language == "bash" else [sys.executable, "-c"]
        done = subprocess.run([*start, code], cwd=folder, env=env, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{page}: {code}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        out.append(done.stdout)
    return "\n".join(out)


@pytest.fixture(scope="module")
def animals(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of own_classes.md after its commands, and what they printed."""
    folder = tmp_path_factory.mktemp("animals")
    return folder, follow("own_classes.md", folder)


@pytest.fixture(scope="module")
def some_pairs(sample_dir: Path) -> pa.Table:
    """300 drawings of the sample, those of the pages' classes first."""
    pool = pq.read_table(sample_dir / "pool.parquet", columns=["image", "caption"])
    captions = pool["caption"].to_pylist()
    return pool.take(sorted(range(len(captions)), key=lambda row: not CLASS.search(captions[row]))[:NUM_PHOTOS])


@pytest.fixture(scope="module")
def photos(local_ray: None, some_pairs: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of own_folder.md after its commands, and what they printed."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "photos").mkdir()
    for number, row in enumerate(some_pairs.to_pylist()):
        (folder / f"photos/{number:04}.webp").write_bytes(row["image"])
        (folder / f"photos/{number:04}.txt").write_text(row["caption"], encoding="utf-8")
    return folder, follow("own_folder.md", folder)


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with web_server() as served:
        yield served


def test_own_classes_become_a_gallery_and_a_model_without_labels(animals: tuple[Path, str]) -> None:
    folder, out = animals
    run = folder / "runs/animals"
    assert "accordion" in (run / "gallery.html").read_text(encoding="utf-8")
    assert "icon of owl" in out and "add `evaluate: {datasets: {test: FILE}}`" in out
    assert (run / "model/manifest.json").exists() and (run / "report.html").exists()


def test_a_class_that_the_pool_does_not_have_is_said_to_be_missing(animals: tuple[Path, str]) -> None:
    _, out = animals
    line = next(line for line in out.splitlines() if "do not look like what was asked for" in line)
    assert "1 of 8 classes" in line and "for: accordion" in line


def test_the_page_about_python_goes_on_from_there(animals: tuple[Path, str]) -> None:
    out = follow("python.md", animals[0])
    assert "owl" in out.splitlines()[0] and "retrieved pairs" in out and "'caption'" in out


def test_a_folder_of_images_becomes_folders_of_classes_and_a_model(photos: tuple[Path, str]) -> None:
    folder, out = photos
    assert "images with captions" in out
    assert list((folder / "found/cat").glob("*.txt")) and (folder / "runs/photos/gallery.html").exists()
    assert (folder / "runs/photos/model/manifest.json").exists() and (folder / "runs/photos/report.html").exists()


def test_a_list_of_urls_is_searched_and_only_what_is_found_is_downloaded(
    web: Web, some_pairs: pa.Table, tmp_path: Path
) -> None:
    captions = some_pairs["caption"].to_pylist()
    pages = [f"/status/404?{row}" if row % 5 == 0 else f"/image/{row}.jpg?side=80" for row in range(NUM_PHOTOS)]
    urls = [web.host(row % 7) + page for row, page in enumerate(pages)]
    with open(tmp_path / "list.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("url", "caption"), *zip(urls, captions, strict=True)])
    out = follow("url_list.md", tmp_path)
    assert "http_404" in out and (tmp_path / "runs/list/gallery.html").exists()
    assert 0 < sum(web.num_requests(f"/image/{row}.jpg") > 0 for row in range(NUM_PHOTOS)) < NUM_PHOTOS
    assert (tmp_path / "runs/list/model/manifest.json").exists()


def test_published_vectors_are_searched_as_they_are(web: Web, photos: tuple[Path, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "react_ray.cli", "export", "clip-retrieval"]
    made = [str(photos[0] / "runs/photos/database/embeddings"), str(tmp_path / "vectors")]
    subprocess.run([*command, *made], check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    metadata = tmp_path / "vectors/metadata/metadata_0.parquet"
    table = pq.read_table(metadata).select(["caption", "similarity"])
    urls = [f"{web.http}/image/{row}.png?side=64" for row in range(len(table))]
    pq.write_table(table.append_column("url", pa.array(urls)), metadata)
    out = follow("published_vectors.md", tmp_path)
    assert "published vectors" in out and re.search(r"\bcat\b", out.partition("'a cat'")[2])
    assert (tmp_path / "runs/vectors/gallery.html").exists() and (tmp_path / "runs/vectors/report.html").exists()
