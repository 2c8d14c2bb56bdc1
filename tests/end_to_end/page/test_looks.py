"""The page in Chromium at the width of a phone and of a screen, in light and dark: its layout, and axe-core on it."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.support.chromium import LOOKS, needs_chromium
from tests.support.page_actions import ask_for_classes, cards, search

pytestmark = needs_chromium


@pytest.mark.parametrize("tab", LOOKS, indirect=True, ids=str)
def test_every_view_fits_its_window_and_has_no_violation_of_accessibility(tab: Page, said: list[str]) -> None:
    said.append("Failed to load resource: the server responded with a status of 4")
    axe = Axe()

    def look(view: str) -> None:
        expect(tab.locator("#results")).not_to_have_attribute("aria-busy", "true")
        found = axe.run(tab, options={"resultTypes": ["violations"]})
        assert found.violations_count == 0, f"{view}: {found.generate_report()}"
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, view

    look("start")
    search(tab, "sushi")
    look("search")
    tab.locator("[data-action=against]").first.click()
    tab.locator("#terms").wait_for()
    cards(tab)
    tab.locator("#search summary").click()
    tab.click("#snippets summary")
    look("marks, options and snippets")
    tab.locator(".face").nth(2).click()
    tab.locator("#detail dd").first.wait_for()
    look("a pair")
    tab.keyboard.press("Escape")
    tab.fill("#search [name=filters]", "colour == red")
    tab.click("#search [type=submit]")
    tab.get_by_role("alert").wait_for()
    look("an error")
    ask_for_classes(tab)
    tab.locator("#threshold").press("ArrowRight")
    tab.locator(".face").first.press("x")
    tab.click("form.save button")
    tab.locator(".command").wait_for()
    look("classes")
    tab.select_option("#task", "weather")
    look("a task")
