"""status says what is done, what has begun and how far, who is at work, and which command goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from react_ray import lease
from react_ray.cli import main
from react_ray.draft import Draft, create
from react_ray.kinds import INDEX, MODEL, RETRIEVED, ModelFacts, RetrievedFacts
from react_ray.lease import leases, take
from react_ray.recipe import Recipe, load_recipe
from react_ray.stages.status import Stage, status_of
from react_ray.storage import Storage, open_storage
from tests.support.searchable import ANIMALS, many, png, write_index, write_searchable


def recipe_at(place: str, folder: Path) -> Recipe:
    values = {
        "name": "mine",
        "out": f"{place}/run",
        "database": f"{place}/database",
        "backbone": {"name": "sample://base_clip.json", "pretrained": "random"},
        "ingest": {"source": "sample://pool.parquet"},
        "tasks": {"class_names": ["heron", "duck"]},
        "customize": {"epochs": 4, "batch_size": 10, "warmup_steps": 2},
        "evaluate": {"datasets": {"test": "sample://test.parquet"}},
        "arms": {"one": {}, "other": {"customize.method": "locked-text"}},
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return load_recipe(str(path))


def stages(recipe: Recipe) -> dict[str, Stage]:
    return {stage.verb: stage for stage in status_of(recipe, "react-ray run mine.yaml").stages}


def retrieved(recipe: Recipe, num_parts: int = 2) -> Draft[RetrievedFacts]:
    draft = create(f"{recipe.out}/retrieved", RETRIEVED, {}, {}, num_parts)
    for part in range(num_parts):
        draft.commit(part, pa.table({"pair_id": range(25)}), 0.0)
    return draft


def test_nothing_is_there(place: Storage, tmp_path: Path) -> None:
    recipe = recipe_at(place.uri, tmp_path)
    found = status_of(recipe, "react-ray run mine.yaml")
    verbs = ["ingest", "download", "embed", "index", "retrieve", "customize", "evaluate", "report"]
    assert [(stage.verb, stage.state) for stage in found.stages] == [(verb, "open") for verb in verbs]
    assert (found.next, found.holders) == ("react-ray run mine.yaml", [])
    assert place.list() == []


def test_parts_of_what_has_begun_are_counted(place: Storage, tmp_path: Path) -> None:
    recipe = recipe_at(place.uri, tmp_path)
    write_searchable(recipe.database, [ANIMALS, many(5)], png(tmp_path))
    index = create(f"{recipe.database}/index", INDEX, {}, {}, 4)
    index.commit_files(0, {"a": b"a"}, 0.0, 1)
    found = stages(recipe)
    assert "download" not in found, "ingest made these images"
    assert [found[verb].state for verb in ("ingest", "embed", "index", "retrieve")] == ["done", "done", "begun", "open"]
    [begun] = found["index"].artifacts
    assert (begun.done, begun.total, begun.unit) == (1, 4, "parts") and begun.since.endswith("Z")


def test_parts_that_were_added_since_are_named(tmp_path: Path) -> None:
    recipe = recipe_at(str(tmp_path), tmp_path)
    write_searchable(recipe.database, [ANIMALS])
    write_index(recipe.database, 1)
    assert stages(recipe)["index"].note == ""
    write_searchable(recipe.database, [ANIMALS, many(3), many(4)])
    assert stages(recipe)["index"].note == "2 parts of embeddings were added since"
    assert status_of(recipe, "again").next == "again"


def test_steps_of_a_training_come_from_its_metrics(tmp_path: Path) -> None:
    recipe = recipe_at(str(tmp_path), tmp_path)
    retrieved(recipe).seal(RetrievedFacts({}, 16, []))
    create(f"{recipe.out}/arms/one/model", MODEL, {}, {}, 1)
    create(f"{recipe.out}/arms/other/model", MODEL, {}, {}, 1).commit_files(0, {"a": b"a"}, 0.0, 1)
    open_storage(recipe.out).write("metrics/train-one.jsonl", b'{"step": 1, "loss": 2.0}\n{"step": 7, "loss": 1.5}\n')
    one, other = stages(recipe)["customize"].artifacts
    assert (one.state, one.done, one.total, one.unit) == ("begun", 7, 20, "steps")  # 4 epochs of 5 batches
    assert (other.state, other.done) == ("begun", 0)
    open_storage(recipe.out).at("arms/other").delete_all("model")
    sealed = create(f"{recipe.out}/arms/other/model", MODEL, {}, {}, 1)
    sealed.commit_files(0, {"a": b"a"}, 0.0, 1)
    sealed.seal(ModelFacts({}, "locked-text"))
    assert [one.state for one in stages(recipe)["customize"].artifacts] == ["begun", "done"]


def test_a_damaged_artifact_is_said_in_its_line(tmp_path: Path) -> None:
    recipe = recipe_at(str(tmp_path), tmp_path)
    write_searchable(recipe.database, [ANIMALS])
    (tmp_path / "database/embeddings/_building.json").write_text("{")
    [embeddings] = stages(recipe)["embed"].artifacts
    assert embeddings.state == "begun" and "embeddings/_building.json is not JSON" in embeddings.problem


def test_who_is_at_work(tmp_path: Path) -> None:
    recipe = recipe_at(str(tmp_path), tmp_path)
    with leases("embed", [recipe.out, recipe.database], print):
        take(recipe.database)
        [writer] = status_of(recipe, "").holders
        assert writer.lives and "`react-ray embed` (process" in writer.text
        held = lease._parsed((tmp_path / "database" / lease.FILE).read_bytes())
    for changed, lives, said in (
        (replace(held, pid=2**22 + 1), False, "but has died: the next command takes over"),
        (replace(held, machine="another"), None, "on another machine"),
    ):
        (tmp_path / "database" / lease.FILE).write_bytes(lease._bytes(changed))
        [writer] = status_of(recipe, "").holders
        assert writer.lives is lives and writer.text.endswith(said)


def test_the_command_prints_lines_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = recipe_at(str(tmp_path), tmp_path)
    write_searchable(recipe.database, [ANIMALS])
    create(f"{recipe.database}/index", INDEX, {}, {}, 4).commit_files(0, {"a": b"a"}, 0.0, 1)
    main(["status", f"{tmp_path}/mine.yaml", "seed=3"])
    out = capsys.readouterr().out
    assert "\n  embed      done\n  index      begun  1 of 4 parts, since 20" in out
    assert out.endswith(f"\nnext: react-ray run {tmp_path}/mine.yaml seed=3\n")
    open_storage(recipe.out).write("recipe.yaml", recipe.yaml().encode())
    main(["status", recipe.out, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["next"] == f"react-ray run {recipe.out}/recipe.yaml" and found["complete"] is False
    states = {stage["verb"]: stage["state"] for stage in found["stages"]}
    assert [states[verb] for verb in ("ingest", "embed", "index", "retrieve")] == ["done", "done", "begun", "open"]


def test_a_folder_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path)])
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: no run here, since there is no recipe.yaml; name a recipe, or the `out` of one\n"
    )


def test_a_recipe_that_evaluates_alone_goes_on_with_evaluate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_at(str(tmp_path), tmp_path)
    values = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    for name in ("ingest", "arms"):
        del values[name]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    main(["status", str(tmp_path / "mine.yaml"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [stage["verb"] for stage in told["stages"]] == ["evaluate", "report"]
    assert told["next"] == f"react-ray evaluate {tmp_path}/mine.yaml" and len(told["stages"][0]["artifacts"]) == 1


def test_a_finished_run_is_complete(tmp_path: Path) -> None:
    recipe = recipe_at(str(tmp_path), tmp_path).model_copy(update={"arms": {}})
    recipe = recipe.model_copy(update={"evaluate": type(recipe.evaluate)()})
    write_searchable(recipe.database, [ANIMALS], png(tmp_path))
    write_index(recipe.database, 1)
    retrieved(recipe).seal(RetrievedFacts({}, 16, []))
    model = create(f"{recipe.out}/model", MODEL, {}, {}, 1)
    model.commit_files(0, {"a": b"a"}, 0.0, 1)
    model.seal(ModelFacts({}, "gated-image"))
    open_storage(recipe.out).write("report.html", b"<html>")
    assert status_of(recipe, "again").next == ""
