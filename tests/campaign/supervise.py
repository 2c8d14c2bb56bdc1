"""Runs cases in worker processes and outlives what they do: a case may hang, kill its process or fill the memory.

Each thread here has one worker, which it replaces after RECYCLE_AFTER cases and whenever a case has ended it. A case
without an answer in HANG_S is a hang, a worker that died is a crash of its case, and both are results like any other.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import psutil

from tests.campaign.case import CRASH, HANG, MEMORY, OK, REFUSED
from tests.campaign.worker import BEGUN, SAY_WHERE

HANG_S = 30.0
START_S = 600.0  # for a process and its imports
MEMORY_GB = 1.5  # the promise
KILL_GB = 4.0  # the machine is protected
RECYCLE_AFTER = 250
LOOK_EVERY_S = 0.5  # at the memory of a worker that has not answered yet
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Result:
    door: str
    number: int
    kind: str
    text: str
    where: str
    peak_gb: float
    seconds: float

    @property
    def is_right(self) -> bool:
        return self.kind in (OK, REFUSED)


def run_cases(cases: Iterable[tuple[str, int]], seed: int, num_workers: int, hang_s: float = HANG_S) -> list[Result]:
    """Returns the results in no particular order. A door is a module of this package, whose `run` takes a Case."""
    waiting, lock = iter(cases), Lock()

    def mine() -> Iterator[tuple[str, int]]:
        while True:
            with lock:
                case = next(waiting, None)
            if case is None:
                return
            yield case

    with tempfile.TemporaryDirectory(prefix="campaign-") as folder, ThreadPoolExecutor(num_workers) as pool:
        found = [pool.submit(lambda: list(_work(mine(), seed, hang_s, folder))) for _ in range(num_workers)]
        return [result for each in found for result in each.result()]


def _work(cases: Iterator[tuple[str, int]], seed: int, hang_s: float, folder: str) -> Iterator[Result]:
    worker: _Worker | None = None
    try:
        for door, number in cases:
            if worker is None:
                worker = _Worker(seed, hang_s, folder)
            result = worker.run(door, number)
            yield result
            if worker.is_spent:
                worker.end()
                worker = None
    finally:
        if worker is not None:
            worker.end()


class _Worker:
    def __init__(self, seed: int, hang_s: float, folder: str) -> None:
        """folder: for all temporary files, which a worker that is killed leaves there."""
        self._hang_s = hang_s
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.worker", str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            bufsize=0,  # `select` would not see a line that lies in a buffer
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "TMPDIR": folder},
        )
        self._facts = psutil.Process(self._process.pid)
        self._cases = 0
        self.is_spent = False

    def run(self, door: str, number: int) -> Result:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._cases += 1
        started, limit_s, seen_gb = time.monotonic(), START_S, 0.0
        self._said.seek(0, 2)
        begin = self._said.tell()
        with suppress(BrokenPipeError):  # it ended after its last answer; the line that does not come says so
            self._process.stdin.write(f"{door} {number}\n".encode())
            self._process.stdin.flush()
        while True:
            ready, _, _ = select.select([self._process.stdout], [], [], LOOK_EVERY_S)
            seconds = time.monotonic() - started
            if ready:
                line = self._process.stdout.readline()
                if not line:
                    code = self._process.wait()
                    return self._over(door, number, CRASH, f"exit code {code}: {self._last(begin)}", seen_gb, seconds)
                if line.strip() == BEGUN.encode():
                    started, limit_s = time.monotonic(), self._hang_s
                    continue
                answer = json.loads(line)
                self.is_spent = self._cases >= RECYCLE_AFTER or answer["peak_gb"] > MEMORY_GB
                result = Result(door, number, **answer)
                if result.is_right and result.peak_gb > MEMORY_GB:
                    text = f"{result.peak_gb:.1f} GB, then {result.kind}: {result.text}"
                    return replace(result, kind=MEMORY, text=text, where="")
                return result
            seen_gb = max(seen_gb, self._memory_gb())
            if seen_gb > KILL_GB:
                return self._over(door, number, MEMORY, f"more than {KILL_GB} GB", seen_gb, seconds)
            if seconds > limit_s:
                self._process.send_signal(SAY_WHERE)
                time.sleep(LOOK_EVERY_S)
                return self._over(door, number, HANG, f"no answer: {self._last(begin)}", seen_gb, seconds)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _over(self, door: str, number: int, kind: str, text: str, peak_gb: float, seconds: float) -> Result:
        self.is_spent = True
        return Result(door, number, kind, text, text[:60], peak_gb, seconds)

    def _memory_gb(self) -> float:
        try:
            return float(self._facts.memory_info().rss) / 2**30
        except psutil.Error:
            return 0.0

    def _last(self, begin: int) -> str:
        """Returns the innermost frames that the worker printed before its end."""
        self._said.seek(begin)
        lines = self._said.read().decode("utf-8", "replace").splitlines()
        frames = [line.strip() for line in lines if line.strip().startswith("File ")]
        return " < ".join(frames[:4]) or " ".join(lines[-3:])[-300:]
