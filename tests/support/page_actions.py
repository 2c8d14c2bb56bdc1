"""What tests do on the page of the server, as a person does it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

CLASSES = "sushi | japanese food\ntomato\nunheard-of thing"


def cards(tab: Page) -> list[int]:
    """The pair_ids on the page, when its answer is complete."""
    tab.wait_for_selector("#results:not([aria-busy]) .hit:not(.grey)")
    return [int(one) for one in tab.locator(".hit").evaluate_all("all => all.map(one => one.dataset.pair)")]


def search(tab: Page, text: str) -> list[int]:
    tab.fill("#text", text)
    with tab.expect_response("**/v1/search"):
        tab.press("#text", "Enter")
    return cards(tab)


def sent(tab: Page, path: str, act: Callable[[], object]) -> dict[str, Any]:
    """The body of the request that `act` makes the page send."""
    with tab.expect_request(f"**{path}") as caught:
        act()
    body: dict[str, Any] = json.loads(caught.value.post_data or "")
    return body


def ask_for_classes(tab: Page) -> None:
    """Three classes, six pairs of each."""
    tab.click("#tab-classes")
    tab.fill("#names", CLASSES)
    tab.locator("#classes summary").click()
    tab.fill("#classes [name=quota]", "6")
    tab.click("#classes [type=submit]")
    cards(tab)
