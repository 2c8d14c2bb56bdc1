"""Real photos: the probe of pixels has the accuracy that is known of it, and few labels help the sample's base."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.config import BackboneConfig
from react_ray.clip.prompts import load_tasks
from react_ray.draft import create
from react_ray.evals.few_shot import draw
from react_ray.evals.labelled import slices_of
from react_ray.evals.linear_probe import fit
from react_ray.evals.score import ALL_SHOTS
from react_ray.evals.zeroshot import MEAN
from react_ray.kinds import SCORES, ScoresFacts
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.cluster import on_demand
from react_ray.runtime.layout import Layout
from react_ray.stages.evaluating.features import classifiers_in, features_in
from react_ray.stages.evaluating.few_shot_runs import learn_from_shots, learnings
from react_ray.stages.evaluating.few_shot_work import Job, LearnFromShots, Sets
from react_ray.stages.evaluating.scored_model import ScoredModel
from react_ray.training.scorer import ClassVectors
from tests.support import fashion_mnist
from tests.support.digits import unit

pytestmark = pytest.mark.slow
RECIPE = """
name: clothes
database: {0}/database
out: {0}/run
tasks: {{name: clothes, class_names: [{1}], templates: ["a {{}}", "{{}}"]}}
backbone: {{name: "sample://base_clip.json", pretrained: "sample://base_clip.safetensors"}}
ingest: {{source: "sample://pool.parquet"}}
evaluate:
  datasets: {{test: "{0}/t10k.parquet"}}
  train: {{test: "{0}/train.parquet"}}
  shots: [1, 4, 16, all]
  shot_methods: [linear-probe, tip-adapter]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fashion_mnist")
    if problem := fashion_mnist.fetch(folder):
        pytest.skip(problem)
    return folder


def pixels(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    image_NHW, label_N = fashion_mnist.read(folder, part)
    return unit(image_NHW.reshape(len(image_NHW), -1).astype(np.float32)), label_N


def test_the_full_shot_probe_of_pixels_reaches_what_logistic_regression_is_known_to_reach(folder: Path) -> None:
    (image_ND, label_N), (test_ND, test_label_N) = pixels(folder, "train"), pixels(folder, "t10k")
    probe = fit(image_ND, label_N, np.zeros((10, 784), np.float32), l2=1.0)
    assert 0.83 < (probe(test_ND).argmax(axis=1) == test_label_N).mean() < 0.85


def test_the_probe_of_some_pixels_is_scikit_learns(folder: Path) -> None:
    (image_ND, label_N), (test_ND, test_label_N) = pixels(folder, "train"), pixels(folder, "t10k")
    rows = draw(label_N, 200, 0, fashion_mnist.CLASSES, "clothes")
    probe = fit(image_ND[rows], label_N[rows], np.zeros((10, 784), np.float32), l2=0.1)
    theirs = LogisticRegression(C=10, max_iter=2000, tol=1e-5).fit(image_ND[rows].astype(float), label_N[rows])
    ours = (probe(test_ND).argmax(axis=1) == test_label_N).mean()
    assert abs(ours - theirs.score(test_ND, test_label_N)) < 0.002


def labelled(folder: Path, part: str, per_class: int) -> None:
    """Writes the first images of each class as a labelled set."""
    image_NHW, label_N = fashion_mnist.read(folder, part)
    rows = np.concatenate([np.flatnonzero(label_N == label)[:per_class] for label in range(10)])
    encoded = []
    for row in rows:
        buffer = io.BytesIO()
        Image.fromarray(255 - image_NHW[row]).convert("RGB").resize((64, 64)).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    pq.write_table(pa.table({"image": encoded, "label": label_N[rows]}), folder / f"{part}.parquet")


def clothes(folder: Path) -> str:
    (folder / "recipe.yaml").write_text(RECIPE.format(folder, ", ".join(fashion_mnist.CLASSES)))
    return str(folder / "recipe.yaml")


def test_zero_few_and_full_shot_on_the_samples_base_rise_in_this_order(folder: Path) -> None:
    labelled(folder, "t10k", 100)
    labelled(folder, "train", 100)
    recipe = load_recipe(clothes(folder))
    tasks = load_tasks(recipe.tasks)
    slices = {name: slices_of(name, uri, tasks) for name, uri in recipe.evaluate.datasets.items()}
    rows = {"base": ScoredModel(BackboneConfig(**recipe.backbone.model_dump()))}
    with on_demand(recipe.cluster):
        [scores] = learn_from_shots(recipe, tasks, rows, slices)
    table = pa.concat_tables(scores.tables())
    top1 = table.filter(pc.and_(pc.equal(table["metric"], "top1"), pc.equal(table["task"], MEAN))).to_pylist()

    def mean(method: str, shots: int) -> float:
        return float(np.mean([row["value"] for row in top1 if (row["protocol"], row["shots"]) == (method, shots)]))

    for method in recipe.evaluate.shot_methods:
        print(method, [(shots, round(100 * mean(method, shots), 1)) for shots in (1, 4, 16, ALL_SHOTS)])
    assert (
        mean("linear-probe", 1) < mean("linear-probe", 4) < mean("linear-probe", 16) < mean("linear-probe", ALL_SHOTS)
    )
    layout = Layout(recipe)
    test = features_in(open_artifact(layout.labelled_features("base", "test")).read(0), tasks[0])
    text_CD = classifiers_in(open_artifact(layout.class_vectors("base")), tasks)["clothes"]
    zero_shot = float((ClassVectors(text_CD)(test.image_ND).argmax(axis=1) == test.target).mean())
    print("zero-shot", round(100 * zero_shot, 1))
    _same_in_this_process(recipe, scores)
    assert zero_shot < mean("linear-probe", 16)


def _same_in_this_process(recipe: Recipe, scores: Artifact[ScoresFacts]) -> None:
    """The parts that tasks of Ray made are made again here, byte for byte."""
    layout, tasks = Layout(recipe), load_tasks(recipe.tasks)
    test, train = (open_artifact(layout.labelled_features("base", name)) for name in ("test", "train.test"))
    of = Sets("base", "test", test, train, open_artifact(layout.class_vectors("base")))
    draft = create(f"{recipe.out}/again", SCORES, {}, {}, scores.num_parts)
    listed = learnings(recipe.evaluate)
    jobs = [Job(of, draft, part, listed[part]) for part in (0, 7, scores.num_parts - 1)]
    work = LearnFromShots(jobs, tasks, recipe.cluster.threads_per_actor)
    work.setup()
    for number, job in enumerate(jobs):
        assert work(number, pa.table({})).files == scores.receipt(job.part).files
