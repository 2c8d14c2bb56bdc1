"""Bad input: one line that ends with what to do, exit code 2, and nothing half-written that looks finished."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from react_ray import schema
from react_ray.artifact import open_artifact
from react_ray.cli import main
from react_ray.errors import ArtifactMismatch, ResourceError
from react_ray.index.deleted import delete_pairs
from react_ray.kinds import IMAGES
from react_ray.recipe import load_recipe
from react_ray.stages import customize, embed, ingest, retrieve
from react_ray.storage import open_storage
from react_ray.vectors import from_vectors
from tests.support.small_run import small_recipe


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that the user can put right."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1 and lines[0].startswith("error: "), captured.err
    assert "; " in lines[0] or "did you mean" in lines[0], "the line ends with what to do"
    return lines[0]


def write_pool(path: Path, images: list[bytes | None], captions: list[str | None]) -> str:
    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), "caption": pa.array(captions, pa.string())}), path)
    return str(path)


def drawing(number: int, mode: str = "RGB", format: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, format)
    return file.getvalue()


BEFORE_RAY: dict[str, tuple[str, Callable[[Path], list[str]], str]] = {
    "unknown key": ("run", lambda _: ["customize.learning_rate=1"], "no such field"),
    "nearest name": ("run", lambda _: ["customize.lrr=1"], "did you mean customize.lr?"),
    "wrong type": ("run", lambda _: ["customize.epochs=many"], "customize.epochs"),
    "missing source": ("run", lambda _: ["ingest.source=/nowhere/pool.parquet"], "/nowhere/pool.parquet"),
    "no column": ("run", lambda _: ["ingest.image_column=picture"], "image, caption, source"),
    "stage before": ("embed", lambda _: [], "react-ray ingest"),
    "index before": ("retrieve", lambda _: [], "react-ray embed"),
    "no classes": ("run", lambda _: ["tasks.file=", "tasks.names=[]", "tasks.class_names=[]"], "class"),
    "template": (
        "run",
        lambda _: ["tasks.file=", "tasks.names=[]", "tasks.class_names=[owl]", "tasks.templates=[a photo]"],
        "{}",
    ),
    "filter": ("run", lambda _: ["retrieve.filters=[width]"], "is no condition"),
    "arm of sections": (
        "run",
        lambda _: ["arms={one: {customize: {lr: 0.1}}}"],
        "arms.one: customize is not what an arm can change",
    ),
    "arm of another model": ("run", lambda _: ["arms={one: {backbone.name: ViT-B-16}}"], "set it for the whole run"),
    "no captions": ("run", lambda _: ["embed.captions=false", "retrieve.keys=[image]"], "set embed.captions=true"),
    "a head of another model": (
        "run",
        lambda _: ["customize.method=linear", "customize.backbone.name=RN50"],
        "not RN50's; choose another method",
    ),
    "nothing to compare on": ("evaluate", lambda _: ["evaluate.datasets={}"], "evaluate.datasets is empty"),
    "no built-in task": ("run", lambda _: ["tasks.builtin=[imagenet1k]"], "did you mean 'imagenet'?"),
    "no such radius": ("run", lambda _: ["retrieve.dedup.phash=40"], "retrieve.dedup.phash"),
    "empty pool": ("run", lambda folder: [f"ingest.source={write_pool(folder / 'empty.parquet', [], [])}"], "empty"),
    "unwritable": ("run", lambda folder: [f"out={folder / 'recipe.yaml' / 'run'}"], "cannot write"),
    "disk path": ("run", lambda _: ["database=gs://bucket/database"], "unknown scheme"),
}


@pytest.mark.parametrize("case", BEFORE_RAY)
def test_what_cannot_work_is_said_in_one_line_before_anything_starts(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, overrides, expected = BEFORE_RAY[case]
    recipe = small_recipe(tmp_path)
    assert expected in refuse(capsys, verb, recipe, *overrides(tmp_path))
    assert not list(tmp_path.rglob("manifest.json")) and not list(tmp_path.rglob("part-*"))


def test_a_run_of_another_recipe_is_refused_with_both_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small_recipe(tmp_path)
    resolved = load_recipe(recipe)
    run = open_storage(resolved.out)
    run.write("recipe.yaml", resolved.yaml().encode())
    run.write("retrieved/_building.json", b"{}")
    line = refuse(capsys, "embed", recipe, "retrieve.k=9")
    assert "recipe.retrieve.k was 8, now 9" in line and "there (retrieved) and" in line
    line = refuse(capsys, "embed", recipe, "customize.lr=0.5")
    assert "run `react-ray ingest RECIPE` first" in line, "how a model is trained may change until there is one"
    run.write("arms/gated_image/model/_building.json", b"{}")
    line = refuse(capsys, "embed", recipe, "customize.lr=0.1")
    assert "recipe.customize.lr was 0.001, now 0.1" in line and "there (arms/gated_image/model) and" in line
    assert run.read("recipe.yaml") == resolved.yaml().encode(), "a command that is refused leaves the recipe as it was"


def test_images_that_cannot_be_read_keep_their_place_and_the_run_goes_on(local_ray: None, tmp_path: Path) -> None:
    good = drawing(0)
    images = [
        good,
        good[:60],
        b"<html>not found</html>",
        None,
        b"",
        drawing(1, "CMYK", "JPEG"),
        drawing(2, "P"),
        drawing(3, "L"),
    ]
    captions = ["cloud", "rain", "snow", "sun", "fog", None, "", "cloud with rain"]
    source = write_pool(tmp_path / "pool.parquet", images, captions)
    recipe = load_recipe(
        small_recipe(tmp_path, ingest={"source": source, "rows_per_part": 3, "max_unusable": 0.5}, arms={}),
        ["index.num_shards=1", "retrieve.search=exact", "retrieve.k=4"],
    )
    stored = ingest.run(recipe)
    table = pa.concat_tables(stored.tables())
    status = table["status"].to_pylist()
    assert [s == schema.OK for s in status] == [True, False, False, False, False, True, True, True]
    assert status[3] == status[4] == schema.EMPTY and status[1] == status[2] == schema.UNDECODABLE
    assert (stored.manifest.rows, stored.manifest.ok) == (8, 4)

    vectors = pa.concat_tables(embed.run(recipe).tables())
    finite = np.isfinite(from_vectors(vectors["image"])).all(axis=1)
    assert finite.tolist() == [s == schema.OK for s in status]
    norms = np.linalg.norm(from_vectors(vectors["image"])[finite].astype(np.float32), axis=1)
    assert np.allclose(norms, 1, atol=1e-3)

    retrieved = pa.concat_tables(retrieve.run(recipe).tables())
    kept = pa.concat_tables(open_artifact(str(tmp_path / "run/images"), IMAGES).tables())
    assert retrieved["pair_id"].equals(kept["pair_id"])
    assert set(retrieved["pair_id"].to_pylist()) <= set(table["pair_id"].to_pylist())
    delete_pairs(recipe.database, retrieved["pair_id"].to_numpy()[:1])
    with pytest.raises(ArtifactMismatch, match=r"1 pairs of .*/retrieved were deleted from"):
        customize.run(recipe)


def test_too_little_memory_is_said_before_the_work(local_ray: None, tmp_path: Path) -> None:
    source = write_pool(tmp_path / "pool.parquet", [drawing(i) for i in range(4)], ["cloud"] * 4)
    recipe = load_recipe(small_recipe(tmp_path, ingest={"source": source}), ["cluster.memory_gb=0.5"])
    ingest.run(recipe)
    with pytest.raises(ResourceError, match=r"0\.5 GB are free"):
        embed.run(recipe)
    assert not list(Path(recipe.database, "embeddings").glob("part-*"))


def test_a_receipt_says_what_failed(local_ray: None, tmp_path: Path) -> None:
    source = write_pool(tmp_path / "pool.parquet", [drawing(0), b"x", None], ["a", "b", "c"])
    recipe = load_recipe(small_recipe(tmp_path, ingest={"source": source, "max_unusable": 0.5}))
    images = ingest.run(recipe)
    receipt = json.loads(Path(images.uri, "part-00000.json").read_text())
    assert receipt["statuses"] == {"ok": 1, "undecodable": 1, "empty": 1}
    assert (receipt["rows"], receipt["ok"]) == (3, 1)
