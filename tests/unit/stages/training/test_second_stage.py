"""A head of fixed classes on the vectors of a customised model: what it is trained on, and that it can be repeated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import load_tasks
from react_ray.draft import create
from react_ray.errors import ConfigError
from react_ray.gated.checkpoint import gated_bytes
from react_ray.gated.load import load_backbone
from react_ray.gated.method import freeze
from react_ray.kinds import FEATURES, HEAD, MODEL, ModelFacts
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.cluster import on_demand
from react_ray.stages.training.labelled_pairs import labelled_pairs
from react_ray.stages.training.second_stage import Trained, train_heads
from react_ray.storage import open_storage
from react_ray.training.head_file import head_bytes
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.run_head import load_head
from react_ray.vectors import from_vectors
from tests.support.class_folders import class_folders
from tests.support.retrieved import CLASSES, PER_PART, write_run
from tests.support.small_run import small_recipe
from tests.support.tiny_clip import open_gates

AUGMENT = "customize.augment={rotate_deg: 20, translate: 0.2}"
SCHEDULE = "customize={head: true, head_lr: 0.02, head_steps: 20, head_views: 2, head_scale: 20, batch_size: 4}"


def given(folder: Path, *changes: str) -> Recipe:
    """The recipe of a run whose pairs are retrieved, and whose model is trained."""
    tasks: dict[str, list[str]] = {}
    for task, name in CLASSES:
        tasks.setdefault(task, []).append(name)
    described = {task: {"classes": names, "templates": ["a photo of a {}."]} for task, names in tasks.items()}
    (folder / "tasks.json").write_text(json.dumps({"tasks": described}))
    places = [f"tasks={{file: '{folder / 'tasks.json'}'}}", f"out={folder}", "arms={}"]
    return load_recipe(small_recipe(folder / "other"), [*places, SCHEDULE, *changes])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(open_storage(str(tmp_path)))
    return tmp_path


def heads_of(recipe: Recipe, models: dict[str, Trained]) -> list[Artifact]:
    """As a command does it: so few images need no Ray."""
    with on_demand(recipe.cluster):
        return train_heads(recipe, models)


def model_of(recipe: Recipe) -> Artifact[ModelFacts]:
    backbone = load_backbone(recipe.backbone.model_copy(update={"last_k_layers": 2}), seed=recipe.seed)
    freeze(backbone.model, "gated-image")
    open_gates(backbone.model)
    draft = create(f"{recipe.out}/model", MODEL, {}, {}, 1)
    files = {"gated.safetensors": gated_bytes(backbone.model, {"seed": recipe.seed})}
    draft.commit_files(0, files, 0.0, 1)
    return draft.seal(ModelFacts(backbone.describe(), "gated-image"))


def test_a_head_starts_at_the_models_own_prompts_and_learns_the_retrieved_pairs(run: Path) -> None:
    recipe = given(run, AUGMENT)
    model = model_of(recipe)
    [head] = heads_of(recipe, {"": Trained(model, recipe.customize)})
    assert head.facts.method == "gated-image" and head.kind == HEAD
    assert set(head.manifest.parents) == {"retrieved", "images", "model"}
    tower = load_backbone(recipe.backbone.model_copy(update={"gated": f"{model.uri}/gated.safetensors"}), seed=0)
    embedder = Embedder(tower, 64, "cpu")
    start = load_head(str(run), "+head", 0.0)
    assert start.classes == CLASSES
    prompts_CD = np.concatenate([embedder.zero_shot_classifier(task) for task in load_tasks(recipe.tasks)])
    np.testing.assert_allclose(start.vectors_CD, prompts_CD, atol=1e-5)
    features = open_artifact(f"{run}/features", FEATURES)
    table = features.read(0)
    good = PER_PART - 2  # of each part, one image is missing and one cannot be decoded
    assert table["view"].to_pylist() == [view for view in range(3) for _ in range(good)]
    assert features.receipt(0).facts["unused"] == 1, "the image that cannot be decoded is counted"
    plain_ND, turned_ND = (from_vectors(table["image"])[view * good : (view + 1) * good] for view in (0, 1))
    images = open_artifact(f"{run}/images").read(0)["image"].take([0, 3, 4, 5]).to_pylist()
    np.testing.assert_array_equal(plain_ND, embedder.embed_images(embedder.decode(images)[0]))
    assert (plain_ND != turned_ND).any(axis=1).all()
    vectors = LabelledVectors.of_matched(
        from_vectors(table["image"]), table["class_id"].to_numpy(), table["matched"].to_pylist()
    ).of_task(0, 3)
    target_NC = vectors.targets(slice(None), 3)
    assert ((target_NC > 0).sum(axis=1) == 2).any(), "pairs that matched two classes count for both"

    def loss(wise_ft: float) -> float:
        score_NC = load_head(str(run), "+head", wise_ft).scorers()["birds"](vectors.image_ND)
        return F.cross_entropy(torch.from_numpy(20 * score_NC), torch.from_numpy(target_NC)).item()

    assert loss(1.0) < loss(0.0)


def test_the_same_recipe_gives_the_same_head_and_another_schedule_keeps_the_features(run: Path) -> None:
    recipe = given(run)
    model = model_of(recipe)
    [head] = heads_of(recipe, {"": Trained(model, recipe.customize)})
    assert [again.content for again in heads_of(recipe, {"": Trained(model, recipe.customize)})] == [head.content]
    before = open_artifact(f"{run}/features").content
    open_storage(f"{run}/head").delete_all()
    longer = recipe.customize.model_copy(update={"head_steps": 40})
    [other] = heads_of(recipe, {"": Trained(model, longer)})
    assert other.content != head.content and open_artifact(f"{run}/features").content == before
    assert open_artifact(f"{run}/features").read(0)["view"].to_pylist() == [0] * (PER_PART - 2), "nothing augments"


def test_a_head_with_a_grid_sees_where_things_are_and_the_model_in_python_gives_what_it_takes(run: Path) -> None:
    recipe = given(run, "customize.head_grid=2")
    model = model_of(recipe)
    heads_of(recipe, {"": Trained(model, recipe.customize)})
    tower = load_backbone(recipe.backbone.model_copy(update={"gated": f"{model.uri}/gated.safetensors"}), seed=0)
    head, start = (load_head(str(run), "+head", weight) for weight in (1.0, 0.0))
    assert head.grid == 2 and head.vectors_CD.shape[1] == tower.dim + 2 * 2 * 32
    assert (start.vectors_CD[:, tower.dim :] == 0).all() and (head.vectors_CD[:, tower.dim :] != 0).any()
    stored_ND = from_vectors(open_artifact(f"{run}/features").read(0)["image"])
    pixels, _ = Embedder(tower, 64, "cpu").decode(open_artifact(f"{run}/images").read(0)["image"][3:4].to_pylist())
    mine_ND = head.image_vectors(tower.model, tower.normalize(torch.from_numpy(pixels)))
    np.testing.assert_allclose(mine_ND, stored_ND[1:2], atol=1e-3)
    assert head.scorers()["birds"](mine_ND).shape == (1, 3)


def test_a_head_on_the_backbone_itself_is_the_second_stage_of_a_linear_head(run: Path) -> None:
    recipe = given(run, "customize.method=linear", "customize.head_grid=2", "customize.head_views=0")
    backbone = load_backbone(recipe.backbone, seed=recipe.seed)
    draft = create(f"{recipe.out}/model", MODEL, {}, {}, 1)
    draft.commit_files(0, {"head.safetensors": b"not read here"}, 0.0, 1)
    model = draft.seal(ModelFacts(backbone.describe(), "linear"))
    [head] = heads_of(recipe, {"": Trained(model, recipe.customize)})
    assert "2 x 2 cells of" in head.facts.summary[0] and "tiny_clip" in head.facts.summary[0]
    stored_ND = from_vectors(open_artifact(f"{run}/features").read(0)["image"])
    embedder = Embedder(backbone, 64, "cpu", grid=2)
    pixels, _ = embedder.decode(open_artifact(f"{run}/images").read(0)["image"][3:4].to_pylist())
    np.testing.assert_array_equal(embedder.embed_images(pixels), stored_ND[1:2])
    with pytest.raises(ConfigError, match="method=knn trains nothing; use method=linear"):
        given(run, "customize.method=knn")


def test_with_labelled_images_the_head_learns_from_them_alone_and_every_class_weighs_the_same(run: Path) -> None:
    class_folders(run / "labelled")
    changes = ("customize.labelled_share=0", "evaluate.datasets={}", AUGMENT)
    recipe = given(run, f"customize.labelled={run}/labelled", *changes)
    model, pairs = model_of(recipe), labelled_pairs(recipe, "")
    [head] = heads_of(recipe, {"": Trained(model, recipe.customize, pairs)})
    assert set(head.manifest.parents) == {"labelled_retrieved", "labelled_images", "model"}
    assert head.facts.summary[0].endswith("of the model, trained on 12 labelled images alone")
    table = open_artifact(f"{run}/features", FEATURES).read(0)
    assert sorted(table["class_id"].to_pylist()) == sorted(pairs.class_id_N.tolist() * 3), "each with its two views"
    ends, start = load_head(str(run), "+head").vectors_CD, load_head(str(run), "+head", 0.0).vectors_CD
    assert (np.abs(ends - start).max(axis=1) > 1e-3).tolist() == [True, True, True, True, True]
    card = json.loads(head.storage.read("model_card.json"))["data"]
    assert card["labelled"] == {"content": pairs.retrieved.content, "num_classes": 4, "num_images": 12, "shots": "all"}


def test_the_second_stage_of_a_linear_head_goes_on_from_that_head(run: Path) -> None:
    class_folders(run / "labelled")
    changes = ("customize.method=linear", "customize.head_views=0", "customize.head_lr=1e-12", "evaluate.datasets={}")
    recipe = given(run, f"customize.labelled={run}/labelled", *changes)
    backbone = load_backbone(recipe.backbone, seed=recipe.seed)
    first_CD = F.normalize(torch.randn(len(CLASSES), backbone.dim, generator=torch.Generator().manual_seed(0)), dim=1)
    arrays = {"head": first_CD.numpy(), "start": first_CD.numpy().copy()}
    draft = create(f"{recipe.out}/model", MODEL, {}, {}, 1)
    draft.commit_files(0, {"head.safetensors": head_bytes(arrays, CLASSES, recipe.customize, {})}, 0.0, 1)
    model = draft.seal(ModelFacts(backbone.describe(), "linear"))
    heads_of(recipe, {"": Trained(model, recipe.customize, labelled_pairs(recipe, ""))})
    np.testing.assert_allclose(load_head(str(run), "+head").vectors_CD, first_CD.numpy(), atol=1e-5)
    prompts_CD = load_head(str(run), "+head", 0.0).vectors_CD
    assert np.abs(prompts_CD - first_CD.numpy()).max() > 0.1, "weight 0 of WiSE-FT is still the class prompts"


def test_no_head_is_trained_unless_the_recipe_wants_one(run: Path) -> None:
    recipe = given(run, "customize.head=false")
    assert heads_of(recipe, {"": Trained(model_of(recipe), recipe.customize)}) == []
    assert not (run / "head").exists() and not (run / "features").exists()
