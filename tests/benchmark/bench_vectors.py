"""Measures CPU-seconds per GB of reading and writing vectors in Parquet: as fixed-size binary and as lists of float16.

Each format is measured plain and with zstd, in one thread, with checksums, alternating. Vectors are stored as
fixed-size binary. The last line is one JSON object.

    python tests/benchmark/bench_vectors.py [--rows 60000] [--dim 512] [--repeats 5]
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests is no installed package

from react_ray.vectors import as_vectors, from_vectors
from tests.benchmark.made_vectors import Mixture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    pa.set_cpu_count(1)
    vector_ND = Mixture(asked.dim).draw(asked.rows, 0)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vector_ND.reshape(-1)), asked.dim)
    kinds = {"binary": as_vectors(vector_ND), "list": lists}
    seconds: dict[str, list[float]] = {}
    out: dict[str, Any] = {}
    for _ in range(asked.repeats):
        for kind, column in kinds.items():
            for codec in ("none", "zstd"):
                sink = io.BytesIO()
                took(seconds, f"{kind}_{codec}_write", lambda: write(sink, column, codec))  # noqa: B023
                found = took(seconds, f"{kind}_{codec}_read", lambda: read(sink, kind, asked.dim))  # noqa: B023
                assert np.array_equal(found.view(np.uint16), vector_ND.view(np.uint16))
                out[f"{kind}_{codec}_bytes"] = round(len(sink.getvalue()) / vector_ND.nbytes, 3)
    out |= {name: round(float(np.median(times)) * 1e9 / vector_ND.nbytes, 2) for name, times in seconds.items()}
    print(json.dumps(out | {"unit": "CPU-seconds per GB, bytes per byte", "rows": asked.rows, "dim": asked.dim}))


def write(sink: io.BytesIO, column: pa.Array, codec: str) -> None:
    level = 1 if codec == "zstd" else None
    pq.write_table(
        pa.table({"v": column}),
        sink,
        use_dictionary=False,
        compression=codec,
        compression_level=level,
        write_page_checksum=True,
    )


def read(sink: io.BytesIO, kind: str, dim: int) -> np.ndarray:
    column = pq.ParquetFile(io.BytesIO(sink.getvalue()), page_checksum_verification=True).read(use_threads=False)["v"]
    if kind == "binary":
        return from_vectors(column)
    values: np.ndarray = column.combine_chunks().values.to_numpy(zero_copy_only=False)
    return values.reshape(-1, dim)


def took(seconds: dict[str, list[float]], name: str, action: Callable[[], Any]) -> Any:
    began = time.process_time()
    result = action()
    seconds.setdefault(name, []).append(time.process_time() - began)
    return result


if __name__ == "__main__":
    main()
