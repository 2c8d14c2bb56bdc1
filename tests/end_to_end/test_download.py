"""download as a user runs it: a list of which a third is bad, killed and resumed, retried, stopped by its floor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pytest

from react_ray.artifact import Artifact, open_artifact
from react_ray.cli import main
from react_ray.errors import ArtifactMismatch, ArtifactMissing, SuccessTooLow
from react_ray.kinds import IMAGES, RETRIEVED
from react_ray.pairs.export.images import export
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages import download, ingest
from react_ray.storage import open_storage
from tests.support.s3_server import s3_server
from tests.support.small_run import kill_when, react_ray, small_recipe
from tests.support.url_list import list_recipe, misbehaving
from tests.support.web import Web, web_server


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with web_server() as server:
        yield server


def downloaded(recipe: Recipe, retry_failed: bool = False) -> Artifact:
    ingest.run(recipe)
    return download.run(recipe, retry_failed)[0]


def rows_of(artifact: Artifact) -> list[tuple[int, str, str | None]]:
    table = pa.concat_tables(artifact.tables(["pair_id", "status", "sha256"]))
    return [(row["pair_id"], row["status"], row["sha256"]) for row in table.to_pylist()]


def killed_then_finished(folder: Path, urls: list[str], rows_per_part: int, kills: tuple[float, ...]) -> Artifact:
    """SIGKILL of the driver after these shares of the parts; a limit of its speed lets us see them."""
    recipe = list_recipe(folder, urls, rows_per_part, per_host_rate=len(urls) / 7 / 8)
    assert react_ray("ingest", recipe).returncode == 0
    images, num_parts = folder / "database/images", len(urls) // rows_per_part
    kept: dict[Path, int] = {}
    for share in kills:
        kill_when(
            recipe, lambda share=share: len(list(images.glob("part-*.json"))) >= share * num_parts, verb="download"
        )
        now = {path: path.stat().st_mtime_ns for path in images.glob("part-*.json")}
        assert {path: now[path] for path in kept} == kept and len(now) < num_parts
        kept = now
    done = react_ray("download", recipe)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{len(urls)} rows in {num_parts} parts" in done.stdout and "% ok" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "a part that was committed was done again"
    return open_artifact(str(images), IMAGES)


@pytest.mark.slow
def test_a_download_that_was_killed_ends_as_one_that_was_left_alone(web: Web, tmp_path: Path, local_ray: None) -> None:
    urls = misbehaving(web, 400)
    undisturbed = downloaded(load_recipe(list_recipe(tmp_path / "undisturbed", urls, 20)))
    killed = killed_then_finished(tmp_path / "killed", urls, 20, (0.4,))
    expected = rows_of(undisturbed)
    assert rows_of(killed) == expected and len({pair_id for pair_id, *_ in expected}) == len(urls)
    assert 0.65 <= undisturbed.manifest.ok / len(urls) <= 0.75
    assert killed.content == undisturbed.content


@pytest.mark.slow
def test_a_long_download_killed_twice_ends_as_one_that_was_left_alone(
    web: Web, tmp_path: Path, local_ray: None
) -> None:
    urls = misbehaving(web, 20_000)
    undisturbed = downloaded(load_recipe(list_recipe(tmp_path / "undisturbed", urls, 500)))
    killed = killed_then_finished(tmp_path / "killed", urls, 500, (0.2, 0.6))
    assert rows_of(killed) == rows_of(undisturbed)
    assert killed.content == undisturbed.content


def test_parts_and_processes_change_no_row(web: Web, tmp_path: Path, local_ray: None) -> None:
    urls = misbehaving(web, 120)
    one = downloaded(load_recipe(list_recipe(tmp_path / "one", urls, 120)))
    many = downloaded(load_recipe(list_recipe(tmp_path / "many", urls, 17, num_workers=2, parts_per_worker=1)))
    facts = ["caption", "image", "phash", "status", "error"]
    assert pa.concat_tables(many.tables(facts)).to_pylist() == one.read(0, facts).to_pylist()


def healing(web: Web, name: str) -> list[str]:
    """Parts of 4: the second has a server that is busy the first time, the third one that stays so."""
    fine = [f"{web.http}/image/{row}.jpg?side=40" for row in range(12)]
    fine[5], fine[6] = f"{web.http}/flaky/{name}?code=503", f"{web.http}/status/404"
    fine[9] = f"{web.http}/status/503"
    return fine


def test_a_retry_rewrites_only_the_parts_that_have_something_to_retry(
    web: Web, tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = list_recipe(tmp_path, healing(web, "e2e"), 4)
    recipe = load_recipe(path)
    first = downloaded(recipe)
    assert [status for _, status, _ in rows_of(first) if status != "ok"] == ["http_503", "http_404", "http_503"]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "database/images").glob("part-00000.*")}
    assert downloaded(recipe).content == first.content, "without --retry-failed nothing is asked again"
    main(["download", path, "--retry-failed"])
    assert "images" in capsys.readouterr().out
    second = open_artifact(str(tmp_path / "database/images"), IMAGES)
    assert [status for _, status, _ in rows_of(second) if status != "ok"] == ["http_404", "http_503"]
    assert second.manifest.ok == first.manifest.ok + 1
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert second.content != first.content, "what was built of the older images shall notice"


def test_a_retry_killed_anywhere_loses_no_row(web: Web, tmp_path: Path, local_ray: None) -> None:
    recipe = load_recipe(list_recipe(tmp_path, healing(web, "killed"), 4))
    whole = downloaded(recipe)
    asked = web.num_requests("/image/4.jpg")
    images = tmp_path / "database/images"
    (images / "manifest.json").unlink()  # as a kill leaves it, between taking a receipt away and writing the next
    (images / "part-00001.json").unlink()
    with pytest.raises(ArtifactMissing, match="react-ray download"):
        from react_ray.runtime.preflight import require

        require(recipe, ["embed"])
    resumed = downloaded(recipe)
    assert resumed.content == whole.content and web.num_requests("/image/4.jpg") == asked
    (images / "manifest.json").unlink()
    (images / "part-00001.json").unlink()
    retried = downloaded(recipe, retry_failed=True)
    assert [status for _, status, _ in rows_of(retried) if status != "ok"] == ["http_404", "http_503"]
    assert web.num_requests("/image/4.jpg") == asked


def test_a_part_that_was_cut_off_is_downloaded_again(web: Web, tmp_path: Path, local_ray: None) -> None:
    recipe = load_recipe(list_recipe(tmp_path, misbehaving(web, 40), 20))
    whole = downloaded(recipe)
    images = tmp_path / "database/images"
    for name in ("manifest.json", "part-00001.json"):
        (images / name).unlink()
    (images / "part-00001.parquet").write_bytes(b"PAR1 and no more")
    assert downloaded(recipe).content == whole.content


@pytest.mark.slow
def test_on_s3_a_list_becomes_the_same_images_and_the_same_tars(web: Web, tmp_path: Path, local_ray: None) -> None:
    urls = misbehaving(web, 40)
    here = downloaded(load_recipe(list_recipe(tmp_path, urls, 20)))
    export("webdataset", here.uri, str(tmp_path / "tars"), 20)
    with s3_server():
        boto3.client("s3").create_bucket(Bucket="web")
        open_storage("s3://web").write("lists/one.csv", (tmp_path / "list.csv").read_bytes())
        path = list_recipe(tmp_path, urls, 20)
        places = ["ingest.source=s3://web/lists/*.csv", "database=s3://web/database", "out=s3://web/run"]
        for verb in ("ingest", "download"):
            done = react_ray(verb, path, *places)
            assert done.returncode == 0, done.stderr[-3000:]
        there = open_artifact("s3://web/database/images", IMAGES)
        assert there.content == here.content
        export("webdataset", there.uri, "s3://web/tars", 20)
        for name in ("00000.tar", "00001.tar", "00000.parquet", "00001.parquet"):
            assert open_storage("s3://web/tars").read(name) == (tmp_path / "tars" / name).read_bytes()


def test_a_list_that_is_dead_stops_with_its_statuses_and_keeps_what_is_done(
    web: Web, tmp_path: Path, local_ray: None
) -> None:
    urls = [f"{web.http}/status/{404 if row % 10 else 410}?row={row}" for row in range(400)]
    # The rate lets the list take 10 s, in which a busy machine sees the first 50 rows, too.
    path = list_recipe(tmp_path, urls, 10, min_success=0.2, min_success_after=50, per_host_rate=40.0)
    with pytest.raises(SuccessTooLow, match=r"0 of \d+ rows gave an image.*http_404 \d+, http_410 \d+.*min_success=0"):
        downloaded(load_recipe(path))
    done = len(list((tmp_path / "database/images").glob("part-*.json")))
    assert 5 <= done < 40, "the list was burnt to its end"
    finished = downloaded(load_recipe(path, ["download.min_success=0", "download.per_host_rate=0"]))
    assert finished.manifest.rows == 400 and finished.manifest.ok == 0


def test_images_that_ingest_made_are_not_downloaded(tmp_path: Path, local_ray: None) -> None:
    recipe = load_recipe(small_recipe(tmp_path, ingest={"source": "sample://pool.parquet", "max_rows": 20}))
    ingest.run(recipe)
    with pytest.raises(ArtifactMismatch, match="nothing to download"):
        download.run(recipe)


def test_an_address_inside_the_network_is_a_status_unless_it_is_allowed(
    web: Web, tmp_path: Path, local_ray: None
) -> None:
    recipe = load_recipe(list_recipe(tmp_path, [web.http + "/image/1.jpg"] * 3, 2, allow_private_addresses=False))
    assert {status for _, status, _ in rows_of(downloaded(recipe))} == {"blocked_address"}


def test_images_of_a_list_are_embedded_and_those_of_a_retry_are_not_mistaken_for_them(
    web: Web, tmp_path: Path, local_ray: None
) -> None:
    from react_ray.stages import embed

    recipe = load_recipe(list_recipe(tmp_path, healing(web, "embedded"), 4))
    downloaded(recipe)
    embeddings = embed.run(recipe)
    table = pa.concat_tables(embeddings.tables(["image", "status"]))
    assert table["status"].to_pylist() == [
        status for _, status, _ in rows_of(open_artifact(str(tmp_path / "database/images"), IMAGES))
    ]
    assert embed.run(recipe).content == embeddings.content
    downloaded(recipe, retry_failed=True)
    with pytest.raises(ArtifactMismatch, match=r"parents\.images was .*delete that directory"):
        embed.run(recipe)


@pytest.mark.slow
def test_a_run_can_download_only_what_its_captions_retrieve(web: Web, tmp_path: Path) -> None:
    urls = [
        f"{web.host(row % 7)}/{'status/404' if row % 10 == 0 else f'image/{row}.jpg'}?side=40&row={row}"
        for row in range(240)
    ]
    path = list_recipe(tmp_path, urls, 60, of="retrieved")
    changes = [
        "arms={}",
        "embed.images=false",
        "retrieve.keys=[text]",
        "retrieve.k=2",
        "customize.epochs=2",
        "customize.batch_size=8",
        "customize.num_workers=1",
    ]
    done = react_ray("run", path, *changes)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (tmp_path / "database/images").exists(), "the web was asked for the whole database"
    retrieved, images = (open_artifact(str(tmp_path / "run" / kind.name), kind) for kind in (RETRIEVED, IMAGES))
    pair_ids = pa.concat_tables(retrieved.tables(["pair_id"]))["pair_id"].to_pylist()
    assert 0 < len(pair_ids) < 240 and [pair_id for pair_id, *_ in rows_of(images)] == pair_ids
    assert {status for _, status, _ in rows_of(images)} <= {"ok", "http_404"} and images.manifest.ok > 0
    assert (tmp_path / "run/model/manifest.json").exists() and "report.html" in done.stdout
