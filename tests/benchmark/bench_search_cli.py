"""Seconds from the shell to the hits of one sentence: `react-ray search DATABASE "..."`, each time a new process.

    python -m tests.benchmark.bench_search_cli                          # a database of the sample's 32,000 captions
    python -m tests.benchmark.bench_search_cli --database runs/sample/database

The last line is one JSON object. `cpu_s` is the processor time of the process, which other work on the machine changes
less than `seconds`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

SENTENCE = "a heron by the water"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--database", default="", help="URI; default: one that is made of the sample's captions")
    parser.add_argument("--repeats", type=int, default=5)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = wanted.database or sample_database(folder)
        times = [once(database) for _ in range(wanted.repeats + 1)][1:]  # the first reads the libraries from the disk
    seconds, cpu = zip(*times, strict=True)
    print(f"seconds {', '.join(f'{value:.2f}' for value in seconds)}")
    found = {"repeats": wanted.repeats, "seconds": statistics.median(seconds), "cpu_s": statistics.median(cpu)}
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


def once(database: str) -> tuple[float, float]:
    """(seconds, processor seconds) of one command."""
    command = [sys.executable, "-m", "react_ray.cli", "search", database, SENTENCE, "--json", "--key", "text"]
    before, began = _cpu_s(), time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - began
    assert len(json.loads(ended.stdout)["hits"]) == 10
    return seconds, _cpu_s() - before


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sample_database(folder: str) -> str:
    """The captions of the sample's pool with their vectors and a flat index; image vectors are random."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from react_ray.storage import open_parquet
    from tests.support.searchable import write_index, write_searchable

    captions = [
        text or "nothing" for text in open_parquet("sample://pool.parquet").read(["caption"])["caption"].to_pylist()
    ]
    write_searchable(f"{folder}/database", [captions[first : first + 2048] for first in range(0, len(captions), 2048)])
    write_index(f"{folder}/database", 4)
    return f"{folder}/database"


if __name__ == "__main__":
    main()
