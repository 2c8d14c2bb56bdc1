"""The recipe that `react-ray init` writes: it loads, it says what was seen, and it fits what the source has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.clip.prompts import load_tasks
from react_ray.errors import ConfigError, ReactRayError
from react_ray.first_recipe import FirstRecipe, look, parse_classes
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.most_pairs import check_schedules


def source(folder: Path, **columns: list[Any]) -> str:
    path = folder / "source.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path)


IMAGES: dict[str, list[Any]] = {
    "image": [b"\x89PNG"] * 3,
    "caption": ["a heron", "an ibis", "a stork"],
    "page": [1, 2, 3],
}
URLS: dict[str, list[Any]] = {"url": ["https://a.org/1.jpg"] * 3, "caption": ["a", "b", "c"]}
VECTORS: dict[str, list[Any]] = {
    "text_vector": [[0.6, 0.8]] * 3,
    "url": ["https://a.org/1.jpg"] * 3,
    "caption": ["a"] * 3,
}


def written(folder: Path, uri: str, classes: str = "heron, ibis", **values: Any) -> Recipe:
    listed, file = parse_classes(classes)
    first = FirstRecipe(
        "first.yaml", look(uri), listed, ("ViT-B-32", "openai"), str(folder / "run"), classes_file=file, **values
    )
    (folder / "first.yaml").write_text(first.text())
    return load_recipe(str(folder / "first.yaml"))


def test_a_recipe_of_images_and_captions_says_what_was_seen_and_leaves_the_schedule_to_the_data(tmp_path: Path) -> None:
    recipe = written(tmp_path, source(tmp_path, **IMAGES), "grey heron, great egret|white heron, no, 1984")
    assert load_tasks(recipe.tasks)[0].synonyms == (("grey heron",), ("great egret", "white heron"), ("no",), ("1984",))
    assert recipe.retrieve.keys == ["image", "text"] and recipe.customize.method == "gated-image"
    assert (recipe.customize.batch_size, recipe.customize.epochs, recipe.customize.warmup_steps) == (0, 0, -1)
    assert (recipe.name, recipe.database) == ("first", f"{tmp_path}/run/database") and not recipe.evaluate.datasets
    seen = "# images with captions; columns: image = image, caption = caption; kept beside them: page\n"
    assert seen in (tmp_path / "first.yaml").read_text()
    check_schedules(recipe)


def test_of_a_list_of_urls_only_what_is_retrieved_is_downloaded(tmp_path: Path) -> None:
    recipe = written(tmp_path, source(tmp_path, **URLS))
    assert recipe.download.of == "retrieved" and not recipe.embed.images and recipe.retrieve.keys == ["text"]
    assert "react-ray run first.yaml --until download " in (tmp_path / "first.yaml").read_text()


def test_published_vectors_are_searched_on_the_sides_that_they_have(tmp_path: Path) -> None:
    recipe = written(tmp_path, source(tmp_path, **VECTORS))
    assert recipe.retrieve.keys == ["text"] and recipe.download.of == "retrieved"
    assert "the model that made the vectors" in (tmp_path / "first.yaml").read_text().lower()


def test_images_without_captions_train_a_head(tmp_path: Path) -> None:
    recipe = written(tmp_path, source(tmp_path, image=IMAGES["image"]))
    assert recipe.retrieve.keys == ["image"] and recipe.customize.method == "linear" and not recipe.embed.captions


def test_a_gpu_is_used_and_a_test_set_is_named(tmp_path: Path) -> None:
    recipe = written(tmp_path, source(tmp_path, **IMAGES), on_gpu=True, test="s3://bucket/my test.parquet", num_cpus=8)
    assert recipe.customize.gpus_per_worker == 1 and recipe.cluster.gpus_per_actor == 1
    assert recipe.evaluate.datasets == {"test": "s3://bucket/my test.parquet"}
    assert written(tmp_path, source(tmp_path, **IMAGES), num_cpus=8).customize.threads_per_worker == 8


def test_classes_come_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "birds.txt").write_text("heron\nibis | sacred ibis\n")
    recipe = written(tmp_path, source(tmp_path, **IMAGES), str(tmp_path / "birds.txt"))
    assert load_tasks(recipe.tasks)[0].class_names == ("heron", "ibis")


def test_what_cannot_be_searched_or_read_is_said_before_a_recipe_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"URLs without captions, .*; name a source with captions"):
        look(source(tmp_path, url=URLS["url"]))
    with pytest.raises(ReactRayError, match="gone"):
        look(str(tmp_path / "gone.parquet"))
    for text in ("", " , ,"):
        with pytest.raises(ConfigError, match="no class names; write them with commas"):
            parse_classes(text)
