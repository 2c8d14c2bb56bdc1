"""How long a command takes that has nothing to do: each verb, and a whole run, in a process of its own.

`python -m tests.benchmark.bench_noop [FOLDER]` makes a small run (or uses the one in FOLDER) and then times each
command; the last line is one JSON object with the median seconds of 5 attempts.
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
VERBS = ("ingest", "embed", "index", "retrieve", "customize", "evaluate", "run", "report")


def measure(folder: Path) -> dict[str, float]:
    recipe = small_recipe(folder)
    made = react_ray("run", recipe)
    assert made.returncode == 0, made.stderr
    found = {}
    for verb in VERBS:
        seconds = []
        for _ in range(ATTEMPTS):
            began = time.perf_counter()
            subprocess.run(command(verb, recipe), capture_output=True, check=True)
            seconds.append(time.perf_counter() - began)
        found[verb] = round(statistics.median(seconds), 2)
        print(f"{verb:<10} {found[verb]:.2f} s  ({', '.join(f'{one:.2f}' for one in seconds)})", flush=True)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(measure(Path(sys.argv[1] if len(sys.argv) > 1 else place))))
