"""How long a command takes that has nothing to do: each verb, and a whole run, in a process of its own.

`python -m tests.benchmark.bench_noop [RECIPE section.field=value ...]` takes a finished run, or makes a small one; the
last line is one JSON object with the median seconds of 5 attempts. `report` is no such command: it always renders.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.small_run import command, react_ray, small_recipe

ATTEMPTS = 5
VERBS = ("ingest", "embed", "index", "retrieve", "customize", "evaluate", "run")


def measure(recipe: str, *overrides: str) -> dict[str, float]:
    finished = react_ray("run", recipe, *overrides)
    assert finished.returncode == 0, finished.stderr
    medians = {}
    for verb in VERBS:
        seconds = []
        for _ in range(ATTEMPTS):
            began = time.perf_counter()
            done = subprocess.run(command(verb, recipe, *overrides), capture_output=True, text=True, check=True)
            seconds.append(time.perf_counter() - began)
            assert done.stderr.startswith("nothing to do"), done.stderr
        medians[verb] = round(statistics.median(seconds), 2)
        print(f"{verb:<10} {medians[verb]:.2f} s  ({', '.join(f'{one:.2f}' for one in seconds)})", flush=True)
    return medians


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(*(sys.argv[1:] or [small_recipe(Path(folder))]))))
