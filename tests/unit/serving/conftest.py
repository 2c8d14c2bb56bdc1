"""A database that is searched by the tests of serving: 251 pairs in 3 parts, of which an index covers the first two."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.searchable import ANIMALS, many, png, write_index, write_searchable


@pytest.fixture
def uri(tmp_path: Path) -> str:
    uri, parts = str(tmp_path / "database"), [ANIMALS + many(120), many(116, 200), many(7, 400)]
    write_searchable(uri, parts[:2])
    write_index(uri, num_shards=2)
    write_searchable(uri, parts, png(tmp_path))
    return uri
