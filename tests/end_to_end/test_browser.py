"""The report and the gallery in Chromium: at the width of a phone and of a screen, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from react_ray.report import class_gallery, page
from tests.support.chromium import LOOKS, PICTURES, chromium, needs_chromium, new_tab
from tests.support.report_example import report
from tests.support.retrieval_example import gallery

PAGES = ("report", "gallery")
# The relative luminance of text and of the page behind it, as WCAG 2.2 defines it.
LUMINANCES = """() => {
  const look = getComputedStyle(document.body);
  const luminance = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  return [luminance(look.color), luminance(look.backgroundColor)];
}"""

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, html in zip(PAGES, (page.render(report()), class_gallery.render(gallery())), strict=True):
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in PAGES}


@pytest.fixture
def opened(browser: Browser, pages: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page of a test's parameters (name, width, scheme), which may say nothing on the console until its end."""
    name, width, scheme = request.param
    tab = new_tab(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(pages[name].as_uri())
    yield tab
    tab.close()
    assert said == [] and [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]


@pytest.mark.parametrize("opened", [(name, *look) for name in PAGES for look in LOOKS], indirect=True, ids=str)
def test_the_page_fits_its_window_can_be_read_and_every_picture_loads(opened: Page) -> None:
    widths = opened.evaluate(PICTURES)
    assert len(widths) > 20 and min(widths) > 0
    assert opened.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    text, ground = opened.evaluate(LUMINANCES)
    assert (ground < text) == opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) >= 7  # WCAG 2.2, success criterion 1.4.6


@pytest.mark.parametrize("opened", [("gallery", *LOOKS[0]), ("gallery", *LOOKS[-1])], indirect=True, ids=str)
def test_the_gallery_finds_classes_by_words_and_sorts_them(opened: Page) -> None:
    shown = opened.locator("section.entry:visible")
    num_all = shown.count()
    opened.fill("#filter", "heron 3 ")
    assert shown.count() == 1 and opened.inner_text("#count") == f"1 of {num_all} classes"
    opened.fill("#filter", "no class has these words")
    assert shown.count() == 0 and opened.is_visible("#none")
    opened.fill("#filter", "")
    opened.check("#flagged")
    assert shown.count() == 1
    opened.uncheck("#flagged")
    opened.select_option("#order", "name")
    names = [shown.nth(i).get_attribute("data-name") for i in range(num_all)]
    assert names == sorted(names, key=str.casefold)


@pytest.mark.parametrize("opened", [("report", *LOOKS[0]), ("report", *LOOKS[-1])], indirect=True, ids=str)
def test_the_report_finds_a_class_and_sorts_its_table_by_a_column(opened: Page) -> None:
    rows = opened.locator("#classes tbody tr:visible")
    num_all = rows.count()
    opened.fill("input[data-filter=classes]", "flags class 12")
    assert rows.count() == 1 and opened.inner_text("p.filter output") == f"1 of {num_all}"
    opened.fill("input[data-filter=classes]", "")
    head = opened.locator("#classes th", has_text="pairs")
    head.click()
    assert head.get_attribute("aria-sort") == "descending"
    pairs = [int(rows.nth(i).locator("td").first.inner_text()) for i in range(3)]
    assert pairs == sorted(pairs, reverse=True) and rows.count() == num_all
