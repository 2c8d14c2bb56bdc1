"""Starts the Chromium of the machine, for tests of pages in a real browser."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
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

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt-get install chromium")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # which root may not use
        yield started
        started.close()
