"""How a command ends: whatever it raises is one line on stderr and an exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable

from react_ray.errors import ReactRayError
from react_ray.fault_log import told
from react_ray.interrupt import Interruption, Stderr
from react_ray.redact import redact

logger = logging.getLogger("react_ray")


def log_to_stderr() -> None:
    """Warnings, and with a lower level of `react_ray` also its messages, without secrets."""
    shown = logging.StreamHandler(Stderr())
    shown.setFormatter(_Redacted("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[shown])


def exit_code(command: Callable[[], None], interruption: Interruption) -> int:
    """Runs a command. Its exit code is 0, that of a ReactRayError, 1 for a fault of ours, or that of a signal."""
    try:
        try:
            command()
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except KeyboardInterrupt:
        return interruption.code or 128 + signal.SIGINT
    except Exception as error:
        if interruption.code:
            return interruption.code  # whatever became of the interruption on its way through Ray
        logger.info("the error below was raised here", exc_info=True)
        known = _known(error)
        print(f"error: {' '.join(redact(str(known)).split()) if known else told(error)}", file=sys.stderr, flush=True)
        return known.exit_code if known else 1
    return 0


def _known(error: Exception) -> ReactRayError | None:
    """The error that the user should read; None if it is a fault of ours."""
    if isinstance(error, ReactRayError) and not hasattr(error, "cause"):  # Ray's error is also of the type of its cause
        return error
    from react_ray.runtime.explain import explain

    return explain(error)


class _Redacted(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
