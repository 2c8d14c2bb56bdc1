"""A signal ends a process whatever its main thread does, and whoever has taken the handlers."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

START = """
import ctypes, os, signal, subprocess, sys, threading, time
from react_ray import interrupt
interrupt.GRACE_S = float(sys.argv[1])
def ready():
    print(f"ready {os.getpid()}", flush=True)
with interrupt.Interruption() as interruption:
    interruption.resumes_from(["a", "b"])
"""
WORK = {
    "waiting for a lock": "ready(); threading.Event().wait()",
    "in C code": "ready(); ctypes.CDLL(None).sleep(60)",
    "that keeps the interruption to itself": """
        def stubborn():
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                stubborn()
        ready()
        stubborn()""",
    "whose handlers a library has replaced": """
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: os._exit(0))
        ready()
        time.sleep(60)""",
    "whose handlers native code has replaced": """
        for signum in (signal.SIGINT, signal.SIGTERM):
            ctypes.CDLL(None).signal(signum, None)
        ready()
        while True: pass""",
    "that is slow to clean up": """
        try:
            ready()
            time.sleep(60)
        finally:
            time.sleep(60)""",
}
HINT = "interrupted; what is done is kept, the same command goes on from a and b\n"


def started(work: str, grace_s: float = 0.2, after: str = "") -> tuple[subprocess.Popen[str], int]:
    """The process, once it is at its work, and the pid that it says."""
    lines = [f"    {line.removeprefix('        ')}" for line in work.strip("\n").splitlines()]
    process = subprocess.Popen(
        [sys.executable, "-c", "\n".join([START, *lines, after]), str(grace_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ready, pid = process.stdout.readline().split()
    assert ready == "ready"
    return process, int(pid)


@pytest.mark.parametrize("work", list(WORK))
def test_a_signal_ends_a_command(work: str) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        process, _ = started(WORK[work])
        process.send_signal(signum)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (128 + signum, HINT)


def test_a_second_signal_ends_it_at_once() -> None:
    process, _ = started(WORK["that is slow to clean up"], grace_s=1e5)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None and process.stderr.readline() == HINT
    process.send_signal(signal.SIGINT)
    assert process.wait(50) == 130


def test_nothing_is_said_after_the_last_line() -> None:
    process, _ = started("""
        from react_ray.progress import say
        def speaks():
            while True:
                say("at work")
        for _ in range(3):
            threading.Thread(target=speaks, daemon=True).start()
        def stubborn():
            try:
                speaks()
            except KeyboardInterrupt:
                stubborn()
        say("at work")
        ready()
        stubborn()""")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.endswith(f"at work\n{HINT}") and said.count(HINT) == 1


def test_children_end_with_it_and_get_their_signals_as_usual() -> None:
    process, _ = started("""
        def forks():
            pass
        terminated = subprocess.Popen(["sleep", "60"], preexec_fn=forks)
        terminated.terminate()
        assert terminated.wait() == -signal.SIGTERM
        print("ready", subprocess.Popen(["sleep", "600"]).pid, flush=True)
        threading.Event().wait()""")
    process.terminate()
    process.communicate(timeout=60)  # to the end of the output, which the child holds open as long as it lives
    assert process.returncode == 143


def test_afterwards_signals_are_what_they_were() -> None:
    process, _ = started("pass", after="ready()\ntime.sleep(60)")
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM
