"""Downloads the images of a table of pairs: fetches, decodes, resizes and encodes them, one output row per input row.

The fetcher's thread hands each response to a few threads that prepare it (store.py), and waits while QUEUE_BYTES are
not yet prepared. Originals are not kept, so memory holds the requests in flight, the queue and the small images. Equal
URLs are fetched and prepared once.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from threading import Condition

import pyarrow as pa

from react_ray import schema
from react_ray.pairs.download_config import DownloadConfig
from react_ray.pairs.store import Stored, prepare
from react_ray.row_guard import texts, unforeseen
from react_ray.web.fetch import Fetcher, FetchResult
from react_ray.web.status import is_retriable

__all__ = ["COLUMNS", "DownloadConfig", "download", "retry"]

COLUMNS = ["pair_id", "url", "caption"]  # of `pairs`, or of `retrieved`
QUEUE_BYTES = 64 << 20  # fetched and not yet prepared, of one part


def download(pairs: pa.Table, fetcher: Fetcher, config: DownloadConfig, queue_bytes: int = QUEUE_BYTES) -> pa.Table:
    """Returns rows of schema.IMAGES. For a row without an image, `status` says why there is none."""
    urls = texts(pairs["url"], "surrogateescape")  # bytes that are not UTF-8 become %xx, as in browsers
    distinct = {url: row for row, url in enumerate(dict.fromkeys(urls))}
    stored = _fetch_and_prepare(list(distinct), fetcher, config, queue_bytes)
    rows = [stored[distinct[url]] for url in urls]
    columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields(Stored)}
    table = pa.table(
        {name: pa.array(values, schema.IMAGES.field(name).type) for name, values in columns.items()}
        | {name: pairs[name] for name in ("pair_id", "caption")}
    )
    return schema.conform(table, schema.IMAGES).combine_chunks()


def retry(pairs: pa.Table, images: pa.Table, fetcher: Fetcher, config: DownloadConfig) -> pa.Table:
    """Returns `images` with the rows whose failure may pass fetched again; the other rows are unchanged."""
    failed = [row for row, status in enumerate(images["status"].to_pylist()) if is_retriable(status)]
    again = download(pairs.take(pa.array(failed, pa.int64())), fetcher, config)
    rows = list(range(len(images)))
    for new, row in enumerate(failed):
        rows[row] = len(images) + new
    return pa.concat_tables([images, again]).take(pa.array(rows, pa.int64())).combine_chunks()


def _fetch_and_prepare(
    urls: list[str | None], fetcher: Fetcher, config: DownloadConfig, queue_bytes: int
) -> list[Stored]:
    stored: dict[int, Stored] = {}
    queue = _Queue(queue_bytes)
    preparing: list[Future[None]] = []

    def prepare_row(row: int, data: bytes) -> None:
        try:
            stored[row] = prepare(data, config)
        except Exception as error:
            stored[row] = Stored(status=schema.INTERNAL_ERROR, error=unforeseen(error))
        finally:
            queue.leave(len(data))

    def arrived(row: int, fetched: FetchResult) -> None:
        if fetched.data is None:
            stored[row] = Stored(status=fetched.status, error=fetched.error)
        else:
            queue.enter(len(fetched.data))
            preparing.append(pool.submit(prepare_row, row, fetched.data))

    with ThreadPoolExecutor(config.num_threads, thread_name_prefix="prepare") as pool:
        fetcher.fetch_each(urls, arrived)
        for each in preparing:
            each.result()
    return [stored[row] for row in range(len(urls))]


class _Queue:
    """Counts the bytes that are fetched and not yet prepared; an empty queue accepts one image of any size."""

    def __init__(self, num_bytes: int) -> None:
        self.most, self.within, self.changed = num_bytes, 0, Condition()

    def enter(self, num_bytes: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: not self.within or self.within + num_bytes <= self.most)
            self.within += num_bytes

    def leave(self, num_bytes: int) -> None:
        with self.changed:
            self.within -= num_bytes
            self.changed.notify_all()
