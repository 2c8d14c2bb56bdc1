"""Fine-tuning is done for each row whose model has what its method trains, and gives the same wherever it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from react_ray.artifact import open_artifact
from react_ray.clip.prompts import load_tasks
from react_ray.draft import create
from react_ray.errors import ConfigError
from react_ray.evals.labelled import slices_of
from react_ray.evals.set_name import training_set
from react_ray.kinds import SCORES
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.stages.evaluating.few_shot_runs import learnings
from react_ray.stages.evaluating.few_shot_work import Job, Sets, predictions_of
from react_ray.stages.evaluating.fine_tune_runs import FineTuneFromShots
from tests.support.scored_run import CLASSES
from tests.support.shot_recipe import BASE, learned, shot_recipe

pytestmark = pytest.mark.usefixtures("without_ray")
GATED = replace(BASE, backbone=BASE.backbone.model_copy(update={"last_k_layers": 2}))
METHODS = "evaluate.shot_methods=[tip-adapter, fine-tune-gated, fine-tune-last]"


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    return partial(shot_recipe, tmp_path, "evaluate.shots=[1]", "evaluate.shot_seeds=[0]", METHODS)


def test_gated_blocks_are_tuned_where_there_are_some_and_the_other_methods_are_done_for_all(
    recipe: Callable[..., Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    found = learned(recipe(), {"base": BASE, "gated_image": GATED})
    methods = [[row["protocol"] for row in pa.concat_tables(one.tables()).to_pylist()] for one in found]
    assert set(methods[0]) == {"tip-adapter", "fine-tune-last"}
    assert set(methods[1]) == {"tip-adapter", "fine-tune-gated", "fine-tune-last"}
    assert "evaluate: base has no gated blocks to fine-tune" in capsys.readouterr().err
    predicted = [predictions_of(found[1], part) for part in range(found[1].num_parts)]
    assert [table.num_rows for table in predicted] == [12, 12, 12]
    [top1] = found[1].read(1).filter(pc.equal(found[1].read(1)["metric"], "top1")).to_pylist()[:1]
    assert top1["value"] == pytest.approx(pc.mean(pc.equal(predicted[1]["rank"], 0)).as_py())


def test_a_run_without_any_gated_block_is_refused_before_anything_is_learned(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(ConfigError, match="fine-tune-gated trains gated blocks, and this model has none; evaluate a"):
        learned(recipe(), {"base": BASE})
    assert not list(Path(recipe().out).glob("scores_few/**/part-*"))


def test_the_scores_do_not_depend_on_the_order_of_the_work_or_on_who_does_it(
    recipe: Callable[..., Recipe],
) -> None:
    of = recipe("evaluate.shot_methods=[fine-tune-last, fine-tune-all]")
    [whole] = learned(of, {"base": BASE})
    tasks, uri, layout = load_tasks(of.tasks), f"{of.out}/again", Layout(of)
    names = {"test": of.evaluate.datasets["test"], training_set("test"): of.evaluate.train["test"]}
    slices = {name: slices_of(name, source, tasks) for name, source in names.items()}
    sets = Sets(
        "base",
        "test",
        *(open_artifact(layout.labelled_features("base", name)) for name in names),
        open_artifact(layout.class_vectors("base")),
    )
    listed = learnings(of.evaluate, ["fine-tune-last", "fine-tune-all"])
    draft = create(uri, SCORES, {"learnings": listed}, sets.parents, len(listed))
    jobs = [Job(sets, draft, part, learning) for part, learning in enumerate(listed)]
    for number in reversed(range(len(jobs))):
        work = FineTuneFromShots(jobs, tasks, of, {"base": BASE}, slices)  # as in a process of its own
        work.setup()
        work(number, pa.table({}))
    assert draft.seal().content == whole.content
    assert {row["label"] for row in predictions_of(whole, 0).to_pylist()} == set(CLASSES)
