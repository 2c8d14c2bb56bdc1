"""Starts the Chromium of the machine, for tests of pages in a real browser."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
PATIENCE_MS = 120_000  # for what a page waits for, on a machine that does other things too; Playwright waits for 30 s
LOOKS = list(itertools.product((390, 1280), ("light", "dark")))  # widths of a phone and of a screen, colour schemes
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

expect.set_options(timeout=PATIENCE_MS)
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt-get install chromium")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        options = ["--no-sandbox"]  # a sandbox is nothing that root may use
        started = driver.chromium.launch(executable_path=CHROMIUM, args=options, timeout=PATIENCE_MS)
        yield started
        started.close()


def new_tab(browser: Browser, **look: Any) -> Page:
    """A patient page in a context of its own, which ends with it. look: options of the context."""
    tab = browser.new_page(**look)
    tab.set_default_timeout(PATIENCE_MS)
    return tab
