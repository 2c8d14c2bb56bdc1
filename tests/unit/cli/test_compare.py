"""`react-ray compare` needs no recipe: models and folders of images are enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from react_ray.cli import main
from tests.support.compared import class_folders, finished_run, model_of_file, random_model


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = 0
    try:
        main(["compare", *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, *capsys.readouterr()


def test_two_models_on_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [random_model(tmp_path), finished_run(tmp_path)]
    sets = ["--on", f"birds={class_folders(tmp_path / 'b', ['heron', 'barn owl', 'magpie'])}"]
    sets += ["--off-target", f"food={class_folders(tmp_path / 'f', ['pie', 'soup'])}"]
    code, out, err = ended(capsys, *models, *sets)
    head, birds, food, columns, _, base, run, *rest = out.splitlines()
    assert code == 0 and "\x1b" not in out
    assert head == "zero-shot classification, points"
    assert birds == "birds: 24 images, 3 classes, template 'a sketch of a {}.'"
    assert food == "food (off target): 16 images, 2 classes, template 'a photo of a {}.'"
    assert " ".join(columns.split()) == "birds top-1 birds per class food top-1 food per class"
    assert base.startswith("tiny random ") and run.startswith("run (WiSE-FT 0.5) ")
    assert sum("95 % interval" in line and "images, McNemar p" in line for line in rest) == 2
    most = rest[rest.index("most confused classes on birds, images") + 3]
    assert " taken for " in most and max(map(int, most.split()[-2:])) > 1
    assert "food: the 2 classes are those that the set itself names" in err

    _, out, _ = ended(capsys, *models, *sets, "--json")
    value = json.loads(out)
    assert value["base"] == "tiny random" and [one["given"] for one in value["models"]] == models
    assert value["models"][1]["wise_ft"] == 0.5
    assert [(one["name"], one["off_target"], one["num_images"]) for one in value["sets"]] == [
        ("birds", False, 24),
        ("food", True, 16),
    ]
    assert value["sets"][0]["tasks"] == {"birds": ["heron", "barn owl", "magpie"]}
    assert value["sets"][0]["templates"] == {"birds": ["a sketch of a {}."]}
    assert len(value["verdict"]) == len(value["differences"]) == 2
    top1 = {one["model"]: one["value"] for one in value["scores"] if one["metric"] == "top1" and one["task"] == "birds"}
    difference = value["differences"][0]
    assert difference["gain"] == pytest.approx(top1["run (WiSE-FT 0.5)"] - top1["tiny random"])
    assert difference["low"] <= difference["gain"] <= difference["high"] and 0 < difference["mcnemar_p"] <= 1


def test_names_that_a_terminal_or_a_browser_would_obey_stay_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["<script>alert(1)<b>", "line\nbreak", "\x1b[31mred", "\u202ertl", "x" * 200]
    sets = ["--on", f"birds={class_folders(tmp_path / 'b', names, each=4)}"]
    html = tmp_path / "page.html"
    code, out, _ = ended(capsys, random_model(tmp_path), model_of_file(tmp_path, 1), *sets, "--html", str(html))
    *_, table = out.partition("most confused classes on birds, images\n")
    lines = table.splitlines()
    assert code == 0 and len(lines) == 7 and all(line.isprintable() and len(line) < 140 for line in lines)
    assert {len(line) for line in lines[:1] + lines[2:]} == {len(lines[1])}
    assert "most confused classes" in html.read_text() and html.read_text().count("<script") == 0


def test_one_model_has_scores_and_differs_from_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = random_model(tmp_path)
    sets = ["--on", f"birds={class_folders(tmp_path / 'b', ['heron', 'barn owl', 'magpie'])}"]
    code, out, _ = ended(capsys, model, *sets)
    assert code == 0 and out.splitlines()[4].startswith("tiny random ") and "95 %" not in out
    assert "One model has nothing that it differs from; name a second one behind it" in out
    code, _, err = ended(capsys, model, *sets, "--wise-ft", "0,1")
    assert code == 2 and "--wise-ft weighs a model against the base; name the base before it" in err


def test_the_wise_ft_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    birds = class_folders(tmp_path / "b", ["heron", "barn owl", "magpie"])
    sets = ["--on", f"birds={birds}", "--off-target", f"food={class_folders(tmp_path / 'f', ['pie', 'soup'])}"]
    val = class_folders(tmp_path / "v", ["heron", "barn owl", "magpie"], each=4, first=100)
    html = tmp_path / "pages" / "curve.html"
    models = [random_model(tmp_path), finished_run(tmp_path)]
    chosen = ["--wise-ft", "0,0.5,1", "--validation", f"val={val}", "--html", str(html)]
    code, out, _ = ended(capsys, *models, *sets, *chosen)
    assert code == 0 and "run: WiSE-FT weight " in out and " is the best of 0, 0.5, 1 on validation (" in out
    assert [line.split("  ")[0] for line in out.splitlines()[6:9]] == ["tiny random", "run at 0.5", "run at 1"]
    assert "Top-1 on the target" in html.read_text()
    _, out, _ = ended(capsys, *models, *sets, *chosen[:4], "--json")
    [curve] = json.loads(out)["wise_ft"]
    assert [point["weight"] for point in curve["points"]] == [0, 0.5, 1]
    top1 = {(s["model"], s["dataset"]): s["value"] for s in json.loads(out)["scores"] if s["metric"] == "top1"}
    assert curve["points"][1]["target"] == top1["run at 0.5", "birds"]
    assert curve["points"][2]["off_target"] == top1["run at 1", "food"]
    assert curve["points"][0]["validation"] == top1["tiny random", "val"]


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, other = random_model(tmp_path), model_of_file(tmp_path, 1)
    birds = class_folders(tmp_path / "birds", ["heron", "magpie"], each=1)
    weights = ["--wise-ft", "0,1", "--validation", f"val={birds}"]
    for said, arguments in {
        "--validation val: these are the images of --on birds; choose the weight on": [
            model,
            other,
            "--on",
            birds,
            *weights,
        ],
        "there is no labelled set; name one with --on NAME=URI": [model, other],
        "no task 'imagnet' is built in; did you mean 'imagenet'?": [model, other, "--on", birds, "--task", "imagnet"],
        "give the weights with --wise-ft": [model, other, "--on", birds, "--validation", birds],
        "--wise-ft 2: write weights between 0 (base) and 1": [model, other, "--on", birds, "--wise-ft", "2"],
        "gone.txt": [model, other, "--on", birds, "--classes", str(tmp_path / "gone.txt")],
    }.items():
        code, out, err = ended(capsys, *arguments)
        *_, last = err.splitlines()
        assert (code, out, err.count("error: ")) == (2, "", 1) and last.startswith("error: ") and said in last, err
