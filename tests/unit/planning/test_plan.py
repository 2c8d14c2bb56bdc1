"""The plan of a whole job: what it says of a good recipe, what it finds wrong in a bad one, and what counts as done."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.cli import main
from react_ray.draft import create
from react_ray.kinds import EMBEDDINGS, PAIRS, RETRIEVED, PairsFacts, RetrievedFacts
from react_ray.planning.job_plan import JobPlan, StagePlan
from react_ray.planning.machine import Machine
from react_ray.planning.plan import _disk, plan_job
from react_ray.planning.run_stages import pairs_of
from react_ray.planning.survey import Sample, Survey, look
from react_ray.planning.throughput import measure, stated
from react_ray.recipe import Recipe, load_recipe
from react_ray.storage import open_storage
from tests.support.small_run import small_recipe

ARMS = ["customize random", "customize other", "customize gated_image"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return load_recipe(small_recipe(tmp_path_factory.mktemp("plan")))


@pytest.fixture(scope="module")
def planned(recipe: Recipe) -> JobPlan:
    return plan_job(recipe)


def by_name(plan: JobPlan) -> dict[str, StagePlan]:
    return {stage.stage: stage for stage in plan.stages}


def test_each_stage_of_a_good_recipe_has_rows_bytes_memory_time_and_a_reason(recipe: Recipe, planned: JobPlan) -> None:
    assert planned.problems == []
    stages = by_name(planned)
    assert list(stages) == ["ingest", "embed", "index", "retrieve", *ARMS, "evaluate"]
    for stage in planned.stages:
        assert stage.state == "to do" and stage.how and stage.requests == 0
        assert stage.rows and stage.bytes_read and stage.bytes_written and stage.memory_gb
        assert stage.seconds is not None
    assert stages["ingest"].rows == stages["embed"].rows == 1200
    assert stages["index"].rows == 2 * 1200
    assert stages["embed"].bytes_written == 1200 * 2 * 2 * 16  # float16, both sides of a pair, 16 dimensions
    assert stages["customize gated_image"].rows == 1200  # no more than the pool, whatever the search allows
    assert stages["customize gated_image"].how.startswith(f"{round(3.2 * (1200 // 64))} steps of 64 pairs")
    assert planned.seconds == pytest.approx(sum(stage.seconds or 0 for stage in planned.stages))
    facts = dict(planned.facts)
    assert facts["source"].startswith("sample://pool.parquet: 1,200 rows; columns: image = image, caption = caption")
    assert "of 2 tasks" in facts["classes"] and facts["sets"].startswith("test ") and "cores" in facts["machine"]
    assert any("peak of a worker" in lines for lines in planned.trainings)
    assert not Path(recipe.database).exists() and not Path(recipe.out).exists(), "a plan writes nothing"


def test_a_second_stage_has_a_line_of_its_own_and_a_grid_that_the_tower_has_not_is_a_problem(recipe: Recipe) -> None:
    arms = {"gated_image": {"customize.head": True, "customize.head_grid": 2, "customize.head_views": 0}}
    wanted = recipe.model_copy(update={"arms": arms})
    stage = by_name(plan_job(wanted))["customize gated_image+head"]
    assert stage.rows == 1200 and stage.seconds and stage.how.startswith("vectors of 144 numbers of 1,200 images")
    assert stage.bytes_written and stage.bytes_written > 1200 * 2 * 144
    arms["gated_image"]["customize.head_grid"] = 9
    assert any("9 x 9 cells are more than the 4 x 4" in line for line in plan_job(wanted).problems)


def test_labelled_images_count_for_the_training_and_are_all_of_the_second_stage(recipe: Recipe) -> None:
    labelled = {"customize.labelled": "sample://validation.parquet", "customize.labelled_shots": 2}
    alone = {"customize.labelled_share": 1, "customize.batch_size": 16, "customize.epochs": 40}
    arms: dict[str, dict[str, Any]] = {"mixed": {**labelled, "customize.head": True}, "alone": {**labelled, **alone}}
    plan = plan_job(recipe.model_copy(update={"arms": arms}), quick=True)
    counted = dict(plan.facts)["labelled mixed"]
    images = int(counted.split()[0].replace(",", ""))
    assert counted == dict(plan.facts)["labelled alone"] and 0 < images <= 2 * int(counted.split()[-2])
    stages = by_name(plan)
    assert stages["customize mixed"].rows == 2 * 1200 and stages["customize alone"].rows == pytest.approx(images, abs=9)
    assert stages["customize mixed+head"].rows == images and not plan.problems
    arms["mixed"]["customize.labelled"] = "sample://nowhere.parquet"
    assert any(
        line.startswith("customize.labelled: ")
        for line in plan_job(recipe.model_copy(update={"arms": arms}), quick=True).problems
    )


def test_every_problem_is_said_and_not_only_the_first(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"image": [b"no image"], "label": ["no such class"]}), tmp_path / "set.parquet")
    pq.write_table(pa.table({"image": [b"no image"] * 3, "caption": ["one"] * 3}), tmp_path / "pool.parquet")
    bad = small_recipe(
        tmp_path / "bad",
        ingest={"source": str(tmp_path / "pool.parquet")},
        evaluate={"datasets": {"test": str(tmp_path / "set.parquet"), "gone": str(tmp_path / "gone.parquet")}},
        cluster={"memory_gb": 0.5},
        retrieve={"filters": ["width is big"]},
    )
    with pytest.raises(SystemExit) as ended:
        main(["plan", bad, "--quick"])
    assert ended.value.code == 2
    problems = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem: ")]
    for part in (
        "none of the first 3 images of",
        "evaluate.datasets.test",
        "evaluate.datasets.gone",
        "retrieve.filters",
        "ingest needs about",
        "customize random: customize.batch_size 64 is larger than the 3 pairs",
    ):
        assert [line for line in problems if part in line], part
    assert all("; " in line for line in problems), "each ends with what to do"
    assert len(set(problems)) == len(problems), "each is said once"


def test_a_source_that_is_not_there_and_class_names_that_are_not_there_are_both_said(tmp_path: Path) -> None:
    bad = small_recipe(
        tmp_path, ingest={"source": str(tmp_path / "gone.parquet")}, tasks={"file": str(tmp_path / "gone.json")}
    )
    plan = plan_job(load_recipe(bad), quick=True)
    assert len([line for line in plan.problems if "gone.parquet" in line]) == 1
    assert len([line for line in plan.problems if "gone.json" in line]) == 1
    assert plan.seconds is None


def test_json_is_one_object_for_programs(recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", small_recipe(tmp_path), "--json", "--quick"])
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "small" and found["problems"] == [] and found["facts"]["models"]
    assert [stage["stage"] for stage in found["stages"]][-1] == "evaluate"
    assert found["stages"][0]["seconds"] is None, "nothing states how long decoding takes"
    assert found["stages"][1]["seconds"] > 0 and "stated" not in found["stages"][0]["how"]


def half_made(folder: Path) -> Recipe:
    """Pairs are all there, embeddings to a half, and what was retrieved is known."""
    recipe = load_recipe(small_recipe(folder))
    rows = pa.table({"row": range(200)})
    pairs = create(f"{recipe.database}/pairs", PAIRS, recipe.ingest.digested(), {}, 6)
    embeddings = create(f"{recipe.database}/embeddings", EMBEDDINGS, {}, {}, 6)
    for part in range(6):
        pairs.commit(part, rows, 0.5)
    for part in range(3):
        embeddings.commit(part, rows, 0.5)
    pairs.seal(PairsFacts())
    retrieved = create(f"{recipe.out}/retrieved", RETRIEVED, {}, {}, 1)
    retrieved.commit(0, pa.table({"row": range(130)}), 0.0)
    retrieved.seal(RetrievedFacts({}, 16, []))
    return recipe


def test_what_is_finished_is_done_and_what_is_half_finished_is_half_of_the_work(tmp_path: Path) -> None:
    stages = by_name(plan_job(half_made(tmp_path), quick=True))
    assert (stages["ingest"].state, stages["ingest"].seconds, stages["ingest"].rows) == ("done", None, 1200)
    assert (stages["embed"].state, stages["embed"].rows) == ("50 % done", 600)
    assert stages["customize gated_image"].rows == 130
    assert stages["customize gated_image"].how.startswith(f"{round(3.2 * 2)} steps of 64 pairs")
    assert stages["retrieve"].state == "to do", "the random control has a retrieval of its own"


def test_a_database_of_another_source_is_a_problem(tmp_path: Path) -> None:
    recipe = half_made(tmp_path)
    other = recipe.model_copy(update={"ingest": recipe.ingest.model_copy(update={"rows_per_part": 100})})
    found = [line for line in look(other).problems if "was made of another source" in line]
    assert len(found) == 1 and "rows_per_part was 200, now 100; name another `database`" in found[0]


def test_a_run_of_another_recipe_is_a_problem(tmp_path: Path) -> None:
    recipe = half_made(tmp_path)
    open_storage(recipe.out).write("recipe.yaml", recipe.yaml().encode())
    assert look(recipe).problems == []
    found = look(recipe.model_copy(update={"seed": 1})).problems
    assert len(found) == 1 and "is a run of another recipe: recipe.seed was 0, now 1; use out=" in found[0]


def urls(tmp_path: Path, **changes: Any) -> Recipe:
    rows = "".join(f"http://localhost/{n}.jpg,a heron number {n}\n" for n in range(5000))
    (tmp_path / "urls.csv").write_text(f"url,caption\n{rows}")
    return load_recipe(small_recipe(tmp_path, ingest={"source": str(tmp_path / "urls.csv")}, **changes))


def test_a_url_list_is_one_request_per_row_and_its_time_is_not_guessed(tmp_path: Path) -> None:
    plan = plan_job(urls(tmp_path), quick=True)
    stages = by_name(plan)
    assert list(stages)[:4] == ["ingest", "download", "embed", "index"]
    found = stages["download"]
    assert (found.rows, found.requests, found.seconds, found.bytes_read) == (5000, 5000, None, 5000 * 90e3)
    assert found.how == "90 kB per image is an assumption; no URL is fetched to find out"
    assert "without ingest, download" in plan.text()


def test_images_that_are_fetched_for_what_was_retrieved_are_requests_for_these_alone(tmp_path: Path) -> None:
    recipe = urls(
        tmp_path,
        download={"of": "retrieved"},
        embed={"images": False},
        retrieve={"keys": ["text"], "k": 8, "pairs_per_class": 2},
        index={"keys": ["text"]},
        arms={},
    )
    stages = by_name(plan_job(recipe, quick=True))
    num_classes = look(recipe).num_classes
    assert "download" in stages and stages["download"].requests == 2 * num_classes == stages["customize"].rows
    assert stages["embed"].requests == 0


def test_the_first_arm_that_needs_image_vectors_makes_them_where_the_database_has_none(tmp_path: Path) -> None:
    arms = {
        "a": {"customize.method": "locked-text"},
        "b": {"customize.method": "knn"},
        "c": {"customize.method": "knn"},
    }
    recipe = load_recipe(small_recipe(tmp_path, arms=arms, retrieve={"keys": ["text"], "k": 8}))
    without = recipe.model_copy(update={"embed": recipe.embed.model_copy(update={"images": False})})
    stored, made = (by_name(plan_job(one, quick=True)) for one in (recipe, without))
    assert made["customize b"].how == "a head on the vectors of the retrieved images, made first"
    assert made["customize c"].how == stored["customize b"].how == "a head on stored vectors, no model runs"
    assert made["embed"].bytes_written < stored["embed"].bytes_written


def test_images_of_the_whole_database_that_stay_where_they_are_contradict_their_embedding(tmp_path: Path) -> None:
    plan = plan_job(urls(tmp_path, download={"of": "retrieved"}), quick=True)
    assert any(line.startswith("embed.images needs the images of the whole database") for line in plan.problems)


def test_a_full_disk_is_found_before_it_is_full(recipe: Recipe) -> None:
    found = Survey(recipe)
    large = StagePlan("embed", "to do", bytes_written=2.0**60)
    _disk(found, [large, StagePlan("customize", "to do", bytes_written=1.0)])
    [problem] = found.problems
    assert problem.startswith("the job writes about 1048576 TB to the disk of") and problem.endswith("`database`")
    fits = Survey(recipe)
    _disk(fits, [StagePlan("embed", "to do", bytes_written=1.0)])
    assert fits.problems == [] and dict(fits.facts)["disk"].endswith("0 kB to write there")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    recipe = load_recipe(small_recipe(tmp_path, out=str(tmp_path / "shut/run")))
    assert any("cannot be written to" in line for line in look(recipe).problems)


def test_arms_that_train_alike_are_tried_once_and_every_model_has_its_own_speed(recipe: Recipe) -> None:
    machine = Machine(2, 2**33, 2**33)
    rates = measure(recipe, look(recipe).sample, machine, limit_s=600)  # a slow core needs more than 20 s
    assert rates.missing == {} and set(rates.arms) == {"random", "other", "gated_image"}
    assert rates.arms["random"] is rates.arms["gated_image"] is not rates.arms["other"]
    assert rates.backbone and rates.read_s and rates.flop_per_s
    assert min(rates.arms["other"].pair_s, rates.arms["other"].optimizer_s, rates.backbone.text_s) > 0
    late = measure(recipe, look(recipe).sample, machine, limit_s=0)
    assert late.backbone and set(late.missing.values()) == {"not measured: the 20 seconds for it were over"}


def test_a_model_that_would_not_fit_beside_the_rest_is_not_tried(recipe: Recipe) -> None:
    small = Machine(2, 2**33, 2**20)
    rates = measure(recipe, look(recipe).sample, small)
    assert rates.backbone is None and "weights are too many to try out here" in rates.missing[""]


def test_stated_rates_follow_from_the_model_alone(recipe: Recipe) -> None:
    machine = Machine(2, 2**33, 2**33)
    sample = Sample(captions=["a heron by the water"])
    one, other = stated(recipe, sample, machine), stated(recipe, sample, machine)
    assert one == other and one.backbone and one.backbone.image_s > 0 and one.read_s is None
    assert one.arms["gated_image"].pair_s == pytest.approx(3 * one.arms["gated_image"].image_s)
    with_gpu = recipe.model_copy(update={"cluster": recipe.cluster.model_copy(update={"gpus_per_actor": 1})})
    assert stated(with_gpu, sample, Machine(2, 2**33, 2**33, "a GPU")).backbone is None
    longer = stated(recipe, Sample(captions=["a heron by the water" * 10]), machine)
    assert longer.backbone and longer.backbone.text_s > one.backbone.text_s


def test_gpus_that_this_machine_does_not_have_are_a_problem_and_not_asked_of_a_cluster(tmp_path: Path) -> None:
    recipe = load_recipe(small_recipe(tmp_path), ["customize.gpus_per_worker=64", "cluster.gpus_per_actor=64"])
    asked = [line for line in plan_job(recipe, quick=True).problems if "asks for more GPUs than this machine" in line]
    assert [line.split("=")[0] for line in asked] == ["cluster.gpus_per_actor", "customize.gpus_per_worker"]
    elsewhere = recipe.model_copy(update={"cluster": recipe.cluster.model_copy(update={"roles": True})})
    found = plan_job(elsewhere, quick=True)
    assert found.problems == [] and any("nodes of a cluster" in note for note in found.notes)


def test_a_search_allows_no_more_pairs_than_its_hits(tmp_path: Path) -> None:
    limited = load_recipe(small_recipe(tmp_path, retrieve={"keys": ["text"], "k": 8, "pairs_per_class": 1}))
    found = look(limited)
    assert pairs_of(found, "gated_image") == found.num_classes < 1200


def test_places_on_s3_cost_requests_and_have_no_full_disk(s3: str, tmp_path: Path) -> None:
    places = {"database": f"{s3}/{tmp_path.name}/database", "out": f"{s3}/{tmp_path.name}/run"}
    plan = plan_job(load_recipe(small_recipe(tmp_path, **places)), quick=True)
    assert plan.problems == [] and "disk" not in dict(plan.facts)
    stages = by_name(plan)
    assert stages["ingest"].requests == 2 * stages["index"].requests == 4 * 6 * 2  # 6 parts of pairs and of images
    assert open_storage(places["database"]).list() == open_storage(places["out"]).list() == []
