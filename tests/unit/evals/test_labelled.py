"""Reading rows of an evaluation set does not depend on its row groups."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.evals.labelled import read_rows


@pytest.mark.parametrize("group", [1, 7, 100])
def test_a_range_of_rows_is_what_a_slice_of_the_whole_is(tmp_path: Path, group: int) -> None:
    whole = pa.table({"row": range(50), "label": [str(row) for row in range(50)]})
    pq.write_table(whole, tmp_path / "set.parquet", row_group_size=group)
    with pq.ParquetFile(tmp_path / "set.parquet") as file:
        for start, count in ((0, 50), (0, 1), (13, 8), (14, 7), (45, 20), (49, 1)):
            assert read_rows(file, start, count, ["row"]) == whole.select(["row"]).slice(start, count)
