"""The table as text and as Markdown: rows by rank, the mean first, then the tasks."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

from react_ray.report.data import MEAN, Confusion, Cost, ReportData
from react_ray.report.intervals import Gain
from react_ray.report.numbers import gain_interval, gain_points, interval, probability
from react_ray.report.table import WIDTH, confused, markdown_table, render_table
from tests.support.report_example import report

DATA = ReportData(
    name="x",
    seed=0,
    labels={"base": "base", "gated_image": "gated image", "pixels": "1-NN", "given": "1-NN, labelled"},
    tasks={"food": {"base": 0.337, "gated_image": 0.4, "given": 0.675}, "flags": {"base": 0.231, "given": 0.845}},
    mean={"base": 0.284, "gated_image": 0.4, "given": 0.76},
    references=("pixels", "given"),
    labelled=("given",),
    costs={"gated_image": Cost(75.0, 2_400_000), "given": Cost(1.25, None)},
    gains={
        (MEAN, "gated_image", "base"): Gain(0.116, 0.06, 0.172, 30, p=0.0002),
        (MEAN, "given", "base"): Gain(0.476, 0.4, 0.55, 30, p=0.0002),
        ("food", "gated_image", "base"): Gain(0.063, -0.01, 0.13, 30, p=0.11),
        ("food", "given", "base"): Gain(0.338, 0.25, 0.42, 30, p=0.0004),
    },
)


def test_rows_stand_by_rank_those_that_are_given_labels_below_a_rule() -> None:
    assert render_table(DATA).partition("\n\n")[0] == (
        "top-1 accuracy on test, points, means over 2 tasks, one seed\n"
        "                top-1        against base       p  trained in    size\n"
        "---------------------------------------------------------------------\n"
        "gated image      40.0   +11.6 [6.0, 17.2]  <0.001  1 min 15 s  2.4 MB\n"
        "base             28.4\n"
        "---------------------------------------------------------------------\n"
        "1-NN, labelled   76.0  +47.6 [40.0, 55.0]  <0.001       1.2 s"
    )


def test_the_most_confused_classes_are_named_unless_each_mistake_occurs_once() -> None:
    confusions = [
        Confusion("food", "pie", "tart", 4, 6),
        Confusion("food", "soup", "stew", 1, 3),
        Confusion("food", "", "tart", 9, 9),
    ]
    assert confused(replace(DATA, confusions=confusions)) == (
        "most confused classes on test, images\n"
        "                           gated image  base\n"
        "--------------------------------------------\n"
        "pie taken for tart (food)            4     6\n"
    )
    assert confused(replace(DATA, confusions=confusions[1:])) == confused(DATA) == ""


def test_the_tasks_wrap_at_the_width_of_a_terminal() -> None:
    tasks = tuple(f"task number {i}" for i in range(9))
    text = render_table(report(num_seeds=1, tasks=tasks))
    assert max(map(len, text.splitlines()[1:-2])) <= WIDTH
    assert text.count("by task\n") == 2 and all(text.count(task) == 1 for task in tasks)


def test_a_single_task_is_its_own_mean() -> None:
    one = dataclasses.replace(DATA, tasks={"food": DATA.tasks["food"]})
    assert "by task" not in render_table(one) and "means over" not in render_table(one)


def test_more_seeds_add_the_spread() -> None:
    lines = render_table(report(num_seeds=3)).splitlines()
    assert lines[0] == "top-1 accuracy on test, points, means over 3 tasks and 3 seeds, ± standard deviation over seeds"
    assert all(" ± " in line for line in lines[3:8])
    assert lines[-2].startswith("Brackets: 95 % interval, paired bootstrap over 3 seeds and images")


def test_a_star_marks_only_what_is_told_apart_after_correction() -> None:
    lines = render_table(DATA).splitlines()
    after = lines[lines.index("by task") :]
    assert [line.split()[-2] for line in after[3:5]] == ["40.0", "33.7"] and after[6].split()[-2:] == ["67.5*", "84.5"]
    assert lines[-1].startswith("*: differs from base, p < 0.05 after Holm's correction")


def test_markdown_has_the_same_cells() -> None:
    lines = markdown_table(DATA).splitlines()
    assert lines[2:5] == [
        "|  | top-1 | against base | p | trained in | size |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| gated image | 40.0 | +11.6 [6.0, 17.2] | <0.001 | 1 min 15 s | 2.4 MB |",
    ]
    assert "| 1-NN, labelled | 67.5\\* | 84.5 |" in lines


def test_a_row_without_scores_is_left_out() -> None:
    data = report(num_seeds=1)
    for scores in [data.mean, *data.tasks.values()]:
        del scores["random"]
    assert "random pairs" not in render_table(data)


def test_numbers_have_a_sign_unless_they_show_as_zero() -> None:
    assert [gain_points(x) for x in (0.0712, -0.03, 0.0004, -0.0004, 0.0)] == ["+7.1", "−3.0", "0.0", "0.0", "0.0"]
    assert interval(Gain(0, -0.02, -0.0001, 9)) == "[−2.0, 0.0]"
    assert gain_interval(Gain(0.034, 0.0071, 0.0604, 9)) == "+3.4 [0.7, 6.0]"
    assert [probability(p) for p in (0.0002, 0.0123, 1.0)] == ["<0.001", "0.012", "1.000"]
