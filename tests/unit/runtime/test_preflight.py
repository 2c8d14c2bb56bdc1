"""A run belongs to one recipe as far as something in it depends on it, and what a stage needs is looked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.errors import ArtifactMismatch, ConfigError, ReactRayError
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.preflight import begin, require
from react_ray.runtime.stage_order import stages_of
from tests.support.scored_run import labelled_set

RECIPE = """
name: test
database: {0}/database
out: {0}/run
backbone: {{name: ViT-B-32}}
ingest: {{source: "sample://pool.parquet"}}
"""


def recipe(folder: Path, *overrides: str) -> Recipe:
    """A recipe with these overrides, in whose run `made` marks what was made."""
    (folder / "recipe.yaml").write_text(RECIPE.format(folder))
    return load_recipe(str(folder / "recipe.yaml"), list(overrides))


def made(folder: Path, *places: str) -> None:
    """Leaves at these places of the run what a stage leaves that has begun."""
    for place in places:
        (folder / "run" / place).mkdir(parents=True)
        (folder / "run" / place / "_building.json").write_text("{}")


@pytest.mark.parametrize("left", ["", "name: [", "\x00", "of_tomorrow: 1", "- 1"])
def test_a_run_that_ended_before_its_first_result_belongs_to_no_recipe(tmp_path: Path, left: str) -> None:
    begin(recipe(tmp_path), "ingest")
    (tmp_path / "run/costs.json").write_text("{}")
    if left:
        (tmp_path / "run/recipe.yaml").write_text(left)
    begin(recipe(tmp_path, "seed=7"), "ingest")
    assert load_recipe(str(tmp_path / "run/recipe.yaml")).seed == 7


def test_a_command_that_is_refused_leaves_the_recipe_of_the_run_as_it_was(tmp_path: Path) -> None:
    begin(recipe(tmp_path), "ingest")
    kept = (tmp_path / "run/recipe.yaml").read_text()
    with pytest.raises(ConfigError, match=r"evaluate\.datasets is empty"):
        begin(recipe(tmp_path, "name=other"), "run", ["evaluate"])
    assert (tmp_path / "run/recipe.yaml").read_text() == kept


@pytest.mark.parametrize(
    ("left", "shown"),
    [
        ("", "is a run of another recipe: recipe.seed was 0, now 7"),
        ("name: [", r"is not YAML .* at line 1, column 8"),
        ("of_tomorrow: 1", "not a recipe of this version of react_ray .backbone: missing"),
    ],
)
def test_a_run_with_results_is_not_taken_by_another_recipe(tmp_path: Path, left: str, shown: str) -> None:
    begin(recipe(tmp_path), "ingest")
    made(tmp_path, "retrieved")
    if left:
        (tmp_path / "run/recipe.yaml").write_text(left)
    whole = (tmp_path / "run/recipe.yaml").read_text()
    with pytest.raises(ArtifactMismatch, match=shown) as caught:
        begin(recipe(tmp_path, "seed=7"), "ingest")
    assert str(caught.value).isprintable() and "use out=" in str(caught.value)
    assert (tmp_path / "run/recipe.yaml").read_text() == whole


ARMS = ("arms.one.customize.lr=0.001", "arms.two.retrieve.k=5")
RETRIEVED = ("queries", "hits", "selected", "retrieved", "images")


@pytest.mark.parametrize(
    ("exists", "override"),
    [
        ((), "seed=7"),
        (("retrieved",), "customize.lr=0.1"),
        (("retrieved",), "name=other"),
        (("retrieved",), "evaluate.datasets.test=sample://test.parquet"),
        (("retrieved", "arms/one/model"), "arms.two.customize.lr=0.1"),
        (("retrieved", "arms/one/model"), "arms.two.retrieve.k=6"),
        (("retrieved", "arms/one/model"), "arms.three.customize.method=full"),
        (("retrieved", "arms/one/model"), "evaluate.wise_ft=0.5"),
        (
            ("retrieved", "arms/one/model", "arms/one/scores", "scores/base"),
            "evaluate.datasets.more=sample://x.parquet",
        ),
        (("retrieved", "arms/one/model", "arms/one/scores", "scores/base"), "arms.two.customize.lr=0.1"),
        (("retrieved", "arms/one/model", "arms/one/scores", "scores/base"), "embed.batch_size=7"),
    ],
)
def test_a_field_may_change_while_nothing_depends_on_it(tmp_path: Path, exists: tuple[str, ...], override: str) -> None:
    begin(recipe(tmp_path, *ARMS), "run")
    made(tmp_path, *exists)
    begin(recipe(tmp_path, *ARMS, override), "run")
    name, _, value = override.partition("=")
    assert value.rpartition("/")[2] in (tmp_path / "run/recipe.yaml").read_text(), f"{name} is not kept"


@pytest.mark.parametrize(
    ("exists", "override", "said", "gone"),
    [
        (RETRIEVED, "retrieve.k=7", "recipe.retrieve.k was 0, now 7", RETRIEVED),
        (RETRIEVED, "ingest.max_rows=7", "recipe.ingest.max_rows was 0, now 7", RETRIEVED),
        (("retrieved", "arms/one/model", "arms/one/checkpoints"), "arms.one.customize.lr=0.1",
         "recipe.customize.lr was 0.001, now 0.1", ("arms/one/model", "arms/one/checkpoints")),
        (("retrieved", "arms/one/model"), "arms.one.customize.labelled=sample://x.parquet",
         "recipe.customize.labelled was None, now 'sample://x.parquet'", ("arms/one/model",)),
        (("retrieved", "arms/one/model"), "retrieve.k=7", "recipe.retrieve.k was", ("retrieved", "arms/one/model")),
        (("retrieved", "arms/two/retrieved"), "arms.two.retrieve.k=7", "recipe.retrieve.k was 5, now 7",
         ("arms/two/retrieved",)),
        (("arms/one/scores", "scores/base"), "evaluate.wise_ft=0.5", "recipe.evaluate.wise_ft was 1.0, now 0.5",
         ("scores", "arms/one/scores")),
        (("scores/base",), "evaluate.datasets.test=sample://pool.parquet", "recipe.evaluate.datasets was", ("scores",)),
    ],
)  # fmt: skip
def test_a_field_that_something_depends_on_is_refused_with_what_to_delete_and_then_allowed(
    tmp_path: Path, exists: tuple[str, ...], override: str, said: str, gone: tuple[str, ...]
) -> None:
    test_set = "evaluate.datasets.test=sample://test.parquet"
    begin(recipe(tmp_path, *ARMS, test_set), "run")
    made(tmp_path, *exists)
    kept = (tmp_path / "run/recipe.yaml").read_text()
    with pytest.raises(ArtifactMismatch, match="for a new run, or delete what depends on it") as caught:
        begin(recipe(tmp_path, *ARMS, test_set, override), "run")
    told = str(caught.value)
    places = told[told.index("there (") + len("there (") : told.rindex(")")].split(", ")
    assert said in told and sorted(places) == sorted(gone)
    assert (tmp_path / "run/recipe.yaml").read_text() == kept
    for place in gone:
        shutil.rmtree(tmp_path / "run" / place)
    begin(recipe(tmp_path, *ARMS, test_set, override), "run")


def test_sets_that_retrieval_excluded_may_not_change(tmp_path: Path) -> None:
    wanted = ("retrieve.decontaminate.datasets=[all]", "retrieve.decontaminate.cosine=0.9")
    begin(recipe(tmp_path, *wanted, "evaluate.datasets.test=sample://test.parquet"), "run")
    made(tmp_path, "retrieved")
    more = ("evaluate.datasets.test=sample://test.parquet", "evaluate.datasets.more=sample://validation.parquet")
    with pytest.raises(ArtifactMismatch, match=r"recipe\.evaluate\.datasets was .*test.*, now .*more"):
        begin(recipe(tmp_path, *wanted, *more), "run")


def test_a_removed_arm_stays_and_comes_back_only_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(recipe(tmp_path, *ARMS), "run")
    made(tmp_path, "retrieved", "arms/one/model", "arms/two/retrieved")
    begin(recipe(tmp_path, ARMS[1]), "run")
    said = capsys.readouterr().err
    assert f"no longer has the arm one; {tmp_path}/run/arms/one stays" in said and "two" not in said
    with pytest.raises(ArtifactMismatch, match=r"customize\.lr was 0\.001, now 0\.5"):
        begin(recipe(tmp_path, ARMS[1], "arms.one.customize.lr=0.5"), "run")
    begin(recipe(tmp_path, *ARMS), "run")


def test_a_run_without_arms_may_get_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(recipe(tmp_path), "run")
    made(tmp_path, "retrieved", "model")
    begin(recipe(tmp_path, ARMS[0]), "run")
    assert f"model without a name, since it has arms now; {tmp_path}/run/model stays" in capsys.readouterr().err


@pytest.mark.parametrize("stages", [["customize"], ["index"], ["embed", "index"]])
def test_what_a_stage_needs_and_is_not_there_is_one_line(tmp_path: Path, stages: list[str]) -> None:
    with pytest.raises(ReactRayError) as caught:
        require(recipe(tmp_path), stages)
    assert str(caught.value).isprintable() and "RECIPE` first" in str(caught.value)


def test_evaluate_alone_needs_a_set_and_a_run_leaves_it_out(tmp_path: Path) -> None:
    wanted = recipe(tmp_path, "tasks.class_names=[owl]")
    with pytest.raises(ConfigError, match=r"evaluate\.datasets is empty, .*evaluate\.datasets\.test=FILE"):
        require(wanted, ["evaluate"])
    assert "evaluate" not in stages_of(wanted)


def test_shots_are_counted_before_anything_is_trained(tmp_path: Path) -> None:
    test, train = (labelled_set(tmp_path / name, 6) for name in ("test.parquet", "train.parquet"))
    sets = [f"evaluate.datasets.test={test}", f"evaluate.train.test={train}", "evaluate.shots=[2, 3]"]
    wanted = recipe(tmp_path, "tasks.class_names=[heron, owl, accordion]", *sets)
    with pytest.raises(ConfigError, match="3 shots are asked for of each class, and the class 'heron' has 2"):
        require(wanted, ["ingest", "evaluate"])


def test_vectors_of_another_model_are_refused_before_ray_starts(tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 0.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"caption": ["a"], "image_vector": vectors}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"of image_vector have 2 dimensions, .* set backbone.name to the model"):
        require(recipe(tmp_path, f"ingest.source={tmp_path}/a.parquet"), ["ingest"])
