"""URLs that need no server are read where the recipe allows them, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

from react_ray.web import status
from react_ray.web.fetch import FetchConfig, Fetcher
from tests.support.web import Web


def test_data_and_file_urls_are_read_where_they_are_allowed(web: Web, tmp_path: Path) -> None:
    (tmp_path / "an image.png").write_bytes(b"bytes of a file")
    (tmp_path / "long").write_bytes(bytes(1001))
    os.mkfifo(tmp_path / "pipe")
    expected: dict[str | None, tuple[str, bytes | None]] = {
        "data:image/png;base64,AAEC": (status.OK, b"\x00\x01\x02"),
        " data:,a%20b": (status.OK, b"a b"),
        "data:image/png;base64,A*": (status.BAD_URL, None),
        "data:image/png": (status.BAD_URL, None),
        "data:,": (status.EMPTY, None),
        (tmp_path / "an image.png").as_uri(): (status.OK, b"bytes of a file"),
        (tmp_path / "no such").as_uri(): (status.FILE_UNREADABLE, None),
        (tmp_path / "long").as_uri(): (status.TOO_MANY_BYTES, None),
        (tmp_path / "pipe").as_uri(): (status.FILE_UNREADABLE, None),
        "file://elsewhere/etc/passwd": (status.BAD_URL, None),
        f"{web.http}/to?url=file:///etc/passwd": (status.SCHEME_REFUSED, None),
    }
    config = FetchConfig(allow_schemes=["http", "data", "file"], allow_private_addresses=True, max_bytes=1000)
    with Fetcher(config) as fetcher:
        results = fetcher.fetch(list(expected))
    assert {url: (fetched.status, fetched.data) for url, fetched in zip(expected, results, strict=True)} == expected
