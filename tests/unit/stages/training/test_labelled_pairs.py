"""Labelled images as pairs: which of them train, what they look like to a training, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from react_ray.artifact import open_artifact
from react_ray.clip.prompts import load_tasks
from react_ray.draft import create
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.evals.tested import classified_set, other_sets
from react_ray.gated.config import CustomizeConfig
from react_ray.kinds import REFERENCES
from react_ray.pairs.image import inspect
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages.training.kept_apart import check_kept_apart
from react_ray.stages.training.labelled_pairs import LabelledPairs, labelled_pairs
from react_ray.stages.training.mixed_rows import MixedRows
from react_ray.stages.training.rows import RetrievedRows
from react_ray.storage import open_storage
from react_ray.training.blocks import load_block
from react_ray.vectors import as_vectors, from_vectors
from tests.support.class_folders import class_folders
from tests.support.retrieved import CLASSES, DIM, write_run
from tests.support.small_run import small_recipe

NO_VECTOR = np.full((1, 1), np.nan, np.float16)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(open_storage(str(tmp_path / "run")))
    class_folders(tmp_path / "labelled")
    held = tmp_path / "held" / "birds" / "heron"
    held.mkdir(parents=True)
    (held / "same.jpg").write_bytes((tmp_path / "labelled" / "birds" / "heron" / "1.jpg").read_bytes())
    return tmp_path


def given(folder: Path, *changes: str) -> Recipe:
    tasks: dict[str, list[str]] = {}
    for task, name in CLASSES:
        tasks.setdefault(task, []).append(name)
    described = {task: {"classes": names, "templates": ["a photo of a {}."]} for task, names in tasks.items()}
    (folder / "tasks.json").write_text(json.dumps({"tasks": described}))
    places = [f"tasks={{file: '{folder / 'tasks.json'}'}}", f"out={folder}/run", "arms={}"]
    places += [f"evaluate.datasets={{held: {folder}/held}}", f"customize.labelled={folder}/labelled"]
    return load_recipe(small_recipe(folder / "other"), [*places, *changes])


def ids(pairs: LabelledPairs) -> list[int]:
    return pairs.class_id_N.tolist()


def test_labelled_images_are_pairs_with_their_class_prompts_and_no_image_of_an_evaluation_set_is_among_them(
    run: Path,
) -> None:
    pairs = labelled_pairs(given(run), "")
    assert ids(pairs) == [2] * 3 + [0] * 2 + [4] * 3 + [3] * 3, "in the order of the files"
    table, images = pairs.retrieved.read(0), pairs.images.read(0)
    assert table["caption"].to_pylist()[:4] == ["a photo of a crane."] * 3 + ["a photo of a heron."]
    assert set(images["status"].to_pylist()) == {"ok"} and images["pair_id"].equals(table["pair_id"])
    np.testing.assert_allclose(from_vectors(table["text_embedding"]), np.full((11, DIM), 0.5), atol=1e-3)
    same = (run / "held" / "birds" / "heron" / "same.jpg").read_bytes()
    assert same not in images["image"].to_pylist()
    assert pairs.retrieved.facts.summary == [
        "11 labelled images of 4 of 5 classes",
        "left out of the labelled images: 1 in evaluate.datasets.held, 4 that cannot be decoded",
    ]
    assert labelled_pairs(given(run), "").retrieved.content == pairs.retrieved.content
    assert pairs.card(CustomizeConfig())["num_images"] == 11


def test_copies_among_the_labelled_images_are_counted_and_said_and_one_of_a_tested_image_never_trains(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heron = run / "labelled" / "birds" / "heron"
    shutil.copy(heron / "0.jpg", heron / "9.jpg")
    shutil.copy(heron / "0.jpg", run / "labelled" / "birds" / "crane" / "9.jpg")
    shutil.copy(run / "held" / "birds" / "heron" / "same.jpg", heron / "tested.jpg")
    told = labelled_pairs(given(run), "").retrieved.facts.summary
    assert told == [
        "13 labelled images of 4 of 5 classes",
        "of the labelled images, 2 of 13 images are copies of another one, and 1 image has copies of another label; "
        "they count as often as they are there",
        "left out of the labelled images: 2 in evaluate.datasets.held, 4 that cannot be decoded",
    ]
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("customize")] == [
        f"customize  {line}" for line in told
    ]
    labelled_pairs(given(run), "")
    assert "customize" not in capsys.readouterr().err, "what is made already is not said again"


def test_an_image_that_looks_like_one_that_retrieval_is_kept_from_does_not_train(run: Path) -> None:
    small = Image.open(run / "labelled" / "machines" / "accordion" / "2.jpg").resize((48, 48))
    encoded = io.BytesIO()
    small.save(encoded, "png")
    table = pa.table(
        {"phash": pa.array([inspect(encoded.getvalue()).phash], pa.uint64()), "image": as_vectors(NO_VECTOR)}
    )
    references = create(f"{run}/run/references", REFERENCES, {}, {}, 1)
    references.commit(0, table, 0.0)
    references.seal()
    kept_away = ["retrieve.decontaminate.datasets=[held]", "retrieve.decontaminate.phash=6"]
    pairs = labelled_pairs(given(run, *kept_away), "")
    assert ids(pairs) == [2] * 3 + [0] * 2 + [4] * 2 + [3] * 3
    assert pairs.retrieved.facts.summary[1] == (
        "left out of the labelled images: 1 in evaluate.datasets.held, 4 that cannot be decoded, 1 that look like an "
        "image of retrieve.decontaminate.datasets"
    )
    with pytest.raises(ArtifactMismatch, match="phash"):
        labelled_pairs(given(run), "")
    arm = "arms={near: {retrieve.decontaminate.phash: 6}}"
    assert not given(run, "retrieve.decontaminate.datasets=[held]", arm).shares_labels("near")


def test_shots_are_drawn_by_the_seed_among_the_images_that_can_train_and_fewer_are_a_part_of_more(run: Path) -> None:
    drawn = {}
    for shots, seed in ((1, 0), (2, 0), (2, 1)):
        recipe = given(run, f"customize.labelled_shots={shots}", f"seed={seed}")
        pairs = labelled_pairs(recipe, "")
        assert sorted(ids(pairs)) == sorted([0, 2, 3, 4] * shots)
        drawn[shots, seed] = set(pairs.retrieved.read(0)["pair_id"].to_pylist())
        open_storage(f"{run}/run/labelled").delete_all()
    assert drawn[1, 0] < drawn[2, 0] and drawn[2, 0] != drawn[2, 1]
    many = labelled_pairs(given(run, "customize.labelled_shots=9"), "")
    assert sorted(ids(many)) == [0] * 2 + [2] * 3 + [3] * 3 + [4] * 3
    assert many.retrieved.facts.summary[0].endswith("4 of 5 classes, at most 9 of each")


def test_an_epoch_of_mixed_rows_has_the_share_and_its_labelled_rows_read_like_pairs(run: Path) -> None:
    labelled = labelled_pairs(given(run), "")
    retrieved, images = (open_artifact(f"{run}/run/{name}") for name in ("retrieved", "images"))
    sides = RetrievedRows(retrieved, images, True, True), RetrievedRows(labelled.retrieved, labelled.images, True, True)
    mixed = MixedRows(*sides, 0.75)
    num_pairs = sum(sides[0].block_sizes)
    assert sum(mixed.block_sizes) == 4 * num_pairs and len(mixed.labelled_N) == 3 * num_pairs
    assert "(75 %): 11 images of 4 classes, repeated" in mixed.told()
    blocks = [load_block(mixed, number) for number in range(len(mixed.block_sizes))]
    assert [block.text_ND.shape for block in blocks if block.text_ND is not None] == [
        (size, DIM) for size in mixed.block_sizes
    ]
    own = [block for block in blocks if (block.pair_ids < 0).all()]
    assert sorted(np.concatenate([block.class_ids for block in own]).tolist()) == sorted(mixed.labelled_N.tolist())
    assert np.ptp(np.bincount(mixed.labelled_N, minlength=5)[[0, 2, 3, 4]]) <= 1
    alone = MixedRows(*sides, 1.0)
    assert alone.block_sizes == [11, 1], "the class that lacks an image repeats one"
    assert not alone.left_out and alone.block_bytes[0] > 0


def test_labelled_images_that_could_train_nothing_are_refused_in_one_line(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"left to train on \(1 in evaluate.datasets.held\); name a set"):
        labelled_pairs(given(run, f"customize.labelled={run}/held", "evaluate.max_unreadable=1"), "")
    for nowhere in (f"{run}/nowhere.parquet", "sample://tasks.json"):
        with pytest.raises(ConfigError, match=r"^customize\.labelled: .*; ") as caught:
            labelled_pairs(given(run, f"customize.labelled={nowhere}"), "")
        assert str(caught.value).isprintable()
    (run / "labelled" / "birds" / "heron").rename(run / "labelled" / "birds" / "stork")
    with pytest.raises(ConfigError, match=r"^customize\.labelled: 4 of 16 images lie in 1 folders that are no class"):
        labelled_pairs(given(run), "")
    with pytest.raises(ConfigError, match="method=cache compares with retrieved images and trains nothing"):
        given(run, "customize.method=cache")
    with pytest.raises(ConfigError, match="which is off; set head=true, or a share"):
        given(run, "customize.labelled_share=0")
    with pytest.raises(ConfigError, match="train_on=source has none; set train_on=retrieved"):
        given(run, "customize.train_on=source")


def test_of_an_image_that_shows_several_classes_the_first_counts_and_they_are_counted(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [(run / "labelled" / "birds" / "heron" / f"{number}.jpg").read_bytes() for number in (0, 2)]
    table = {"image": images, "label": [["crane", "heron"], ["heron"]], "task": ["birds", "birds"]}
    pq.write_table(pa.table(table), run / "several.parquet")
    assert ids(labelled_pairs(given(run, f"customize.labelled={run}/several.parquet"), "")) == [2, 0]
    assert "customize.labelled: 1 image with several classes, of which the first counts" in capsys.readouterr().err


def test_without_labelled_images_their_fields_change_no_digest() -> None:
    plain = CustomizeConfig()
    assert plain.digested() == CustomizeConfig(labelled_share=0.1, labelled_shots=4).digested()
    assert not {"labelled", "labelled_shots", "labelled_share"} & plain.digested().keys()
    only_head = CustomizeConfig(labelled="x", labelled_share=0, head=True)
    assert only_head.of_model() == plain.of_model(), "a model that saw no labels can be given a head of labels"
    assert CustomizeConfig(labelled="x").of_model() != plain.of_model()


def test_a_set_that_was_added_later_and_has_an_image_that_trained_is_refused(run: Path) -> None:
    labelled_pairs(given(run), "")
    held = classified_set("held", f"{run}/held", "digest of held")
    check_kept_apart(given(run), [held])
    assert json.loads((run / "run" / "labelled" / "compared.json").read_text())
    (run / "later" / "birds" / "heron").mkdir(parents=True)
    image = (run / "labelled" / "birds" / "heron" / "0.jpg").read_bytes()
    (run / "later" / "birds" / "heron" / "again.jpg").write_bytes(image)
    more = given(run, f"evaluate.datasets.later={run}/later")
    with pytest.raises(ConfigError, match=r"^evaluate\.datasets\.later: 1 of its images are among the labelled"):
        check_kept_apart(more, [held, classified_set("later", f"{run}/later", "digest of later")])


def test_parts_of_before_a_kill_are_made_again_if_other_sets_are_tested_since(run: Path) -> None:
    labelled_pairs(given(run, f"evaluate.datasets.held={run}/labelled/machines"), "")
    for name in ("retrieved", "images"):  # as of a run that was killed before it ended
        (run / "run" / "labelled" / name / "manifest.json").unlink()
    again = labelled_pairs(given(run), "")
    open_storage(f"{run}/run/labelled").delete_all()
    assert again.retrieved.content == labelled_pairs(given(run), "").retrieved.content


def test_images_that_are_searched_by_captions_are_kept_apart_too(run: Path) -> None:
    heron = run / "labelled" / "birds" / "heron"
    for name, number in (("now", 0), ("later", 2)):
        captioned = {"image": [(heron / f"{number}.jpg").read_bytes()], "caption": ["a heron in the reeds"]}
        pq.write_table(pa.table(captioned), run / f"{name}.parquet")
    recipe = given(run, f"evaluate.captions.now={run}/now.parquet")
    told = labelled_pairs(recipe, "").retrieved.facts.summary
    assert "1 in evaluate.captions.now, 1 in evaluate.datasets.held, 4 that cannot" in told[-1]
    check_kept_apart(recipe, other_sets(recipe.evaluate, load_tasks(recipe.tasks)))
    more = given(run, f"evaluate.captions.now={run}/now.parquet", f"evaluate.captions.later={run}/later.parquet")
    with pytest.raises(ConfigError, match=r"^evaluate\.captions\.later: 1 of its images are among the labelled"):
        check_kept_apart(more, other_sets(more.evaluate, load_tasks(more.tasks)))
