"""The page of the server in Chromium, over a small database of real pictures: search, marks, classes, errors, looks."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, Route, expect

from react_ray.recipe import load_recipe
from tests.support.chromium import LOOKS, chromium, needs_chromium
from tests.support.sample_database import HOSTILE, write_sample_database
from tests.support.served_page import listening
from tests.support.serving import serving_recipe

TASKS = {"file": "sample://tasks.json", "names": ["weather"]}
CLASSES = "sushi | japanese food\ntomato\nunheard-of thing"
# Scrolls to each picture, because those outside of the window are loaded late, and returns the widths of what came.
PICTURES = """async () => {
  const widths = [];
  for (const one of document.images) {
    one.scrollIntoView();
    await one.decode();
    widths.push(one.naturalWidth);
  }
  return widths;
}"""
# Gives a file to the page as a paste, or as a drop on the results.
GIVE = """async ([how, data]) => {
  const bytes = Uint8Array.from(atob(data), one => one.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], 'given.png', { type: 'image/png' }));
  const event = how === 'paste' ? new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true })
    : new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.querySelector('#results').dispatchEvent(event);
}"""

pytestmark = needs_chromium
expect.set_options(timeout=30_000)  # of an answer, on a machine that does other things too


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("served") / "database")
    write_sample_database(uri)
    return uri


@pytest.fixture(scope="module")
def site(database: str) -> Iterator[str]:
    with listening(serving_recipe(database, tasks=TASKS)) as address:
        yield address


@pytest.fixture
def said() -> list[str]:
    """What the page may say on the console: parts of lines."""
    return []


@pytest.fixture
def tab(browser: Browser, site: str, said: list[str], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page; its parameter is (width, colour scheme)."""
    width, scheme = getattr(request, "param", LOOKS[-2])
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, base_url=site)
    opened, lines = context.new_page(), []
    opened.on("console", lambda message: lines.append(message.text))
    opened.on("pageerror", lambda error: lines.append(str(error)))
    opened.goto("/")
    yield opened
    context.close()
    assert [line for line in lines if not any(part in line for part in said)] == []


def cards(tab: Page) -> list[int]:
    """The pair_ids on the page, when its answer is complete."""
    tab.wait_for_selector("#results:not([aria-busy]) .hit:not(.grey)")
    return [int(one) for one in tab.locator(".hit").evaluate_all("all => all.map(one => one.dataset.pair)")]


def search(tab: Page, text: str) -> list[int]:
    tab.fill("#text", text)
    with tab.expect_response("**/v1/search"):
        tab.press("#text", "Enter")
    return cards(tab)


def sent(tab: Page, path: str, act: object) -> dict[str, object]:
    """The body of the request that `act` makes the page send."""
    with tab.expect_request(f"**{path}") as caught:
        act()  # type: ignore[operator]
    body: dict[str, object] = json.loads(caught.value.post_data or "")
    return body


def test_a_text_search_shows_pictures_and_its_address_brings_them_again(tab: Page) -> None:
    found = search(tab, "sushi")
    assert len(found) == 20 and min(tab.evaluate(PICTURES)) > 0
    assert "20 pairs for “sushi”" in tab.inner_text("#status")
    assert "coverage 100 %" in tab.inner_text(".badges")
    search(tab, "a fox")
    tab.go_back()
    expect(tab.locator("#results h2")).to_contain_text("sushi")
    assert cards(tab) == found
    tab.reload()
    assert cards(tab) == found
    assert tab.locator(".hit .missing").count() + tab.locator(".hit img").count() == 20


def test_an_image_is_searched_by_choosing_pasting_and_dropping_it(tab: Page, site: str) -> None:
    [pair, *_] = search(tab, "sushi")
    data = tab.request.get(f"/v1/pairs/{pair}/image").body()
    tab.set_input_files("#file", {"name": "mine.png", "mimeType": "image/png", "buffer": data})
    expect(tab.locator("#results h2")).to_contain_text("your image")
    assert cards(tab)[0] == pair and tab.inner_text("#terms span") == "mine.png" and tab.input_value("#text") == ""
    for how in ("paste", "drop"):
        search(tab, "a bus")
        body = sent(tab, "/v1/search", lambda how=how: tab.evaluate(GIVE, [how, base64.b64encode(data).decode()]))
        assert body["query"] == {"image": base64.b64encode(data).decode()} and cards(tab)[0] == pair
    tab.reload()
    expect(tab.get_by_role("alert")).to_contain_text("drop or choose it again")


def test_marks_and_similar_search_with_pairs_and_weights(tab: Page) -> None:
    first, second, *_ = search(tab, "sushi")
    card = tab.locator(f"[data-pair='{first}']")
    body = sent(tab, "/v1/search", card.locator("[data-action=for]").click)
    assert body["query"] == {"sum": [{"weight": 1, "text": "sushi"}, {"weight": 1, "pair_id": first}]}
    cards(tab)
    assert card.locator("[data-action=for]").get_attribute("aria-pressed") == "true"
    body = sent(tab, "/v1/search", lambda: tab.locator(f"[data-pair='{second}'] .face").press("-"))
    assert body["query"]["sum"][2] == {"weight": -0.5, "pair_id": second}
    cards(tab)
    weight = tab.locator("#terms input").nth(1)
    weight.fill("-2")
    body = sent(tab, "/v1/search", lambda: weight.press("Enter"))
    assert body["query"]["sum"][2] == {"weight": -2, "pair_id": second} and second not in cards(tab)[:5]
    body = sent(tab, "/v1/search", tab.locator("#terms button").nth(1).click)
    assert len(body["query"]["sum"]) == 2
    third = cards(tab)[-1]
    body = sent(tab, "/v1/search", tab.locator(f"[data-pair='{third}'] [data-action=like]").click)
    assert body["query"] == {"pair_id": third}
    expect(tab.locator("#terms li")).to_have_count(1)
    assert cards(tab)[0] == third and tab.input_value("#text") == ""


def test_options_are_sent_and_a_bad_one_is_shown_at_its_field(tab: Page, said: list[str]) -> None:
    said.append("Failed to load resource: the server responded with a status of 4")
    tab.click("#search summary")
    tab.fill("#search [name=k]", "5")
    tab.fill("#search [name=filters]", "source == arcticons")
    assert len(search(tab, "sushi")) == 5
    expect(tab.locator("#search [data-changed]")).to_have_text("hits 5 · source == arcticons")
    tab.fill("#search [name=filters]", "colour == red")
    tab.click("#search [type=submit]")
    expect(tab.get_by_role("alert")).to_contain_text("colour")
    assert tab.get_attribute("#search [name=filters]", "aria-invalid") == "true"
    tab.fill("#search [name=filters]", "source == nobody")
    tab.click("#search [type=submit]")
    tab.get_by_role("button", name="Search without filters").click()
    assert len(cards(tab)) == 5


def test_a_pair_is_opened_with_its_reasons_by_a_key_and_by_a_link(tab: Page) -> None:
    first, second, *_ = search(tab, "sushi")
    tab.locator(".face").first.press("ArrowRight")
    tab.keyboard.press("Enter")
    dialog = tab.locator("#detail")
    expect(dialog.locator(".reasons")).to_contain_text("found for “sushi”")
    expect(dialog.locator(".columns")).to_contain_text(str(second))
    assert f"open={second}" in tab.url
    tab.reload()
    expect(dialog.locator(".columns")).to_contain_text(str(second))
    tab.keyboard.press("Escape")
    assert not dialog.is_visible() and "open=" not in tab.url
    assert first in cards(tab)


def test_what_the_server_sends_is_shown_as_text(tab: Page) -> None:
    tab.goto("/#search?" + urlencode({"text": HOSTILE, "key": "text"}))
    expect(tab.locator(".hit .text", has_text="<img src=x").first).to_be_visible()
    tab.locator(".hit", has_text="<img src=x").locator(".face").click()
    expect(tab.locator("#detail h2")).to_have_text(HOSTILE)


def test_the_python_and_the_curl_of_a_view_find_the_same_pairs(tab: Page, tmp_path: Path) -> None:
    first, *_ = search(tab, 'it\'s "sushi"')
    tab.locator(f"[data-pair='{first}'] [data-action=for]").click()
    expect(tab.locator("#results h2")).to_contain_text("one pair")
    found = cards(tab)
    tab.click("#snippets summary")
    curl, python = (tab.locator("#snippets code").nth(i).inner_text() for i in range(2))
    said = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, check=True).stdout
    assert [int(line.split()[0]) for line in said.splitlines()] == found
    answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True).stdout
    assert [hit["pair_id"] for hit in json.loads(answer)["results"][0]["hits"]] == found


def test_a_slow_answer_never_overwrites_a_newer_one(tab: Page) -> None:
    held: list[Route] = []
    tab.route("**/v1/search", lambda route: held.append(route) if not held else route.continue_())
    tab.fill("#text", "sushi")
    tab.press("#text", "Enter")
    expect(tab.locator("#results")).to_have_attribute("aria-busy", "true")
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


def classes(tab: Page) -> None:
    tab.click("#tab-classes")
    tab.fill("#names", CLASSES)
    tab.locator("#classes summary").click()
    tab.fill("#classes [name=quota]", "6")
    tab.click("#classes [type=submit]")
    cards(tab)


def test_classes_become_a_recipe_with_a_threshold_and_without_the_rejected_pairs(tab: Page, tmp_path: Path) -> None:
    with tab.expect_response("**/v1/classes") as caught:
        classes(tab)
    found = caught.value.json()["classes"]
    num_selected = tab.locator("#sum b")
    expect(num_selected).to_have_text("18")
    entry = tab.get_by_role("region", name="sushi")
    entry.scroll_into_view_if_needed()
    entry.locator(".face").first.press("ArrowRight")
    tab.keyboard.press("x")
    expect(tab.locator("#sum")).to_contain_text("1 rejected")
    rejected = int(entry.locator(".hit.rejected").get_attribute("data-pair") or "")
    assert rejected == found[0]["hits"][1]["pair_id"]
    for key in ("End", *["ArrowLeft"] * 12):
        tab.locator("#threshold").press(key)
    threshold = float(tab.inner_text("output"))
    tab.fill("form.save input", "mine")
    with tab.expect_download() as download:
        tab.click("form.save button")
    assert download.value.suggested_filename == "mine.yaml"
    download.value.save_as(tmp_path / "mine.yaml")
    expect(tab.locator(".command code")).to_have_text("react-ray retrieve mine.yaml")
    retrieve = load_recipe(str(tmp_path / "mine.yaml")).retrieve
    assert retrieve.pairs_per_class == 6 and retrieve.exclude == [rejected]
    assert retrieve.min_score == pytest.approx(threshold, abs=1e-3)
    passing = [sum(score >= retrieve.min_score for score in one["scores"]) for one in found]
    passing[0] -= found[0]["hits"][1]["score"] >= retrieve.min_score
    expected = str(sum(min(6, num) for num in passing))
    expect(num_selected).to_have_text(expected)
    assert 0 < int(expected) < 18
    tab.reload()
    cards(tab)
    expect(num_selected).to_have_text(expected)


def test_classes_are_taken_from_a_task_sifted_and_opened(tab: Page) -> None:
    tab.click("#tab-classes")
    tab.select_option("#task", "weather")
    assert tab.is_disabled("#names") and "cloud" in tab.inner_text("#task-classes")
    tab.click("#classes [type=submit]")
    cards(tab)
    num_all = tab.locator("section.entry").count()
    tab.fill(".sift input[type=search]", "rainbow")
    assert 0 < tab.locator("section.entry:visible").count() < num_all
    tab.locator("section.entry:visible .face").first.click()
    expect(tab.locator("#detail .reasons")).to_contain_text("by “")
    tab.click("#detail button:has-text('Similar')")
    expect(tab.locator("#tab-search")).to_have_attribute("aria-current", "page")
    cards(tab)
    tab.click("#tab-classes")
    expect(tab.locator("section.entry")).to_have_count(num_all)


def test_class_names_that_cannot_be_searched_are_refused(tab: Page) -> None:
    tab.click("#tab-classes")
    tab.fill("#names", "fox\nfox")
    tab.click("#classes [type=submit]")
    expect(tab.get_by_role("alert")).to_contain_text("is there twice")


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
    classes(tab)
    tab.locator("#threshold").press("ArrowRight")
    tab.locator(".face").first.press("x")
    tab.click("form.save button")
    tab.locator(".command").wait_for()
    look("classes")
