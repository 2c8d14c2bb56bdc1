"""A process that works on cases: reads lines `door number`, and writes two lines for each: BEGUN, then JSON.

`python -m tests.campaign.worker SEED`. Modules are imported before BEGUN, because torch takes long on a busy machine.
What libraries print goes to stderr, so that stdout holds the answers alone. The peak of memory is taken per case, where
the system lets a process reset it.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from tests.campaign.case import Case, judge

SAY_WHERE = signal.SIGUSR1  # asks for the frames of a case that is about to be ended as a hang

BEGUN = "begun"


def main(seed: int) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()
    faulthandler.register(SAY_WHERE)
    for line in sys.stdin:
        door, number = line.split()
        folder = Path(tempfile.mkdtemp(prefix=f"case-{door}-{number}-"))
        run = importlib.import_module(f"tests.campaign.{door}").run
        print(BEGUN, file=answers, flush=True)
        _reset_peak()
        started = time.monotonic()
        try:
            outcome = judge(run, Case(door, int(number), seed, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        seconds = time.monotonic() - started
        print(json.dumps(asdict(outcome) | {"peak_gb": _peak_gb(), "seconds": seconds}), file=answers, flush=True)


def _reset_peak() -> None:
    with suppress(OSError):  # where it cannot be reset, the peak is that of the process so far
        Path("/proc/self/clear_refs").write_text("5")


def _peak_gb() -> float:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    kilobytes = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / 2**20


if __name__ == "__main__":
    main(int(sys.argv[1]))
