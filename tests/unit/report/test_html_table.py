"""The tables of the page: bars and colours that say no more than the intervals do."""

from __future__ import annotations

import re

from react_ray.report.html_table import html_table, html_tasks
from tests.support.html_page import Page
from tests.support.report_example import report


def test_only_a_change_that_is_told_apart_from_zero_has_a_colour() -> None:
    data = report(num_seeds=1)
    data.gains = {key: g._replace(low=g.value - 1e-4, high=g.value + 1e-4) for key, g in data.gains.items()}
    html = html_table(data)
    assert html.count('<span class="gain"') == html.count('"fill gain"') == 5
    assert html.count('<span class="loss"') == html.count('"fill loss"') == 1
    assert html_tasks(data).count('class="gain"') == 15 and html_tasks(data).count('class="loss"') == 3
    data.gains = {key: gain._replace(p=0.2) for key, gain in data.gains.items()}
    html = html_table(data) + html_tasks(data)
    assert '"gain"' not in html and '"loss"' not in html and '"fill gain"' not in html
    assert html.count('<span class="same"') == 6 and html.count('<span class="plain"') == 18


def test_the_best_row_is_first_and_each_row_says_what_it_is() -> None:
    html = html_table(report(num_seeds=1))
    names = re.findall(r'<th scope="row">([^<]*)(?:<small>([^<]*)</small>)?', html)
    assert names == [
        ("pixel 1-NN", "no model; a picture has the class that it was retrieved for"),
        ("gated image + head", "a head of fixed classes"),
        ("gated image", ""),
        ("locked text", ""),
        ("base", "the start of all arms"),
        ("random pairs", "a control"),
        ("pixel 1-NN, given labels", "no model; it is given labels"),
    ]
    assert "1 min 00 s" in html and "2.4 MB" in html


def test_bars_and_whiskers_stay_inside_their_track() -> None:
    html = html_table(report(num_seeds=1))
    places = re.findall(r'style="(?:left:([\d.]+)%;)?(?:width:([\d.]+)%)?"', html)
    assert len(places) >= 7 and all(float(left or 0) + float(width or 0) <= 100.01 for left, width in places)


def test_every_cell_names_its_column_for_narrow_pages_and_a_single_task_has_one_table() -> None:
    data = report(num_seeds=1)
    page = Page(html_tasks(data))
    assert page.tags.count("tr") == 8 and html_tasks(data).count('class="of">food') == 7
    data.tasks = {"food": data.tasks["food"]}
    assert html_tasks(data) == ""
