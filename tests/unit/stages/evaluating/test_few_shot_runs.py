"""What is learned from few labels: one part for each method, number of shots and seed, the same wherever it is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from react_ray import schema
from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.prompts import load_tasks
from react_ray.draft import create
from react_ray.errors import ConfigError
from react_ray.evals.metrics import mean_average_precision_11_point
from react_ray.evals.score import ALL_SHOTS
from react_ray.evals.zeroshot import MEAN, TASK_METRIC
from react_ray.gated.config import CustomizeConfig
from react_ray.kinds import MODEL, SCORES, ModelFacts, ScoresFacts
from react_ray.manifest import MANIFEST
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.stages import evaluate
from react_ray.stages.evaluating.all_scores import tables_of
from react_ray.stages.evaluating.few_shot_runs import learnings
from react_ray.stages.evaluating.few_shot_work import LearnFromShots, predictions_of
from react_ray.training.head_file import HEAD_FILE, head_bytes
from tests.support.scored_run import CLASSES, labelled_set
from tests.support.shot_recipe import BASE, shot_recipe
from tests.support.shot_recipe import learned as learned_by

pytestmark = pytest.mark.usefixtures("without_ray")


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    return partial(shot_recipe, tmp_path)


def learned(recipe: Recipe, *rows: str) -> list[Artifact[ScoresFacts]]:
    return learned_by(recipe, {row: BASE for row in rows or ("base",)})


def test_each_method_number_of_shots_and_seed_is_a_part_with_scores_of_its_own_predictions(
    recipe: Callable[..., Recipe],
) -> None:
    of = recipe("evaluate.shots=[2, all]", "evaluate.shot_methods=[linear-probe, elevater-probe]")
    [scores] = learned(of)
    assert scores.uri == Layout(of).scores_few("base", "test") and scores.kind == SCORES
    table = pa.concat_tables(scores.tables())
    assert table.schema == schema.SCORES
    found = {(row["protocol"], row["shots"], row["seed"]) for row in table.to_pylist()}
    assert found == {
        (method, shots, seed)
        for method in ("linear-probe", "elevater-probe")
        for shots, seed in ((2, 0), (2, 1), (ALL_SHOTS, 0))
    }
    for part in range(scores.num_parts):
        predictions = predictions_of(scores, part)
        for row in scores.read(part).filter(pc.equal(scores.read(part)["metric"], "top1")).to_pylist():
            here = predictions.filter(pc.equal(predictions["setting"], row["setting"]))
            assert row["num"] == here.num_rows == 12
            assert row["value"] == pytest.approx(pc.mean(pc.equal(here["rank"], 0)).as_py())
            assert row["task"] in ("birds", MEAN)
    assert set(table["setting"].to_pylist()) == {"", "last epoch", "best epoch on the test set"}


def test_a_task_counts_by_its_own_metric(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    birds = {"classes": ["heron", "owl"], "templates": ["{}"], "metric": "roc_auc"}
    (tmp_path / "tasks.json").write_text(json.dumps({"tasks": {"birds": birds}}))
    two = {}
    for name in ("test", "train"):
        table = pq.read_table(labelled_set(tmp_path / f"{name}.parquet", 30))
        two[name] = str(tmp_path / f"two_{name}.parquet")
        pq.write_table(table.filter(pc.not_equal(table["label"], "accordion")), two[name])
    sets = [f"evaluate.datasets.test={two['test']}", f"evaluate.train.test={two['train']}"]
    [scores] = learned(
        recipe(f"tasks.file={tmp_path}/tasks.json", "tasks.class_names=[]", *sets, "evaluate.shots=[all]")
    )
    values = {(row["task"], row["metric"]): row["value"] for row in scores.read(0).to_pylist()}
    found = predictions_of(scores, 0)
    owl = [log_probabilities[1] for log_probabilities in found["class_scores"].to_pylist()]
    expected = roc_auc_score([label == "owl" for label in found["label"].to_pylist()], owl)
    assert values["birds", "roc_auc"] == values[MEAN, TASK_METRIC] == pytest.approx(expected)
    assert values["birds", "top1"] == pytest.approx(pc.mean(pc.equal(found["rank"], 0)).as_py())


def test_images_of_several_classes_are_learned_from_and_count_by_their_mean_average_precision(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    birds = {"classes": CLASSES, "templates": ["{}"], "metric": "map_11_point"}
    (tmp_path / "tasks.json").write_text(json.dumps({"tasks": {"birds": birds}}))
    for name, num in (("test", 12), ("train", 30)):
        table = pq.read_table(labelled_set(tmp_path / f"{name}.parquet", num))
        labels = [[label, "owl"] if label == "heron" else [label] for label in table["label"].to_pylist()]
        pq.write_table(table.set_column(1, "label", [labels]), tmp_path / f"{name}.parquet")
    methods = "evaluate.shot_methods=[linear-probe, tip-adapter, fine-tune-last]"
    few = ("evaluate.shots=[1]", "evaluate.shot_seeds=[0]")
    [scores] = learned(recipe(f"tasks.file={tmp_path}/tasks.json", "tasks.class_names=[]", methods, *few))
    for part in range(3):
        found = predictions_of(scores, part)
        true = [[name in (label, *(also or [])) for name in CLASSES] for label, also in _labels(found)]
        expected = mean_average_precision_11_point(np.array(true), np.array(found["class_scores"].to_pylist()))
        values = {(row["task"], row["metric"]): row["value"] for row in scores.read(part).to_pylist()}
        assert values["birds", "map_11_point"] == values[MEAN, TASK_METRIC] == pytest.approx(expected)
    one_vs_rest, softmax = (np.exp(predictions_of(scores, part)["class_scores"].to_pylist()) for part in (0, 1))
    assert np.abs(softmax.sum(axis=1) - 1).max() < 1e-5 < 1e-2 < np.abs(one_vs_rest.sum(axis=1) - 1).max()


def _labels(predictions: pa.Table) -> list[tuple[str, list[str] | None]]:
    return list(zip(predictions["label"].to_pylist(), predictions["also"].to_pylist(), strict=True))


def test_evaluate_learns_for_rows_that_score_by_prompts_and_writes_their_scores_with_all_others(
    recipe: Callable[..., Recipe],
) -> None:
    of = recipe("evaluate.shots=[1]", "evaluate.pixel_pairs=0", "arms={linear: {customize.method: linear}}")
    head_CD = np.random.default_rng(0).normal(size=(len(CLASSES), 16)).astype(np.float32)
    named = [("birds", name) for name in CLASSES]
    head = head_bytes({"head": head_CD, "start": head_CD.copy()}, named, CustomizeConfig(), {})
    draft = create(Layout(of, "linear").of_arm("model"), MODEL, {}, {}, 1)
    draft.commit_files(0, {HEAD_FILE: head}, 0.0, 1)
    draft.seal(ModelFacts({}, "linear"))
    made = evaluate.run(of)
    assert [artifact.kind.name for artifact in made] == ["predictions", "predictions", "scores"]
    rows = json.loads(Path(of.out, "scores.json").read_text())
    assert {(row["protocol"], row["shots"]) for row in rows} == {("zero-shot", 0), ("tip-adapter", 1)}
    assert "tip-adapter on test, points" in tables_of(of) and "1 shot" in tables_of(of)


def test_the_base_alone_is_scored_as_long_as_no_arm_is_customised(
    recipe: Callable[..., Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    of = recipe("evaluate.shots=[1]", "evaluate.shot_seeds=[0]")
    made = evaluate.run(of)
    assert [artifact.kind.name for artifact in made] == ["predictions", "scores"]
    assert "the base alone, since no arm is customised; `react-ray customize RECIPE`" in capsys.readouterr().err
    assert {row["model"] for row in json.loads(Path(of.out, "scores.json").read_text())} == {"base"}


def test_what_a_recipe_adds_is_learned_alone(recipe: Callable[..., Recipe]) -> None:
    [few] = learned(recipe())
    before = {path.name: path.stat().st_mtime_ns for path in Path(few.uri).glob("part-*")}
    assert few.num_parts == 4
    [more] = learned(recipe("evaluate.shots=[1, 2, 4]", "evaluate.shot_seeds=[1, 0]"))
    assert more.num_parts == 6
    assert {name: Path(few.uri, name).stat().st_mtime_ns for name in before} == before
    assert {row["shots"] for row in more.read(5).to_pylist()} == {2}
    [fewer] = learned(recipe("evaluate.shots=[4]"))
    assert fewer.content == more.content, "what is learned is kept"


def test_a_run_that_was_killed_goes_on_and_ends_the_same(recipe: Callable[..., Recipe]) -> None:
    [whole] = learned(recipe())
    for name in (MANIFEST, "part-00002.json", "part-00003.json", "part-00003.parquet"):
        Path(whole.uri, name).unlink()
    kept = Path(whole.uri, "part-00001.json").stat().st_mtime_ns
    [again] = learned(recipe())
    assert again.content == whole.content
    assert Path(whole.uri, "part-00001.json").stat().st_mtime_ns == kept


def test_the_scores_do_not_depend_on_the_order_of_the_work_or_on_who_does_it(recipe: Callable[..., Recipe]) -> None:
    of = recipe("evaluate.shot_methods=[linear-probe, tip-adapter]")
    [whole] = learned(of)
    tasks, uri = load_tasks(of.tasks), f"{of.out}/again"
    jobs = _jobs(of, uri)
    for number in reversed(range(len(jobs))):
        work = LearnFromShots(jobs, tasks, of.cluster.threads_per_actor)  # as in a process of its own
        work.setup()
        work(number, pa.table({}))
    assert jobs[0].draft.seal().content == whole.content


def _jobs(recipe: Recipe, uri: str) -> list:
    from react_ray.stages.evaluating.few_shot_work import Job, Sets

    layout = Layout(recipe)
    test, train = (open_artifact(layout.labelled_features("base", name)) for name in ("test", "train.test"))
    of = Sets("base", "test", test, train, open_artifact(layout.class_vectors("base")))
    listed = learnings(recipe.evaluate)
    draft = create(uri, SCORES, {"learnings": listed}, of.parents, len(listed))
    return [Job(of, draft, part, learning) for part, learning in enumerate(listed)]


def test_other_training_images_are_learned_from_anew(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    [before] = learned(recipe())
    labels = np.repeat(CLASSES, 10).tolist()
    table = pq.read_table(tmp_path / "train.parquet").set_column(1, "label", [labels])
    pq.write_table(table, tmp_path / "train.parquet")
    [after] = learned(recipe())
    assert after.content != before.content and after.num_parts == 4


def test_images_of_both_sets_are_counted(recipe: Callable[..., Recipe], capsys: pytest.CaptureFixture[str]) -> None:
    learned(recipe(), "base", "gated_image")  # the images of both sets have the same colours
    said = capsys.readouterr().err
    assert said.count("evaluate.train.test: 12 of its images are images of evaluate.datasets.test too") == 1


def test_a_class_without_enough_images_is_an_error_before_anything_is_learned(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(
        ConfigError, match=r"evaluate\.train\.test: 11 shots are .* class 'heron' has 10 labelled images"
    ):
        learned(recipe("evaluate.shots=[1, 11]"))
    assert not list(Path(recipe().out).glob("scores_few/**/part-*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("evaluate.shots=[0]", "evaluate.shots.0.*greater than or equal to 1"),
        ("evaluate.shot_seeds=[]", "evaluate.shot_seeds.*at least 1 item"),
        ("evaluate.shot_methods=[]", "evaluate.shot_methods.*at least 1 item"),
        ("evaluate.shots=[some]", "evaluate.shots.0"),
        ("evaluate.shot_methods=[knn]", "evaluate.shot_methods.0"),
        ("evaluate.train.other=x", r"evaluate: train.other is no set of evaluate.datasets \(test\); name the"),
        ("evaluate.train={}", "evaluate: shots are drawn from evaluate.train, which is empty; name labelled"),
    ],
)
def test_a_recipe_that_asks_for_what_is_not_there_is_refused(
    recipe: Callable[..., Recipe], change: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(change)


def test_shots_are_numbers_or_all(recipe: Callable[..., Recipe]) -> None:
    found = learnings(recipe("evaluate.shots=[1, all, 1]").evaluate)
    assert found == [("tip-adapter", 1, 0), ("tip-adapter", 1, 1), ("tip-adapter", ALL_SHOTS, 0)]
