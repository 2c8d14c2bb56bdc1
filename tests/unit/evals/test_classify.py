"""Zero-shot classification gives the figures of the field's own programs, on the same vectors."""

from __future__ import annotations

import io

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torchmetrics.classification import MultilabelAveragePrecision
from torchvision.transforms import InterpolationMode, Resize

from react_ray import schema
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import MAP_11_POINT, ROC_AUC, TargetTask, TasksConfig, load_tasks
from react_ray.evals.classify import embed_labelled, embed_rows, prompt_scorers, score_rows
from react_ray.evals.labelled import Slice, read_slice, slices_of
from react_ray.evals.metrics import log_softmax, mean_average_precision_11_point
from react_ray.evals.zeroshot import summarise
from react_ray.gated.load import load_backbone
from react_ray.training.scorer import ClassVectors

SAMPLE = BackboneConfig(name="sample://base_clip.json", pretrained="sample://base_clip.safetensors")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(load_backbone(SAMPLE), 64, "cpu")


def sample_task(name: str) -> tuple[TargetTask, list[Slice]]:
    tasks = load_tasks(TasksConfig(file="sample://tasks.json", names=[name]))
    return tasks[0], slices_of("test", "sample://test.parquet", tasks)


def measured(table: pa.Table, tasks: list[TargetTask]) -> dict[str, float]:
    return {metric: value for _, task, metric, value, _ in summarise(table, tasks) if task != "mean"}


def test_images_of_kitti_distance_are_squeezed_as_elevaters_toolkit_does_and_others_of_the_set_are_cropped(
    embedder: Embedder,
) -> None:
    [kitti] = load_tasks(TasksConfig(builtin=["kitti-distance"]))
    random = np.random.default_rng(0)
    wide = [Image.fromarray(random.integers(0, 256, (120, 400, 3), np.uint8)) for _ in range(3)]
    files = [io.BytesIO() for _ in wide]
    for image, file in zip(wide, files, strict=True):
        image.save(file, "png")
    encoded = [file.getvalue() for file in files]
    table = pa.table({"image": pa.array(encoded, pa.binary()), "task": ["kitti-distance", "food", "kitti-distance"]})
    side = embedder.backbone.image_size
    squeezed = [np.asarray(Resize((side, side), InterpolationMode.BICUBIC)(image)).transpose(2, 0, 1) for image in wide]
    found_ND = embed_labelled(table, embedder, [kitti, sample_task("food")[0]], 2)
    np.testing.assert_array_equal(found_ND[[0, 2]], embedder.embed_images(np.stack(squeezed)[[0, 2]]))
    np.testing.assert_array_equal(found_ND[1], embed_rows(encoded[1:2], embedder, 1)[0])
    assert (embed_rows(encoded, embedder, 1)[[0, 2]] != found_ND[[0, 2]]).any(axis=1).all()
    fine_tuned = Embedder(embedder.backbone.squashing(), 64, "cpu")
    np.testing.assert_array_equal(embed_rows(encoded, fine_tuned, 1)[[0, 2]], found_ND[[0, 2]])
    assert embed_labelled(table.slice(0, 0).select([]), embedder, [kitti], 1).shape == (0, embedder.image_dim)


def test_figures_are_those_of_clip_benchmark_and_of_open_clip_on_the_same_vectors(embedder: Embedder) -> None:
    theirs = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    task, slices = sample_task("food")
    task = TargetTask(task.name, task.class_names, ("a drawing of {}.", "{}"), tuple((c,) for c in task.class_names))
    images = read_slice(slices[0], [task])
    images = pa.concat_tables([images, images.slice(0, 30)])  # classes of one and of two images
    image_ND = embed_rows(images["image"].to_pylist(), embedder, 1)
    vector_CD = embedder.zero_shot_classifier(task)

    model, tokenizer = embedder.backbone.model, embedder.backbone.tokenizer
    of_open_clip = open_clip.build_zero_shot_classifier(model, tokenizer, task.class_names, task.templates)
    of_benchmark = theirs.zero_shot_classifier(
        model, tokenizer, task.class_names, [text.format("{c}") for text in task.templates], "cpu", amp=False
    )
    for their_DC in (of_open_clip, of_benchmark):
        torch.testing.assert_close(torch.from_numpy(vector_CD.T), their_DC, atol=2e-6, rtol=0)
        table = score_rows(images, image_ND, {task.name: ClassVectors(their_DC.T.numpy())}, [task])
        ours = score_rows(images, image_ND, {task.name: ClassVectors(vector_CD)}, [task])
        assert ours["predicted"].equals(table["predicted"]) and ours["rank"].equals(table["rank"])

    class Vectors(torch.nn.Module):
        """Gives CLIP_benchmark the vectors of our images instead of an encoder's."""

        def encode_image(self, image_ND: torch.Tensor) -> torch.Tensor:
            return image_ND

    target_N = torch.tensor([task.class_names.index(label) for label in images["label"].to_pylist()])
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(image_ND.astype(np.float32)), target_N), batch_size=50
    )
    logits, target = theirs.run_classification(Vectors(), of_benchmark, loader, "cpu", amp=False)
    # Its `accuracy` takes the same top k, and does not run with NumPy 2.4.
    correct_N5 = logits.topk(5, dim=1).indices == target[:, None]
    top1, top5 = float(correct_N5[:, 0].double().mean()), float(correct_N5.any(dim=1).double().mean())
    found = measured(ours, [task])
    assert 0.1 < found["top1"] < 1 and found["top1"] != found["mean_per_class"]
    assert (found["top1"], found["top5"]) == (pytest.approx(top1, abs=1e-12), pytest.approx(top5, abs=1e-12))
    expected = theirs.balanced_accuracy_score(target, logits.argmax(axis=1))
    assert found["mean_per_class"] == pytest.approx(expected, abs=1e-12)


def two_classes() -> tuple[TargetTask, pa.Table, np.ndarray]:
    task = TargetTask("memes", ("kind", "hateful"), ("{}",), (("kind",), ("hateful",)), ROC_AUC)
    rng = np.random.default_rng(0)
    image_ND = rng.normal(size=(90, 4)).astype(np.float16)
    image_ND /= np.linalg.norm(image_ND.astype(np.float32), axis=1, keepdims=True).astype(np.float16)
    position_N = rng.integers(0, 2, 90)
    return task, labelled(task, position_N.tolist()), image_ND


def labelled(task: TargetTask, positions: list[int], also: list[list[str] | None] | None = None) -> pa.Table:
    return pa.table(
        {
            "task": [task.name] * len(positions),
            "label": [task.class_names[position] for position in positions],
            "position": pa.array(positions, pa.int32()),
            "also": pa.array(also or [None] * len(positions), pa.list_(pa.string())),
            "row": pa.array(range(len(positions)), pa.int32()),
            "dataset": ["test"] * len(positions),
        }
    )


def test_a_task_of_two_classes_has_scikit_learns_area_below_the_curve() -> None:
    task, table, image_ND = two_classes()
    vector_CD = np.eye(2, 4, dtype=np.float32)
    predictions = score_rows(table, image_ND, {task.name: ClassVectors(vector_CD)}, [task])
    assert predictions.schema.equals(schema.WITH_CLASS_SCORES)
    probability_NC = torch.from_numpy(100 * (image_ND.astype(np.float64) @ vector_CD.T)).softmax(dim=1)
    expected = roc_auc_score(table["position"].to_numpy(), probability_NC[:, 1])
    found = measured(predictions, [task])
    assert found[ROC_AUC] == pytest.approx(expected, abs=1e-12)
    rows = {metric: value for _, name, metric, value, _ in summarise(predictions, [task]) if name == "mean"}
    assert rows["task_metric"] == found[ROC_AUC] and rows["top1"] == found["top1"]


def test_an_image_of_several_classes_counts_for_each_of_them() -> None:
    """torchmetrics has the precision averaged over all recalls, to which that of 11 points is near."""
    names = ("cat", "dog", "car")
    task = TargetTask("voc", names, ("{}",), tuple((name,) for name in names), MAP_11_POINT)
    rng = np.random.default_rng(1)
    first = rng.integers(0, 3, 200)
    also = [[names[(place + 1) % 3]] if one else None for place, one in zip(first, rng.random(200) < 0.4, strict=True)]
    true_NC = np.eye(3, dtype=bool)[first]
    for row, others in enumerate(also):
        true_NC[row, [names.index(name) for name in others or []]] = True
    image_ND = (true_NC + 0.7 * rng.normal(size=(200, 3))).astype(np.float32)
    image_ND = (image_ND / np.linalg.norm(image_ND, axis=1, keepdims=True)).astype(np.float16)
    scorer = ClassVectors(np.eye(3, dtype=np.float32))
    predictions = score_rows(labelled(task, first.tolist(), also), image_ND, {"voc": scorer}, [task])
    score_NC = log_softmax(scorer(image_ND))
    found = measured(predictions, [task])
    assert found[MAP_11_POINT] == mean_average_precision_11_point(true_NC, score_NC)
    theirs = MultilabelAveragePrecision(3)(torch.from_numpy(score_NC).exp(), torch.from_numpy(true_NC).int())
    assert found[MAP_11_POINT] == pytest.approx(float(theirs), abs=0.03)
    assert found["top1"] == true_NC[np.arange(200), score_NC.argmax(axis=1)].mean()


def test_synonyms_make_no_prompts_of_evaluation(embedder: Embedder) -> None:
    names = ("open book", "shoe")
    task = TargetTask("t", names, ("a drawing of {}.",), (("open book", "book"), ("shoe", "man's shoe")))
    alone = TargetTask("t", names, task.templates, tuple((name,) for name in names))
    image_ND = np.eye(2, embedder.backbone.dim, dtype=np.float32)
    scored, expected = (prompt_scorers(embedder, [one])["t"](image_ND) for one in (task, alone))
    assert (scored == expected).all()
    assert (embedder.zero_shot_classifier(task) != embedder.zero_shot_classifier(alone)).any()
