"""Rows of URLs in, rows of images out: in order, each once, and the same however they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pyarrow as pa
import pytest

from react_ray import schema
from react_ray.pairs.download import DownloadConfig, download, retry
from react_ray.pairs.image import read_header
from react_ray.pairs.store import prepare
from react_ray.parquet import parquet_bytes
from react_ray.web.fetch import Fetcher
from react_ray.web.status import is_retriable
from tests.support.url_list import QUICK, misbehaving
from tests.support.web import Web
from tests.support.web_pages import image

CONFIG = DownloadConfig(**QUICK, image_size=32, resize_mode="keep_ratio")


@pytest.fixture(scope="module")
def fetcher() -> Iterator[Fetcher]:
    with Fetcher(CONFIG) as made:
        yield made


def pairs_of(urls: list[str | None]) -> pa.Table:
    rows = range(len(urls))
    return pa.table(
        {
            "pair_id": pa.array([7 + row for row in rows], pa.int64()),
            "url": urls,
            "caption": [f"c {row}" for row in rows],
        }
    )


def test_every_row_has_its_image_or_its_reason_in_its_own_place(web: Web, fetcher: Fetcher) -> None:
    urls = [
        web.http + "/image/3.jpg",
        web.http + "/status/404",
        None,
        web.http + "/html",
        web.http + "/image/4.png?side=100",
        web.http + "/cut",
        web.http + "/huge",
        web.http + "/zero",
    ]
    table = download(pairs_of(urls), fetcher, CONFIG)
    assert table.schema == schema.IMAGES
    assert table["pair_id"].to_pylist() == list(range(7, 15)) and table["caption"][4].as_py() == "c 4"
    assert table["status"].to_pylist() == [
        "ok",
        "http_404",
        "no_url",
        "not_an_image",
        "ok",
        "undecodable",
        "too_large",
        "empty",
    ]
    rows = table.to_pylist()
    assert [row["image"] is not None for row in rows] == [row["status"] == "ok" for row in rows]
    assert [row["error"] is None for row in rows] == [row["status"] == "ok" for row in rows]
    assert rows[0]["sha256"] == hashlib.sha256(image(3)).hexdigest()
    assert rows[0]["image"] == prepare(image(3), CONFIG).image
    assert read_header(rows[4]["image"]).size == (rows[4]["width"], rows[4]["height"]) == (32, 32)
    assert (rows[4]["original_width"], rows[4]["original_height"]) == (100, 100)


def test_equal_urls_of_a_part_are_asked_once_and_answer_for_each_row(web: Web, fetcher: Fetcher) -> None:
    url = web.http + "/flaky/of-a-part?times=0"
    table = download(pairs_of([url, web.http + "/image/1.jpg", url, url]), fetcher, CONFIG)
    assert web.num_requests("/flaky/of-a-part") == 1
    assert len(set(table["image"].to_pylist())) == 1 and table["status"].to_pylist() == ["ok"] * 4


def test_the_bytes_of_a_part_do_not_depend_on_width_or_order_of_arrival(web: Web, fetcher: Fetcher) -> None:
    pairs = pairs_of([url or None for url in misbehaving(web, 120)])
    wide = download(pairs, fetcher, CONFIG)
    narrow_config = DownloadConfig(**CONFIG.model_dump() | {"max_in_flight": 1, "num_threads": 1})
    with Fetcher(narrow_config) as narrow_fetcher:
        narrow = download(pairs, narrow_fetcher, narrow_config, queue_bytes=1)  # room for one image at a time
    assert parquet_bytes(wide) == parquet_bytes(narrow)
    assert 0.65 <= wide["status"].to_pylist().count("ok") / 120 <= 0.75


def test_a_retry_asks_for_what_may_pass_and_keeps_all_other_rows(web: Web, fetcher: Fetcher) -> None:
    paths = ["/flaky/kept?times=0", "/flaky/heals?code=503", "/flaky/lost?code=404&times=9", "/status/500"]
    pairs = pairs_of([web.http + path for path in paths])
    first = download(pairs, fetcher, CONFIG)
    assert first["status"].to_pylist() == ["ok", "http_503", "http_404", "http_500"]
    second = retry(pairs, first, fetcher, CONFIG)
    assert second["status"].to_pylist() == ["ok", "ok", "http_404", "http_500"]
    assert second.take([0, 2, 3]).equals(first.take([0, 2, 3])) and second["pair_id"] == first["pair_id"]
    assert web.num_requests("/flaky/kept") == web.num_requests("/flaky/lost") == 1
    assert parquet_bytes(second) == parquet_bytes(download(pairs, fetcher, CONFIG))


def test_the_section_has_the_fields_of_fetching_and_storing_and_digests_what_changes_results() -> None:
    assert {"image_size", "total_timeout_s", "encode_quality", "retries"} <= set(CONFIG.digested())
    assert not {"of", "min_success", "num_workers", "parts_per_worker", "max_in_flight"} & set(CONFIG.digested())


def test_an_exception_that_nobody_foresaw_is_the_status_of_its_row(web: Web, fetcher: Fetcher) -> None:
    odd = CONFIG.model_copy(update={"encode_format": "tiff"})  # which no recipe can name: a KeyError when it is stored
    urls = [web.http + "/image/3.jpg", web.http + "/status/404", None, web.http + "/html"]
    table = download(pairs_of(urls), fetcher, odd)
    assert table["status"].to_pylist() == ["internal_error", "http_404", "no_url", "not_an_image"]
    assert is_retriable(table["status"][0].as_py())
    assert table["error"][0].as_py().startswith("KeyError: ") and table["image"][0].as_py() is None


def test_the_bytes_of_a_url_that_is_not_utf_8_are_requested_as_they_are(web: Web, fetcher: Fetcher) -> None:
    http = web.http.encode()
    raw = pa.array([http + b"/image/3.jpg?\xff", b"http://a\xff/", http + b"/image/4.jpg"], pa.binary())
    pairs = pairs_of([None] * 3).set_column(1, "url", pa.Array.from_buffers(pa.string(), 3, raw.buffers()))
    assert download(pairs, fetcher, CONFIG)["status"].to_pylist() == ["ok", "bad_url", "ok"]
