"""A recipe whose places would be read or deleted as parts of one another is refused when it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from react_ray.recipe import load_recipe
from tests.unit.test_recipe import mistake, write


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"out": "sample://x"}, "out: sample://x is among the files of react_ray"),
        ({"database": "sample://"}, "database: sample:// is among the files"),
        ({"out": "s3://"}, "s3://: no bucket"),
        ({"out": "s3:/bucket/run"}, "write s3://"),
        ({"out": "/tmp/database/"}, "out and database are both /tmp/database"),
        ({"ingest": {"source": "/tmp"}}, "out=/tmp/out lies inside ingest.source=/tmp"),
        ({"ingest": {"source": "/tmp/out"}}, "out=/tmp/out lies inside ingest.source=/tmp/out"),
        ({"ingest": {"source": "/tmp/**/*.parquet"}}, "out=/tmp/out lies inside"),
        ({"ingest": {"source": "/tmp/database"}}, "database=/tmp/database lies inside"),
        ({"ingest": {"source": "/tmp/database/images/*.jpg"}}, "lies where database=/tmp/database keeps its artifacts"),
        ({"ingest": {"source": "s3://b/a"}, "out": "s3://b/a/run"}, "out=s3://b/a/run lies inside"),
    ],
)
def test_places_that_would_be_read_or_deleted_as_parts_of_another_are_refused(
    tmp_path: Path, changes: dict[str, Any], shown: str
) -> None:
    assert shown in mistake(write(tmp_path, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"database": "/tmp/out/database"},
        {"ingest": {"source": "/tmp/*.parquet"}},
        {"ingest": {"source": "/tmp/**/*.tar"}},
        {"ingest": {"source": "/tmp/out/urls.csv"}},
        {"ingest": {"source": "/tmp/outside"}},
        {"ingest": {"source": "s3://b/a"}, "out": "s3://b/ab"},
        {"out": "s3://bucket"},
    ],
)
def test_places_that_are_apart_are_not_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    load_recipe(write(tmp_path, **changes))
