"""The report at any stage of a run: what is there, what comes next, and what the scores say. No Ray is started."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from react_ray.clip.prompts import TasksConfig
from react_ray.draft import create
from react_ray.errors import ArtifactMismatch, ArtifactMissing, ConfigError
from react_ray.evals.score import Score, score_table
from react_ray.kinds import MODEL, RETRIEVED, SCORES, ModelFacts
from react_ray.recipe import Recipe
from react_ray.stages import report
from tests.support.scored_run import (
    finish,
    finish_database,
    finish_models,
    finish_retrieval,
    labelled_set,
    recipe_of,
    score,
)

N = 300


def right(num: int, start: int = 0) -> np.ndarray:
    """True for `num` images from `start` on."""
    return (np.arange(N) >= start) & (np.arange(N) < start + num)


def finish_all(recipe: Recipe, **gained: int) -> None:
    """Scores every model: the base is right in 100 images, an arm in as many more as `gained` says."""
    finish_database(recipe)
    finish_retrieval(recipe)
    finish_models(recipe)
    score(recipe, "base", {"test": right(100)})
    for arm in recipe.arms:
        score(recipe, arm, {"test": right(100 + gained.get(arm, 0))})


def page(recipe: Recipe) -> str:
    return Path(recipe.out, "report.html").read_text()


def summary(recipe: Recipe) -> dict:
    return json.loads(Path(recipe.out, "summary.json").read_text())


def test_nothing_at_all_is_one_line_that_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match=r"nothing to report yet; begin with `react-ray run RECIPE`$"):
        report.run(recipe_of(tmp_path))


def test_the_report_grows_with_the_run(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    finish_database(recipe)
    text = report.run(recipe)
    assert "done   ingest     1,200 pairs" in text and "open   retrieve" in text
    assert "Next: `react-ray run RECIPE`, which goes on with retrieve to customize." in text
    assert "1,200 pairs" in page(recipe) and "What was retrieved" not in page(recipe)

    create(f"{recipe.out}/retrieved", RETRIEVED, {"selection": "hits"}, {}, 1)
    assert "begun  retrieve" in report.run(recipe)

    finish_retrieval(recipe)
    assert "done   retrieve   20 pairs" in report.run(recipe)
    html = page(recipe)
    assert "All 3 classes" in html and html.index("accordion") < html.index("heron")
    assert "What was retrieved" in html and html.count("a drawing of a accordion</span>") == 2
    assert "captions do not name it" in html and "Give accordion synonyms." in html and "10 pairs for 3 classes" in html

    finish_models(recipe)
    text = report.run(recipe)
    assert "Next:" not in text and "There are no scores." in text and "add `evaluate: {datasets: {test: FILE}}`" in text
    assert "<h2>Training</h2>" in page(recipe) and "still falling at the end" in page(recipe)
    assert summary(recipe)["best"] is None and summary(recipe)["gains"] == {}


def test_a_labelled_set_that_is_added_adds_scores_model_by_model(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"mine": labelled_set(tmp_path / "mine.parquet", N)})
    finish_database(recipe)
    finish_retrieval(recipe)
    finish_models(recipe)
    assert "goes on with evaluate." in report.run(recipe)
    score(recipe, "base", {"mine": right(100)})
    text = report.run(recipe)
    assert "33.3" in text and "begun  evaluate   1 of 4" in text
    score(recipe, "gated_image", {"mine": right(150)})
    text = report.run(recipe)  # the set is not named as evaluate.headline says, which is "test"
    assert text.startswith("Gated-image classifies 50.0 % of the images of mine correctly, 16.7 points [")
    assert "locked-text" not in text and "begun  evaluate   2 of 4" in text


def test_the_best_arm_leads_and_flips_confusions_and_classes_are_its_own(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"test": labelled_set(tmp_path / "test.parquet", N)})
    finish_all(recipe, random=0, gated_image=45, locked_text=60)
    text = report.run(recipe)
    lines = text.splitlines()
    assert lines[0].startswith("Locked-text classifies 53.3 % of the images of test correctly, 20.0 points [")
    assert lines[1].startswith("It is 20.0 points [") and lines[1].endswith("above random pairs, the control.")
    assert summary(recipe)["best"] == "locked_text"
    gain = summary(recipe)["gains"]["locked_text"]
    assert gain["gain"] == 0.2 and 0.15 < gain["low"] < 0.2 < gain["high"] < 0.25 and gain["told_apart"]
    assert gain["mcnemar_p"] == pytest.approx(2 * 0.5**60)  # as likely as 60 heads of 60, or 60 tails
    assert gain["p"] < 0.001 and (gain["of"], gain["over"]) == ("locked_text", "base")
    assert summary(recipe)["gains"]["random"] | {"method": ""} == {
        "of": "random", "over": "base", "gain": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "mcnemar_p": 1.0,
        "told_apart": False, "method": "",
    }  # fmt: skip
    row = summary(recipe)["rows"]["random"]
    assert (row["label"], row["trained_in_seconds"]) == ("random pairs", 1.0) and row["bytes"] > 0
    markdown = Path(recipe.out, "table.md").read_text()
    assert "| locked-text | 53.3 | +20.0 [" in markdown and "| base CLIP | 33.3 |" in markdown
    html = page(recipe)
    assert "Locked-text classifies 60 images of test correctly that base CLIP does not, and 0 the other way" in html
    assert html.count("<span>taken for ") == 16
    assert "<bdi>heron</bdi> → <bdi>owl</bdi>" in html and "wrongly named most often" in html
    assert "<td>100</td><td>33</td><td>53</td>" in html  # images, base and arm of one class


def test_a_loss_is_said_first_and_noise_is_not_called_a_gain(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"test": "/gone.parquet", "validation": "/gone.parquet"})
    finish_database(recipe)
    finish_retrieval(recipe)
    finish_models(recipe)
    score(recipe, "base", {"test": right(100), "validation": right(200)})
    score(recipe, "random", {"test": right(100, 50), "validation": right(150)})
    score(recipe, "gated_image", {"test": right(101, 20), "validation": right(150)})
    score(recipe, "locked_text", {"test": right(90), "validation": right(150)})
    lines = report.run(recipe).splitlines()
    assert lines[0].startswith("On validation, gated-image is below base CLIP: −16.7 points [")
    assert lines[1].startswith("Gated-image, the best arm, is not told apart from base CLIP: +0.3 points [−")
    assert lines[2].startswith("It is not told apart from random pairs, the control")
    assert "halve customize.lr" in page(recipe) and "evaluate.wise_ft=0.7 instead of 1" in page(recipe)
    assert '<small class="gain"' not in page(recipe) and 'class="verdict lead loss"' in page(recipe)


def test_what_was_forgotten_is_said_before_everything_else(tmp_path: Path) -> None:
    sets = {"test": "/gone.parquet", "food": "/gone.parquet", "tools": "/gone.parquet"}
    recipe = recipe_of(tmp_path, sets, "run", "evaluate.off_target=[food, tools]")
    finish_database(recipe)
    finish_retrieval(recipe)
    finish_models(recipe)
    for name, num, food, tools in (("base", 100, 200, 200), ("random", 130, 200, 200), ("gated_image", 120, 150, 203)):
        score(recipe, name, {"test": right(num), "food": right(food), "tools": right(tools)})
    lines = report.run(recipe).splitlines()
    assert lines[0].startswith("Gated-image forgot: −16.7 points [") and "on food, for which it was not" in lines[0]
    assert lines[1].startswith("The control is better: against random pairs")
    assert "On tools, gated-image is not told apart from base CLIP" in "\n".join(lines[2:])
    others = summary(recipe)["other_sets"]
    assert others["food"]["off_target"] and others["food"]["told_apart"] and others["food"]["of"] == "gated_image"
    assert round(others["tools"]["gain"], 4) == 0.01 and not others["tools"]["told_apart"]


def test_a_set_off_target_is_no_headline(tmp_path: Path) -> None:
    recipe = recipe_of(
        tmp_path, {"mine": "/gone.parquet", "food": "/gone.parquet"}, "run", "evaluate.off_target=[food]"
    )
    finish_database(recipe)
    score(recipe, "base", {"mine": right(100), "food": right(200)})
    assert "top-1 accuracy on mine" in report.run(recipe)
    with pytest.raises(
        ConfigError, match=r"off_target: toys is no set of evaluate.datasets \(mine\); add it there, or"
    ):
        recipe_of(tmp_path, {"mine": "/gone.parquet"}, "run", "evaluate.off_target=[toys]")
    with pytest.raises(ConfigError, match=r"off_target: test is the headline; name another set as evaluate.headline"):
        recipe_of(tmp_path, {"test": "/gone.parquet"}, "run", "evaluate.off_target=[test]")


def test_scores_of_any_other_protocol_are_on_the_page(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"test": "/gone.parquet"})
    finish_all(recipe, gated_image=60)
    report.run(recipe)
    assert "Few labels" not in page(recipe) and "Other protocols" not in page(recipe)
    for place, scores in {
        "scores_few/base/test": [
            Score("tip-adapter", "base", "test", "mean", "task_metric", 0.5, N, 4, s) for s in (0, 1)
        ],
        "scores_segmentation/base/masks": [Score("segmentation", "base", "masks", "masks", "miou", 0.25, 7)],
    }.items():
        draft = create(f"{recipe.out}/{place}", SCORES, {}, {}, 1)
        draft.commit(0, score_table(scores), 1.0)
        draft.seal()
    report.run(recipe)
    html = page(recipe)
    assert (
        html.index("Methods and baselines")
        < html.index("Few labels")
        < html.index("segmentation on masks, points over 7")
    )
    assert "50.0 ± 0.0" in html and "33.3" in html  # 4 shots, and no labels


def test_a_recipe_without_arms_has_one_model(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"test": labelled_set(tmp_path / "test.parquet", N)}).model_copy(update={"arms": {}})
    finish_database(recipe)
    finish_retrieval(recipe)
    finish(f"{recipe.out}/model", MODEL, ModelFacts({}, "gated-image"))
    score(recipe, "base", {"test": right(100)})
    score(recipe, "", {"test": right(60)})
    text = report.run(recipe)
    assert text.startswith("Customized is below base CLIP, from which it started: −13.3 points [")
    assert summary(recipe)["best"] == "customized" and summary(recipe)["over_controls"] == {}
    assert "arm that trains on random pairs" in page(recipe) and "What was retrieved" in page(recipe)


def test_pictures_of_a_labelled_set_that_is_gone_are_left_out_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(tmp_path, {"test": str(tmp_path / "gone.parquet")})
    finish_all(recipe, gated_image=30)
    report.run(recipe)
    assert "no pictures of images that flipped: evaluate.datasets.test" in capsys.readouterr().err
    assert "Images that flipped" in page(recipe) and "Confusions" in page(recipe)


def test_other_seeds_widen_the_interval_and_must_be_scored_on_the_same_images(tmp_path: Path) -> None:
    datasets = {"test": str(tmp_path / "gone.parquet")}
    first = recipe_of(tmp_path, datasets)
    other = recipe_of(tmp_path, datasets, "other")
    finish_all(first, gated_image=60)
    finish_all(other, gated_image=0)
    report.run(first)
    alone = summary(first)["gains"]["gated_image"]
    report.run(other)
    both = recipe_of(tmp_path, datasets, "run", f"evaluate.other_runs=[{other.out}]")
    text = report.run(both)
    gain = summary(both)["gains"]["gated_image"]
    assert gain["gain"] == 0.1 and gain["high"] - gain["low"] > 2 * (alone["high"] - alone["low"])
    assert "over 2 seeds and images" in gain["method"] and not gain["told_apart"] and "not told apart" in text

    third = recipe_of(tmp_path, datasets, "third")
    finish_database(third)
    for name in ("base", *third.arms):
        score(third, name, {"test": right(100)[: N // 2]})
    report.run(third)
    with pytest.raises(ArtifactMismatch, match="are scores of different images; delete one of them"):
        report.run(recipe_of(tmp_path, datasets, "run", f"evaluate.other_runs=[{third.out}]"))


def test_a_row_that_learned_from_labelled_images_says_so(tmp_path: Path) -> None:
    labels = labelled_set(tmp_path / "labels.parquet", 6)
    recipe = recipe_of(tmp_path, {"test": labelled_set(tmp_path / "test.parquet", N)}, "run")
    mixed = {"customize.method": "locked-text", "customize.labelled": labels}
    recipe = recipe.model_copy(update={"arms": recipe.arms | {"locked_text": mixed}})
    finish_all(recipe, gated_image=20, locked_text=40)
    assert "locked-text (labelled images)" in report.run(recipe)
    assert "gated-image (labelled images)" not in page(recipe)


def test_a_task_by_another_metric_stands_in_a_table_of_its_own_and_in_the_summary(tmp_path: Path) -> None:
    task = {"classes": ["heron", "owl", "accordion"], "templates": ["{}"], "metric": "mean_per_class"}
    (tmp_path / "tasks.json").write_text(json.dumps({"tasks": {"birds": task}}))
    recipe = recipe_of(tmp_path, {"test": labelled_set(tmp_path / "test.parquet", N)})
    recipe = recipe.model_copy(update={"tasks": TasksConfig(file=str(tmp_path / "tasks.json"))})
    finish_models(recipe)
    correct = right(100)
    correct[1::3] = False  # no owl: recalls 34/100, 0 and 33/100
    better = correct.copy()
    better[1:61:3] = True  # 20 of the owls
    for name, found in (("base", correct), ("gated_image", better)):
        score(recipe, name, {"test": found})
    said = report.run(recipe)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    base = summary["task_metrics"]["birds mean_per_class"]["base"]
    value = summary["task_metrics"]["birds mean_per_class"]["gated_image"]
    assert base < value and base == pytest.approx((34 + 33) / 300)
    assert "by the metric that counts for each task\n" in said and "birds mean_per_class   mean" in said
    [of_task, of_mean] = summary["task_metric_gains"]
    assert (of_task["column"], of_mean["column"], of_task["row"]) == ("birds mean_per_class", "mean", "gated_image")
    for gain in (of_task, of_mean):
        assert gain["gain"] == pytest.approx(value - base, abs=1e-6) and gain["low"] > 0 and gain["told_apart"]
    assert f"{100 * value:.1f}*" in said and f"{100 * base:.1f}*" not in said
