"""The rows beside the shards are those of `pairs`, part by part."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from react_ray.index.metadata_files import as_arrow


def test_a_file_has_a_batch_for_each_part_also_for_one_without_rows(tmp_path: Path) -> None:
    tables = [
        pa.table({"pair_id": pa.array(ids, pa.int64()), "caption": pa.array([f"é {one}" for one in ids], pa.string())})
        for ids in ([1, 2, 3], [], [7])
    ]
    path = tmp_path / "pairs-00000.arrow"
    path.write_bytes(b"".join(as_arrow(iter(tables))))
    read = pa.ipc.open_file(pa.memory_map(str(path)))
    assert [read.get_batch(number).to_pydict() for number in range(read.num_record_batches)] == [
        table.to_pydict() for table in tables
    ]
    assert read.schema.field("caption").type == pa.large_string()
