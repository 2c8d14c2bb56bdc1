"""What a thread does for a task that was cancelled ends at its next stop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pytest

from react_ray.artifact import Artifact, open_artifact
from react_ray.cancellation import in_thread, stop_if_cancelled
from react_ray.kinds import EMBEDDINGS
from react_ray.search.scan import Scan
from tests.support.searchable import many, vector, write_searchable


class Held(Artifact):
    """Waits before it reads a part, until it may."""

    def read(self, part: int, columns: list[str] | None = None) -> pa.Table:
        self.parts_read.append(part)
        self.begun.set()
        self.may.wait()
        return super().read(part, columns)


def held(uri: str) -> Held:
    found = open_artifact(f"{uri}/embeddings", EMBEDDINGS)
    one = Held(found.storage, found.kind, found.manifest)
    one.parts_read, one.begun, one.may = [], Event(), Event()
    return one


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_scan_that_nobody_waits_for_reads_no_further_part(tmp_path: Path, is_cancelled: bool) -> None:
    uri = str(tmp_path / "database")
    write_searchable(uri, [many(4), many(4, 4), many(4, 8)])
    embeddings = held(uri)
    query_QD = vector("a box").astype(np.float32)[None]

    async def ask() -> None:
        with ThreadPoolExecutor(2) as threads:
            scan = Scan(embeddings, "text", [0, 1, 2])
            asked = asyncio.create_task(in_thread(threads, scan.search, query_QD, 5))
            await asyncio.get_running_loop().run_in_executor(threads, embeddings.begun.wait)
            if is_cancelled:
                asked.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asked
            embeddings.may.set()

    asyncio.run(ask())
    assert embeddings.parts_read == ([0] if is_cancelled else [0, 1, 2])


def test_work_elsewhere_is_never_stopped() -> None:
    stop_if_cancelled()
