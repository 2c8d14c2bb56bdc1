"""show: whatever lies at a URI is described, and what was retrieved becomes a page that is whole or not there."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from react_ray.cli import main
from react_ray.manifest import MANIFEST
from react_ray.storage import Storage, join
from tests.support.artifacts import IMAGES, begin, finished, table
from tests.support.html_page import Page
from tests.support.retrieved import write_queries, write_retrieved, write_run

RECIPE = "name: herons\ndatabase: {0}/database\nout: {0}/run\nbackbone: {{name: ViT-B-32}}\ningest: {{source: none}}\n"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr without the progress."""
    code = 0
    try:
        main(["show", *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, "".join(line for line in err.splitlines(keepends=True) if not line.startswith("show "))


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """What a full disk does to a write, without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_run_is_listed_and_its_gallery_is_written(place: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(place)
    write_retrieved(join(place.uri, "arms/other"), num_parts=1)
    code, out, err = shown(capsys, place.uri)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["retrieved", "retrieved", "2/2", "12", "12"] in [line[:5] for line in lines]
    assert ["images", "images", "2/2", "12", "10"] in [line[:5] for line in lines]
    assert f"gallery of 5 classes: {place.uri}/gallery.html" in out
    assert f"arm other retrieves for itself: react-ray show {place.uri} --arm other" in out
    page = Page(place.read("gallery.html").decode())
    assert len(page.of("section", "entry")) == 5 and "far away" in page.text


def test_the_gallery_of_an_arm_lies_in_its_folder(disk_place: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    write_queries(disk_place.uri)
    write_retrieved(join(disk_place.uri, "arms/other"))
    (Path(disk_place.uri) / "recipe.yaml").write_text("name: herons\ndatabase: d\narms: {other: {}, plain: {}}\n")
    for arguments in (
        (disk_place.uri,),
        (disk_place.uri, "--arm", "other"),
        (f"{disk_place.uri}/arms/other/retrieved",),
    ):
        code, out, _ = shown(capsys, *arguments)
        assert code == 0 and f"gallery of 5 classes: {disk_place.uri}/arms/other/gallery.html" in out
    assert "herons, arm other" in disk_place.read("arms/other/gallery.html").decode()
    code, _, err = shown(capsys, disk_place.uri, "--arm", "gone")
    assert (code, err) == (2, f"error: --arm gone: {disk_place.uri} has other, plain; name one of its arms\n")


def test_a_recipe_shows_its_run_and_its_database(
    disk_place: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(disk_place.uri))
    code, out, err = shown(capsys, str(recipe))
    assert (code, out) == (2, "") and "neither its run" in err and err.endswith(f"run `react-ray run {recipe}` first\n")
    finished(disk_place.at("database"))
    write_run(disk_place.at("run"))
    code, out, _ = shown(capsys, str(recipe))
    assert code == 0 and f"{disk_place.uri}/database: artifacts" in out and f"{disk_place.uri}/run/gallery.html" in out
    code, out, _ = shown(capsys, str(recipe), f"out={disk_place.uri}/other")
    assert code == 0 and "gallery" not in out
    _, out, _ = shown(capsys, str(recipe), f"database={disk_place.uri}/run/database", "--json")
    assert json.loads(out)["uri"] == f"{disk_place.uri}/run"
    _, out, _ = shown(capsys, str(recipe), "--json")
    assert [value["uri"].rpartition("/")[2] for value in json.loads(out)] == ["run", "database"]


def test_json_is_one_value_and_writes_nothing(disk_place: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(disk_place)
    before = disk_place.list()
    code, out, err = shown(capsys, disk_place.uri, "--json")
    found = {one["path"]: one for one in json.loads(out)["artifacts"]}
    assert (code, err) == (0, "") and found["images"]["rows"] == 12 and found["queries"]["finished"] is True
    _, out, _ = shown(capsys, f"{disk_place.uri}/images", "--json", "--rows", "1")
    columns = {column["name"]: column for column in json.loads(out)["columns"]}
    assert columns["image"]["first"] == ["jpg 300x200, 6.0 kB"]
    assert disk_place.list() == before


def test_a_database_that_grows_shows_how_far_it_is(place: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    begin(place, IMAGES, pairs=finished(place)).commit(1, table(1), 1.0)
    code, out, _ = shown(capsys, place.uri)
    assert code == 0 and "gallery" not in out and "not finished: images" in out
    assert ["images", "images", "1/3"] in [line.split()[:3] for line in out.splitlines()]
    assert ["pairs", "pairs", "3/3", "153", "121"] in [line.split()[:5] for line in out.splitlines()]


def test_one_damaged_artifact_does_not_hide_the_others(disk_place: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    begin(disk_place, IMAGES, pairs=finished(disk_place))
    disk_place.write(f"pairs/{MANIFEST}", b"{")
    code, out, _ = shown(capsys, disk_place.uri)
    assert code == 1 and "images" in out
    [problem] = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert f"pairs/{MANIFEST} is not JSON" in problem and "delete" in problem
    code, out, err = shown(capsys, f"{disk_place.uri}/pairs")
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1


def test_a_retrieval_that_is_damaged_is_listed_and_has_no_gallery(
    disk_place: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(disk_place)
    disk_place.write("selection.json", b"[")
    code, out, err = shown(capsys, disk_place.uri)
    assert code == 2 and "retrieved" in out and "selection.json is not JSON" in err and err.count("\n") == 1
    disk_place.write(f"retrieved/{MANIFEST}", b"[")
    code, out, err = shown(capsys, disk_place.uri)
    assert (code, err) == (1, "") and "problem: " in out and "gallery" not in out
    assert "gallery.html" not in disk_place.list()


def test_what_cannot_be_meant_is_one_line(
    disk_place: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    finished(disk_place)
    disk_place.write("notes/a.txt", b"x")
    for arguments, said in {
        (str(empty),): "nothing here; name an artifact, a database, the folder of a run, or a recipe",
        (str(tmp_path / "gone"),): "nothing here",
        (f"{disk_place.uri}/notes",): "no artifact here; name an artifact",
        (f"{disk_place.uri}/pairs/{MANIFEST}",): "is a file; name the folder",
        (str(tmp_path / "gone.yaml"),): "cannot read",
        ("ftp://host/x",): "unknown scheme",
        (f"{disk_place.uri}/pairs", "seed=1"): "fields are of a recipe",
        (f"{disk_place.uri}/pairs", "--arm", "x"): "is one artifact; name the run that has the arm",
        (f"{disk_place.uri}/pairs", "--out", str(tmp_path / "g.html")): "has no retrieved pairs to make a gallery of",
    }.items():
        code, out, err = shown(capsys, *arguments)
        assert (code, out) == (2, "") and said in err and err.count("\n") == 1, (arguments, err)


def test_a_gallery_is_not_written_into_the_package(disk_place: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = shown(capsys, write_run(disk_place), "--out", "sample://gallery.html")
    assert code == 2 and err.count("\n") == 1 and err.endswith("name a folder of your own\n")


def test_a_full_disk_leaves_no_half_page(
    disk_place: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(disk_place)
    place = tmp_path / "pages"
    with largest_file(5_000):
        code, _, err = shown(capsys, disk_place.uri, "--out", str(place / "g.html"))
    assert code == 2 and list(place.iterdir()) == []
    assert err.startswith(f"error: cannot write {place}/g.html: File too large; make room there; or name another file")
    shown(capsys, disk_place.uri, "--out", str(place / "g.html"))
    whole = (place / "g.html").read_bytes()
    with largest_file(5_000):
        shown(capsys, disk_place.uri, "--out", str(place / "g.html"))
    assert [path.name for path in place.iterdir()] == ["g.html"] and (place / "g.html").read_bytes() == whole


LIGHT = """
import sys
from react_ray.cli import main
main(["show", sys.argv[1]])
loaded = {"torch", "ray", "faiss", "open_clip"} & set(sys.modules)
assert not loaded, f"show needs no {loaded}"
"""


def test_neither_ray_nor_torch_is_loaded(disk_place: Storage) -> None:
    ended = subprocess.run([sys.executable, "-c", LIGHT, write_run(disk_place)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
