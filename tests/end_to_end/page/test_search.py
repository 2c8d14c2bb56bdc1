"""The page in Chromium: search by text, image, pair and their sum, and what can be done with the hits."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, expect

from tests.support.chromium import PICTURES, needs_chromium
from tests.support.page_actions import cards, search, sent
from tests.support.sample_database import HOSTILE

# Gives a file to the page as a paste, or as a drop on the results.
GIVE = """async ([how, data]) => {
  const bytes = Uint8Array.from(atob(data), one => one.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], 'given.png', { type: 'image/png' }));
  const event = how === 'paste' ? new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true })
    : new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.querySelector('#results').dispatchEvent(event);
}"""

pytestmark = needs_chromium


def test_a_text_search_shows_pictures_and_its_address_brings_them_again(tab: Page) -> None:
    found = search(tab, "sushi")
    assert len(found) == 20 and min(tab.evaluate(PICTURES)) > 0
    expect(tab.locator("#status")).to_contain_text("20 pairs for “sushi”")
    expect(tab.locator(".badges")).to_contain_text("coverage 100 %")
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
    expect(card.locator("[data-action=for]")).to_have_attribute("aria-pressed", "true")
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
    expect(tab.locator("#search [name=filters]")).to_have_attribute("aria-invalid", "true")
    tab.fill("#search [name=filters]", "source == nobody")
    tab.click("#search [type=submit]")
    tab.get_by_role("button", name="Search without filters").click()
    assert len(cards(tab)) == 5


def test_what_is_being_typed_stays_while_an_option_changes(tab: Page) -> None:
    tab.locator("#text").wait_for()
    tab.evaluate("""() => {
      const form = document.querySelector('#search-form'), changed = new Event('change', { bubbles: true });
      form.elements.k.value = 7;
      form.elements.k.dispatchEvent(changed);
      form.elements.text.value = 'a fox';
      form.elements.filters.value = 'source != nobody';
    }""")
    expect(tab.locator("[data-changed]").first).to_have_text("hits 7")
    assert tab.input_value("#text") == "a fox" and tab.input_value("#search [name=filters]") == "source != nobody"
    tab.press("#text", "Enter")
    assert len(cards(tab)) == 7


def test_a_pair_is_opened_with_its_reasons_by_a_key_and_by_a_link(tab: Page) -> None:
    first, second, *_ = search(tab, "sushi")
    tab.locator(".face").first.press("ArrowRight")
    tab.keyboard.press("Enter")
    dialog = tab.locator("#detail")
    expect(dialog.locator(".reasons")).to_contain_text("found for “sushi”")
    expect(dialog.locator(".columns")).to_contain_text(str(second))
    expect(tab).to_have_url(re.compile(f"open={second}"))
    tab.reload()
    expect(dialog.locator(".columns")).to_contain_text(str(second))
    tab.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(tab).not_to_have_url(re.compile("open="))
    assert first in cards(tab)


def test_the_files_of_the_page_are_never_mixed_with_those_of_an_older_version(tab: Page) -> None:
    for path in ("/", "/static/app.js"):
        assert tab.request.get(path).headers["cache-control"] == "no-cache"


def test_what_the_server_sends_is_shown_as_text(tab: Page) -> None:
    tab.goto("/#search?" + urlencode({"text": HOSTILE, "key": "text"}))
    expect(tab.locator(".hit .text", has_text="<img src=x").first).to_be_visible()
    tab.locator(".hit", has_text="<img src=x").locator(".face").click()
    expect(tab.locator("#detail h2")).to_have_text(HOSTILE)


def found_by_snippets(tab: Page, folder: Path) -> list[list[int]]:
    """The pair_ids that the page's curl and its Python find, run in a folder."""
    tab.evaluate("document.querySelector('#snippets').open = true")
    curl, python = (tab.locator("#snippets code").nth(i).inner_text() for i in range(2))
    answer, said = (
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
        for command in (["bash", "-c", curl], [sys.executable, "-c", python])
    )
    hits = json.loads(answer)["results"][0]["hits"]
    return [[hit["pair_id"] for hit in hits], [int(line.split()[0]) for line in said.splitlines()]]


def test_the_python_and_the_curl_of_a_view_find_the_same_pairs(tab: Page, tmp_path: Path) -> None:
    first, *_ = search(tab, 'it\'s "sushi"')
    tab.locator(f"[data-pair='{first}'] [data-action=for]").click()
    expect(tab.locator("#results h2")).to_contain_text("one pair")
    assert found_by_snippets(tab, tmp_path) == [cards(tab)] * 2
    data = tab.request.get(f"/v1/pairs/{first}/image").body()
    (tmp_path / "photo.jpg").write_bytes(data)
    tab.set_input_files("#file", {"name": "mine.png", "mimeType": "image/png", "buffer": data})
    expect(tab.locator("#results h2")).to_contain_text("your image")
    assert found_by_snippets(tab, tmp_path) == [cards(tab)] * 2
