"""The text table: points, the mean last, the spread over seeds."""

from __future__ import annotations

from react_ray.report.data import ReportData
from react_ray.report.intervals import Gain
from react_ray.report.numbers import gain_points, interval
from react_ray.report.table import html_table, render_table
from tests.support.report_example import report

DATA = ReportData(
    name="x",
    seed=0,
    arms={"base": "base", "gated_image": "gated image"},
    tasks={"food": {"base": 0.337, "gated_image": 0.4}, "flags": {"base": 0.231}},
    mean={"base": 0.284, "gated_image": 0.4},
    reference_lines={"1-NN": {"food": 0.675, "flags": 0.845}},
)


def test_the_table_has_points_and_the_mean_last() -> None:
    assert render_table(DATA) == (
        "top-1, points, one seed\n"
        "task   base  gated image  1-NN\n"
        "------------------------------\n"
        "food   33.7         40.0  67.5\n"
        "flags  23.1            -  84.5\n"
        "------------------------------\n"
        "mean   28.4         40.0  76.0\n"
    )


def test_more_seeds_add_the_spread() -> None:
    lines = render_table(report(num_seeds=3)).splitlines()
    assert lines[0] == "top-1, points, mean ± standard deviation over 3 seeds"
    assert [line.split()[0] for line in lines[-4:-1]] == ["mean", "±", "gain"]
    assert lines[-1].startswith("95 % interval, paired bootstrap over 3 seeds and images")


def test_gains_have_a_sign_unless_they_show_as_zero() -> None:
    assert [gain_points(x) for x in (0.0712, -0.03, 0.0004, -0.0004, 0.0)] == ["+7.1", "−3.0", "0.0", "0.0", "0.0"]
    assert (
        interval(Gain(0.034, 0.0071, 0.0604, 9)) == "[0.7, 6.0]"
        and interval(Gain(0, -0.02, -0.0001, 9)) == "[−2.0, 0.0]"
    )


def test_only_a_change_that_is_told_apart_from_zero_has_a_colour() -> None:
    data = report(num_seeds=1)
    data.gains = {key: g._replace(low=g.value - 1e-4, high=g.value + 1e-4) for key, g in data.gains.items()}
    html = html_table(data)
    assert html.count('<small class="gain"') == 8 and html.count('<small class="loss"') == 4
    data.gains = {key: gain._replace(low=-0.2, high=0.2) for key, gain in data.gains.items()}
    html = html_table(data)
    assert '<small class="gain"' not in html and html.count('<small class="same"') == 12
    assert "not told apart from zero" in html


def test_the_gains_stand_below_the_mean_of_every_arm() -> None:
    lines = render_table(report(num_seeds=1)).splitlines()
    assert lines[-2].startswith("gain ") and lines[-2].count("[") == 3


def test_an_arm_without_scores_has_no_column() -> None:
    data = report(num_seeds=1)
    for scores in [data.mean, *data.tasks.values()]:
        del scores["random"]
    assert "random pairs" not in render_table(data) and "random pairs" not in html_table(data)
