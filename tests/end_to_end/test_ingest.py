"""ingest of what is not Parquet with images: which artifacts it makes, and that parts and kills change nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from react_ray.artifact import open_artifact
from react_ray.cli import main
from react_ray.kinds import IMAGES, PAIRS
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.layout import Layout
from react_ray.stages import ingest
from tests.support.small_run import react_ray, small_recipe


@pytest.fixture
def url_list(tmp_path: Path) -> Path:
    with open(tmp_path / "list.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["URL", "TEXT", "license"])
        writer.writerows([f"http://127.0.0.1/{i}.jpg", f"drawing {i},\nby hand", "CC0"] for i in range(50))
    return tmp_path / "list.csv"


def recipe_of(source: Path, **changes: object) -> Recipe:
    return load_recipe(small_recipe(source.parent, ingest={"source": str(source), "rows_per_part": 20} | changes))


def test_a_list_of_urls_gives_pairs_alone(url_list: Path, local_ray: None) -> None:
    recipe = recipe_of(url_list)
    made = ingest.run(recipe)
    assert (made.kind.name, made.manifest.parts, made.manifest.rows) == ("pairs", 3, 50)
    assert made.read(2).column_names == ["pair_id", "url", "caption", "license"]
    assert made.read(2)["url"][9].as_py() == "http://127.0.0.1/49.jpg"
    assert not Path(Layout(recipe).database("images")).exists()
    assert ingest.run(recipe).content == made.content


def test_a_source_of_another_format_is_the_same_database(url_list: Path, local_ray: None) -> None:
    of_csv = ingest.run(recipe_of(url_list))
    other = url_list.parent / "other"
    other.mkdir()
    tables = [of_csv.read(part) for part in range(3)]
    for part, table in enumerate(tables):
        pq.write_table(table.drop_columns(["pair_id"]), other / f"{part}.parquet", row_group_size=7)
    recipe = recipe_of(other)
    recipe = recipe.model_copy(update={"database": str(other / "database")})
    assert ingest.run(recipe).content == of_csv.content


def test_training_on_a_list_of_urls_is_refused(url_list: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_recipe(url_list.parent, ingest={"source": str(url_list)}, arms={}, customize={"train_on": "source"})
    with pytest.raises(SystemExit) as stopped:
        main(["customize", path])
    assert stopped.value.code == 2 and "is a list of URLs; name a source with images" in capsys.readouterr().err


def test_pairs_of_tars_are_those_of_their_rows_in_any_parts(tmp_path: Path, sample_dir: Path, local_ray: None) -> None:
    import io
    import tarfile

    table = pq.read_table(sample_dir / "pool.parquet", columns=["image", "caption"]).slice(0, 60)
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "00000.tar", "w") as archive:
        for i, row in enumerate(table.to_pylist()):
            for suffix, data in (("webp", row["image"]), ("txt", row["caption"].encode())):
                info = tarfile.TarInfo(f"{i:05d}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    recipe = recipe_of(tmp_path / "tars")
    images = ingest.run(recipe)
    assert images.kind == IMAGES and images.manifest.ok == 60
    rows = [row for part in images.tables(["image", "caption"]) for row in part.to_pylist()]
    assert rows == table.to_pylist()
    assert open_artifact(Layout(recipe).database("pairs"), PAIRS).read(0).column_names[-1] == "key"


def test_verbose_shows_the_messages_of_ray(url_list: Path) -> None:
    done = react_ray("ingest", small_recipe(url_list.parent, ingest={"source": str(url_list)}), "--verbose")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Started a local Ray instance" in done.stderr
