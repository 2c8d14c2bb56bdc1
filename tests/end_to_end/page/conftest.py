"""A small database of real pictures, served to Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.support.chromium import LOOKS, chromium, new_tab
from tests.support.sample_database import write_sample_database
from tests.support.served_page import listening
from tests.support.serving import serving_recipe

TASKS = {"file": "sample://tasks.json", "names": ["weather"]}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
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
    """The page, once it knows its server; its parameter is (width, colour scheme)."""
    width, scheme = getattr(request, "param", LOOKS[-2])
    opened = new_tab(browser, viewport={"width": width, "height": 800}, color_scheme=scheme, base_url=site)
    lines: list[str] = []
    opened.on("console", lambda message: lines.append(message.text))
    opened.on("pageerror", lambda error: lines.append(str(error)))
    opened.goto("/")
    opened.locator(".examples").wait_for()
    yield opened
    opened.close()
    assert [line for line in lines if not any(part in line for part in said)] == []
