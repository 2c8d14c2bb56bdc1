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
from react_ray.stages.evaluating.result_files import write_elevater
from tests.support.scored_run import labelled_set
from tests.support.trained_run import trained_recipe


def recipe_of(folder: Path, **sets: str) -> Recipe:
    """A base and one arm, whose models are finished."""
    folder.mkdir(exist_ok=True)
    trained_recipe(folder, {"datasets": sets, "headline": next(iter(sets)), "pixel_pairs": 0, "max_unreadable": 1})
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
