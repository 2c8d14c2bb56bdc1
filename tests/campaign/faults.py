"""A door that fails in every way, by which the supervisor itself is tested: the number of a case is its fault."""

from __future__ import annotations

import os
import signal
import threading

from react_ray.errors import ConfigError
from tests.campaign.case import HANG, Case, Wrong

NUM_BYTES = 1_700_000_000


def run(case: Case) -> str:
    return FAULTS[case.number](case)


def _right(case: Case) -> str:
    return "right"


def _refused(case: Case) -> str:
    raise ConfigError("name: it is missing; add a name")


def _no_advice(case: Case) -> str:
    raise ConfigError("missing")


def _wrong(case: Case) -> str:
    raise Wrong("a row is lost")


def _traceback(case: Case) -> str:
    raise KeyError("name")


def _crash(case: Case) -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return "not reached"


def _exit(case: Case) -> str:
    os._exit(0)


def _large(case: Case) -> str:
    return str(len(b"1" * NUM_BYTES))


def _hang(case: Case) -> str:
    threading.Event().wait()
    return HANG


FAULTS = (_right, _refused, _no_advice, _wrong, _traceback, _crash, _exit, _large, _hang)
