"""The misbehaving web, once for all tests of the fetcher."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.web import Web, web_server


@pytest.fixture(scope="session")
def web() -> Iterator[Web]:
    with web_server() as server:
        yield server
