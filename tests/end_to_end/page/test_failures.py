"""The page in Chromium where an answer is late, refused, partial or missing."""

from __future__ import annotations

import re
from contextlib import suppress

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, Route, expect

from tests.support.chromium import needs_chromium, new_tab
from tests.support.page_actions import cards, search
from tests.support.served_page import listening
from tests.support.serving import serving_recipe
from tests.support.unsteady_group import unsteady

TWO_SEARCHES = """() => {
  const body = JSON.stringify({ query: { text: 'fox' } }), headers = { 'Content-Type': 'application/json' };
  window.searches = [0, 1].map(() => fetch('/v1/search', { method: 'POST', headers, body }).then(one => one.text()));
}"""

pytestmark = needs_chromium


def test_a_slow_answer_never_overwrites_a_newer_one(tab: Page) -> None:
    held: list[Route] = []
    tab.route("**/v1/search", lambda route: held.append(route) if not held else route.continue_())
    tab.fill("#text", "sushi")
    tab.press("#text", "Enter")
    expect(tab.locator("#results")).to_have_attribute("aria-busy", "true")
    while not held:  # the request is on its way: a newer search would take its place
        tab.wait_for_timeout(10)
    search(tab, "a fox")
    with suppress(Error):  # the page has given this request up
        held[0].continue_()
    tab.unroute("**/v1/search")
    expect(tab.locator("#results h2")).to_contain_text("a fox")


def test_without_an_answer_the_page_says_so_and_tries_again(tab: Page, said: list[str]) -> None:
    said.append("Failed to load resource: net::ERR_INTERNET_DISCONNECTED")
    tab.context.set_offline(True)
    tab.fill("#text", "sushi")
    tab.press("#text", "Enter")
    expect(tab.get_by_role("alert")).to_contain_text("does not answer")
    tab.context.set_offline(False)
    tab.get_by_role("button", name="Try again").click()
    assert len(cards(tab)) == 20


def test_a_key_is_asked_for_until_it_is_right_and_pictures_come_with_it(browser: Browser, database: str) -> None:
    with listening(serving_recipe(database, serve={"api_key_env": "THE_KEY"}), key="s3cret") as site:
        tab = new_tab(browser, base_url=site)
        tab.goto("/#search?text=sushi")
        tab.locator("#key-dialog").wait_for()
        assert Axe().run(tab).violations_count == 0
        for key in ("wrong", "s3cret"):
            tab.fill("#key", key)
            tab.press("#key", "Enter")
            if key == "wrong":
                expect(tab.locator("#key-error")).to_contain_text("refused")
        assert len(cards(tab)) == 20
        picture = tab.locator(".hit img").first
        expect(picture).to_have_attribute("src", re.compile("^blob:"))
        assert picture.evaluate("async one => { await one.decode(); return one.naturalWidth; }") > 0
        tab.reload()
        assert len(cards(tab)) == 20
        expect(tab.locator("#snippets code").first).to_contain_text("Bearer $REACT_RAY_KEY")
        tab.close()


def test_a_group_that_is_down_is_named_and_the_others_answer_if_asked(browser: Browser, database: str) -> None:
    recipe = serving_recipe(database)
    service, group = unsteady(recipe, count=2)
    with listening(recipe, service=service) as site:
        tab = new_tab(browser, base_url=site)
        tab.goto("/")
        tab.wait_for_selector(".examples")
        group.is_up = False
        tab.fill("#text", "sushi")
        tab.press("#text", "Enter")
        expect(tab.get_by_role("alert")).to_contain_text(group.name)
        expect(tab.get_by_role("alert")).to_contain_text("The server suggests to wait 2 seconds.")
        tab.get_by_role("button", name="Show what the other parts find").click()
        expect(tab.locator(".warning")).to_contain_text("% of the vectors were searched")
        partial = cards(tab)
        expect(tab.locator(".badge.bad")).to_contain_text("coverage")
        group.is_up = True
        tab.reload()
        assert cards(tab) != partial
        expect(tab.locator(".badge.bad")).to_have_count(0)
        tab.close()


def test_a_busy_server_is_asked_again_later(browser: Browser, database: str) -> None:
    recipe = serving_recipe(database, serve={"max_in_flight": 2})
    service, group = unsteady(recipe)
    with listening(recipe, service=service) as site:
        tab = new_tab(browser, base_url=site)
        tab.goto("/")
        tab.wait_for_selector(".examples")
        group.gate.clear()
        try:
            tab.evaluate(TWO_SEARCHES)
            for _ in range(2):
                group.entered.get(timeout=120)
            tab.fill("#text", "sushi")
            tab.press("#text", "Enter")
            expect(tab.get_by_role("alert")).to_contain_text("The server is busy")
        finally:
            group.gate.set()
        tab.evaluate("async () => { await Promise.all(window.searches); }")
        tab.get_by_role("button", name="Try again").click()
        assert len(cards(tab)) == 20
        tab.close()
