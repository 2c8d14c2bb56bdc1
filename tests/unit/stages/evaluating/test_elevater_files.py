"""`evaluate` writes its results as ELEVATER's toolkit and lm-evaluation-harness read them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from react_ray.cli import main
from react_ray.errors import ConfigError
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages import evaluate
from react_ray.stages.evaluating.elevater_files import write_elevater
from tests.support.scored_run import labelled_set
from tests.support.trained_run import trained_recipe


def recipe_of(folder: Path, more: dict[str, object] | None = None, **sets: str) -> Recipe:
    """A base and one arm, whose models are finished. more: of the section evaluate."""
    folder.mkdir(exist_ok=True)
    section = {"datasets": sets, "headline": next(iter(sets)), "pixel_pairs": 0, "max_unreadable": 1}
    trained_recipe(folder, section | (more or {}))
    path = folder / "recipe.yaml"
    path.write_text(path.read_text().replace("  linear: {customize.method: linear}\n", ""))
    return load_recipe(str(path))


@pytest.mark.usefixtures("without_ray")
def test_a_command_writes_probabilities_and_results_that_fit_its_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(tmp_path, test=labelled_set(tmp_path / "test.parquet", 12))
    elevater, lm_eval = tmp_path / "submission", tmp_path / "results"
    main(["evaluate", str(tmp_path / "recipe.yaml"), "--elevater", str(elevater), "--lm-eval", str(lm_eval)])
    again = tmp_path / "again"
    main(["evaluate", str(tmp_path / "recipe.yaml"), "--lm-eval", str(again)])  # nothing to do but to write
    assert (again / "results_base.json").read_bytes() == (lm_eval / "results_base.json").read_bytes()
    assert f"wrote {elevater}/gated_image/birds.json" in capsys.readouterr().err
    assert sorted(str(path.relative_to(elevater)) for path in elevater.rglob("*.json")) == [
        "base/birds.json",
        "gated_image/birds.json",
    ]
    scores = json.loads(Path(recipe.out, "scores.json").read_text())
    base, gated = (json.loads((elevater / row / "birds.json").read_text()) for row in ("base", "gated_image"))
    assert gated["num_visual_params"] > base["num_visual_params"] and base["rnd_seeds"] == [0]
    for row, found in (("base", base), ("gated_image", gated)):
        probability_NC = np.array(found["predictions"][0])
        assert probability_NC.shape == (12, 3)
        top1 = (probability_NC.argmax(axis=1) == np.arange(12) % 3).mean()
        of_row = {(one["task"], one["metric"]): one["value"] for one in scores if one["model"] == row}
        results = json.loads((lm_eval / f"results_{row}.json").read_text())["results"]["test_birds"]
        assert top1 == pytest.approx(of_row["birds", "top1"]) == pytest.approx(results["acc,none"])


@pytest.mark.usefixtures("without_ray")
def test_what_cannot_be_a_submission_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    one = labelled_set(tmp_path / "one.parquet", 6)
    recipe = recipe_of(tmp_path, one=one, two=labelled_set(tmp_path / "two.parquet", 6))
    evaluate.run(recipe)
    with pytest.raises(ConfigError, match=r"datasets\.one and evaluate\.datasets\.two both have images of birds"):
        write_elevater(recipe, str(tmp_path / "submission"))
    table = pq.read_table(one)
    images = pc.if_else(pa.array([True] * 5 + [False]), table["image"], pa.scalar(b"no image", pa.binary()))
    pq.write_table(table.set_column(0, "image", images), tmp_path / "bad.parquet")
    other = recipe_of(tmp_path / "other", test=str(tmp_path / "bad.parquet"))
    evaluate.run(other)
    with pytest.raises(ConfigError, match="1 of 6 images cannot be decoded, and a submission to ELEVATER needs a pred"):
        write_elevater(other, str(tmp_path / "submission"))
    assert not (tmp_path / "submission").exists()


@pytest.mark.usefixtures("without_ray")
def test_a_draw_of_shots_is_a_row_of_probabilities_and_a_seed(tmp_path: Path) -> None:
    test, train = (labelled_set(tmp_path / f"{name}.parquet", num) for name, num in (("test", 12), ("train", 6)))
    few = {"train": {"birds": train}, "shots": [1], "shot_methods": ["elevater-probe", "tip-adapter"]}
    recipe = recipe_of(tmp_path, few | {"shot_seeds": [0, 3]}, birds=test)
    evaluate.run(recipe)
    with pytest.raises(ConfigError, match=r"scores_few/base/birds has no probabilities of all classes; set"):
        write_elevater(recipe, str(tmp_path / "without"))
    out = tmp_path / "submission"
    main(["evaluate", str(tmp_path / "recipe.yaml"), "--elevater", str(out)])
    names = ("", "_elevater-probe_1-shot_best-epoch-on-the-test-set", "_elevater-probe_1-shot_last-epoch")
    folders = [f"{row}{name}" for row in ("base", "gated_image") for name in (*names, "_tip-adapter_1-shot")]
    assert sorted(path.name for path in out.iterdir()) == sorted(folders)
    zero, probe, cache = (json.loads((out / folders[at] / "birds.json").read_text()) for at in (0, 2, 3))
    assert (probe["n_shot"], probe["rnd_seeds"], zero["rnd_seeds"]) == (1, [0, 3], [0])
    assert probe["num_trainable_params"] == 3 * (16 + 1) and cache["num_trainable_params"] == 0
    assert probe["num_params"] - probe["num_trainable_params"] == zero["num_params"] == probe["num_backbone_params"]
    scores = json.loads(Path(recipe.out, "scores.json").read_text())
    of_probe = [one for one in scores if one["model"] == "base" and one["setting"] == "last epoch"]
    assert np.shape(probe["predictions"]) == (2, 12, 3)
    for seed, probability_NC in zip((0, 3), np.array(probe["predictions"]), strict=True):
        [top1] = [
            one["value"] for one in of_probe if (one["task"], one["metric"], one["seed"]) == ("birds", "top1", seed)
        ]
        assert (probability_NC.argmax(axis=1) == np.arange(12) % 3).mean() == pytest.approx(top1)
        np.testing.assert_allclose(probability_NC.sum(axis=1), 1, atol=1e-5)
