from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from react_ray.clip.prompts import TasksConfig
from react_ray.clip.queries import Query, make_queries
from react_ray.errors import ConfigError


def picture(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return str(path)


def test_sentences_and_images_come_after_the_tasks_and_number_their_own_classes(tmp_path: Path) -> None:
    one, two = picture(tmp_path / "a" / "1.png"), picture(tmp_path / "a" / "b" / "2.JPG")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    config = TasksConfig(
        class_names=["heron", ["egret", "white heron"]],
        templates=["a {}"],
        queries=["a bird that stands on one leg"],
        seed_images={"egret": [str(tmp_path / "a")], "spoonbill": [one]},
    )
    assert make_queries(config, averaged=False) == [
        Query(0, "task", "heron", "a heron", "text", ("a heron",)),
        Query(1, "task", "egret", "a egret", "text", ("a egret",)),
        Query(1, "task", "egret", "a white heron", "text", ("a white heron",)),
        Query(
            2,
            "queries",
            "a bird that stands on one leg",
            "a bird that stands on one leg",
            "text",
            ("a bird that stands on one leg",),
        ),
        Query(1, "task", "egret", one, "image", (one,)),
        Query(1, "task", "egret", two, "image", (two,)),
        Query(3, "seed images", "spoonbill", one, "image", (one,)),
    ]
    averaged = make_queries(config, averaged=True)
    assert [q.parts for q in averaged[:2]] == [("a heron",), ("a egret", "a white heron")]
    assert [q.parts for q in averaged if q.modality == "image"] == [(one, two), (one,)]


def test_queries_need_no_task() -> None:
    (query,) = make_queries(TasksConfig(queries=["rain on a window"]), averaged=True)
    assert (query.class_id, query.class_name, query.parts) == (0, "rain on a window", ("rain on a window",))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"queries": [" "]}, "a sentence is empty"),
        ({"queries": ["rain", "rain"]}, "listed twice"),
        ({"seed_images": {"owl": []}}, "'owl' has no image"),
        ({"seed_images": {"owl": ["/nowhere/at/all"]}}, "is no image and has none below it"),
    ],
)
def test_what_cannot_be_searched_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_queries(TasksConfig.model_validate(config), averaged=False)
