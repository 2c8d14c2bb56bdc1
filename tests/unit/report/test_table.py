"""The text table: points, the mean last, the spread over seeds."""

from __future__ import annotations

from react_ray.report.data import ReportData
from react_ray.report.table import gain_points, render_table
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
    assert lines[-1].startswith("± std") and lines[-2].startswith("mean")


def test_gains_have_a_sign_unless_they_show_as_zero() -> None:
    assert [gain_points(x) for x in (0.0712, -0.03, 0.0004, -0.0004, 0.0)] == ["+7.1", "−3.0", "0.0", "0.0", "0.0"]
