from __future__ import annotations

from pathlib import Path

import pytest

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.source import IngestConfig, open_source
from tests.support.source_files import read_all, write

URLS = [f"http://a/{i}.jpg" for i in range(40)]


@pytest.mark.parametrize("name", ["list.txt", "LIST.TXT.GZ"])
@pytest.mark.parametrize("header", ["url", "URL\r", "\ufeffimage_url"])
def test_a_line_that_names_the_column_is_no_row(tmp_path: Path, name: str, header: str) -> None:
    uri = write(tmp_path, name.lower(), "\n".join([header, *URLS]).encode())
    renamed = str(Path(uri).rename(tmp_path / name))
    assert read_all(IngestConfig(source=renamed, rows_per_part=7))["url"].to_pylist() == URLS
    assert open_source(IngestConfig(source=renamed)).seen.lines() == [
        f"passed over: lines that name the column: 1 ({name} line 1)"
    ]


def test_lines_that_are_no_url_are_counted_and_a_text_is_no_list(tmp_path: Path) -> None:
    uri = write(tmp_path, "list.txt", "\n".join([*URLS, "cats/1.jpg", "", *URLS]).encode())
    config = IngestConfig(source=uri)
    assert read_all(config)["url"].to_pylist() == [*URLS, "cats/1.jpg", None, *URLS]
    assert open_source(config).seen.lines() == [
        "rows that cannot be used: lines that are no URL: 1 (list.txt line 41)",
        "rows that cannot be used: empty lines: 1 (list.txt line 42)",
    ]
    prose = write(tmp_path, "readme.txt", b"This folder\nholds pictures.\n")
    with pytest.raises(ConfigError, match=r"2 of the 2 rows .* cannot be used: lines that are no URL: 2"):
        open_source(IngestConfig(source=prose))


def test_urls_that_need_no_host_are_urls(tmp_path: Path) -> None:
    urls = ["data:image/png;base64,AAEC", "DATA:,a", "file:/pictures/1.jpg", "file:///pictures/2.jpg"]
    config = IngestConfig(source=write(tmp_path, "list.txt", "\n".join(urls).encode()))
    assert read_all(config)["url"].to_pylist() == urls
    assert open_source(config).seen.lines() == []


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    uri = write(tmp_path, "list.txt.gz", b"http://a\nhttp://" + b"a" * (64 << 20))
    with pytest.raises(StorageError, match="line 2 is longer than 1 MiB"):
        open_source(IngestConfig(source=uri))


@pytest.mark.parametrize("inside", ["\ta bird", "\rhttp://a/2.jpg", "\0"])
def test_lines_of_several_columns_are_no_urls(tmp_path: Path, inside: str) -> None:
    uri = write(tmp_path, "list.txt", "\r\n".join([*URLS, f"http://a/1.jpg{inside}"]).encode())
    assert open_source(IngestConfig(source=uri)).seen.lines() == [
        "rows that cannot be used: lines with a tab, NUL or CR inside (is it a table?): 1 (list.txt line 41)"
    ]
