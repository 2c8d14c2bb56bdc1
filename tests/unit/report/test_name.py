"""A name of a class stays in its place on a page, whatever its script, its length and the characters in it."""

from __future__ import annotations

from react_ray.report.classes import confusions
from react_ray.report.data import Confusion
from react_ray.report.name import MOST, name
from tests.support.html_page import Page
from tests.support.report_example import report

ARABIC, HEBREW = "مالك الحزين", "עגור אפור"


def test_names_that_are_written_from_right_to_left_leave_the_arrow_between_them_as_it_is() -> None:
    data = report()
    data.confusions = [Confusion("food", ARABIC, HEBREW, 3, 2)]
    assert f"<bdi>{ARABIC}</bdi> → <bdi>{HEBREW}</bdi>" in confusions(data)


def test_a_name_is_text_without_control_characters_and_marks_of_direction_and_a_very_long_one_is_cut() -> None:
    found = Page(name("</script>\u202eexe\x1b[31m\x00\n"))
    assert found.tags == ["bdi"] and found.text == "</script> exe [31m  "
    long = Page(name("x" * 10_000))
    assert long.text == "x" * MOST + "..." and long.of("bdi", "long")
