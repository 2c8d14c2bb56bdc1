"""What is finished is known as long as nothing that it was made of, and nothing that was made, has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.done import answer, remembering
from react_ray.runtime.stage_order import answered, stages_of

RECIPE = """
name: test
database: {0}/database
out: {0}/run
tasks: {{file: "{0}/classes.txt"}}
backbone: {{name: ViT-B-32, pretrained: "{0}/weights.safetensors"}}
ingest: {{source: "{0}/source/*.csv"}}
evaluate: {{datasets: {{test: "{0}/test.parquet"}}}}
arms: {{one: {{customize.lr: 0.001}}, two: {{retrieve.k: 5}}}}
"""
FILES = ("classes.txt", "weights.safetensors", "source/a.csv", "test.parquet")
OF_RUN = ("queries", "selected", "retrieved", "images", "arms/two/selected", "arms/two/retrieved", "arms/two/images")
MADE = {
    "ingest": ("database/pairs", "database/images"),
    "embed": ("database/embeddings",),
    "index": ("database/index",),
    "retrieve": tuple(f"run/{place}" for place in OF_RUN),
    "customize": ("run/arms/one/model", "run/arms/two/model"),
    "evaluate": ("run/scores/base", "run/arms/one/scores", "run/arms/two/scores"),
}
Change = Callable[[Path], object]


def recipe(folder: Path, *overrides: str) -> Recipe:
    return load_recipe(str(folder / "recipe.yaml"), list(overrides))


def seal(folder: Path, place: str, content: str = "1") -> None:
    """What these functions see of an artifact: that it was sealed, and what it was made of."""
    (folder / place).mkdir(parents=True, exist_ok=True)
    parents = "{}" if place.endswith(("pairs", "database/images")) else '{"pairs": "1"}'
    plan = f'{{"kind": "pairs", "config": {{}}, "parents": {parents}, "parts": 1, "schema_version": 2}}'
    (folder / place / "_building.json").write_text(plan)
    (folder / place / "manifest.json").write_text(content)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run of which every verb remembers that it has finished."""
    (tmp_path / "source").mkdir()
    for name in FILES:
        (tmp_path / name).write_text("x")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(tmp_path))
    for verb, places in MADE.items():
        with remembering(recipe(tmp_path), verb) as remember:
            for place in places:
                seal(tmp_path, place)
            remember(f"{verb} is done")
    with remembering(recipe(tmp_path), "report") as remember:
        for name in ("summary.json", "report.html", "table.md"):
            (tmp_path / "run" / name).write_text("{}")
        remember("the table")
    return tmp_path


def known(folder: Path, *overrides: str) -> set[str]:
    return {verb for verb in [*MADE, "report"] if answer(recipe(folder, *overrides), verb) is not None}


EVERYTHING = {*MADE, "report"}
LATER = {"customize", "evaluate", "report"}


def test_the_same_recipe_has_nothing_to_do_and_prints_what_it_printed(finished: Path) -> None:
    same = recipe(finished)
    assert known(finished) == EVERYTHING and answer(same, "embed") == "embed is done"
    assert answered(same, stages_of(same)) == "the table"
    text = answered(same, stages_of(same, last="retrieve"))
    assert text is not None and text.splitlines() == [
        "retrieve is done",
        f"look at it: react-ray show {finished}/run",
        "done already, and not changed: customize, evaluate",
        "the report is there too: react-ray run RECIPE prints its table",
    ]
    text = answered(same, stages_of(same, last="ingest"))
    assert text is not None and "not changed: embed, index, retrieve, customize, evaluate\n" in text
    (finished / "run/report.html").unlink()
    text = answered(same, stages_of(same, last="retrieve"))
    assert text is not None and text.splitlines()[-1] == "go on: react-ray run RECIPE, which comes to report"


@pytest.mark.parametrize(
    ("override", "lost"),
    [
        ("cluster.num_cpus=1", set()),
        ("customize.lr=0.1", LATER),
        ("evaluate.headline=other", {"evaluate", "report"}),
        ("evaluate.datasets.more=sets/more", {"evaluate", "report"}),
        ("evaluate.train.test=sets/train", {"evaluate", "report"}),
        ("retrieve.k=7", {"retrieve", *LATER}),
        ("index.recall=0.9", {"index", "retrieve", "evaluate", "report"}),
        ("arms.three.customize.lr=0.1", {"retrieve", *LATER}),
        ("ingest.max_rows=7", {"ingest", *LATER}),
        ("cluster.gpus_per_actor=1", EVERYTHING),
    ],
)
def test_a_field_concerns_the_verbs_that_read_it(finished: Path, override: str, lost: set[str]) -> None:
    assert known(finished, override) == EVERYTHING - lost
    assert known(finished) == EVERYTHING


def touched(name: str) -> Change:
    return lambda folder: os.utime(folder / name)


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (touched("source/a.csv"), {"ingest"}),
        (lambda folder: (folder / "source/b.csv").write_text("x"), {"ingest"}),
        (lambda folder: (folder / "source/notes.txt").write_text("x"), set()),
        (touched("weights.safetensors"), EVERYTHING - {"index"}),
        (lambda folder: (folder / "classes.txt").unlink(), {"retrieve", *LATER}),
        (touched("test.parquet"), {"evaluate", "report"}),
        (lambda folder: seal(folder, "database/pairs", "2"), {"ingest", "embed", "index", "retrieve", "report"}),
        (lambda folder: seal(folder, "database/embeddings", "2"), EVERYTHING - {"ingest", "evaluate"}),
        (lambda folder: seal(folder, "database/index/deltas/00001"), {"retrieve"}),
        (lambda folder: (folder / "database/index/compacting.json").write_text("{}"), {"index"}),
        (lambda folder: seal(folder, "database/deleted"), {"retrieve"}),
        (lambda folder: (folder / "run/queries/manifest.json").unlink(), {"retrieve", *LATER}),
        (lambda folder: seal(folder, "run/arms/two/retrieved", "2"), {"retrieve", *LATER}),
        (lambda folder: (folder / "run/arms/one/model/manifest.json").unlink(), LATER),
        (lambda folder: (folder / "run/scores/base/manifest.json").unlink(), {"evaluate", "report"}),
        (lambda folder: (folder / "run/report.html").unlink(), {"report"}),
        (lambda folder: (folder / "run/done.json").write_text('{"verbs": {"embed": 1}}'), EVERYTHING),
    ],
)
def test_what_has_changed_is_looked_at_again(finished: Path, change: Change, lost: set[str]) -> None:
    change(finished)
    assert known(finished) == EVERYTHING - lost


@pytest.mark.parametrize(
    ("use", "verb"),
    [
        ("retrieve.decontaminate.datasets=[test]", "retrieve"),
        ("arms.two.retrieve.decontaminate.datasets=[all]", "retrieve"),
        ("customize.watch_dataset=test", "customize"),
        ("arms.two.customize.labelled=sample://validation.parquet", "customize"),
    ],
)
def test_a_set_that_a_verb_uses_is_a_file_that_it_reads(finished: Path, use: str, verb: str) -> None:
    with remembering(recipe(finished, use), verb) as remember:
        remember("again")
    assert verb in known(finished, use)
    os.utime(finished / "test.parquet")
    assert verb not in known(finished, use)


def test_nothing_is_remembered_of_what_changed_while_it_was_read(finished: Path) -> None:
    (finished / "run/done.json").unlink()
    with remembering(recipe(finished), "ingest") as remember:
        (finished / "source/b.csv").write_text("x")
        remember("ingest is done")
    assert answer(recipe(finished), "ingest") is None


COMMAND = """
import sys
from react_ray.cli import main
main(sys.argv[1:])
assert not {"torch", "ray", "faiss"} & set(sys.modules), "a command with nothing to do needs none of them"
"""


@pytest.mark.parametrize("verb", ["retrieve", "run"])
def test_a_command_with_nothing_to_do_answers_without_ray_and_torch(finished: Path, verb: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, verb, str(finished / "recipe.yaml")], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ("the table\n" if verb == "run" else f"{verb} is done\n")
    assert ended.stderr == "nothing to do, it is finished already:\n"
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
