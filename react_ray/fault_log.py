"""Keeps the traceback of a fault of ours in a file of the user, so that the command line can say it in one line."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from react_ray import __version__
from react_ray.redact import redact

KEPT = 20  # files
LONGEST = 300  # characters of an error's own message in one line


def told(error: BaseException) -> str:
    """One line: the exception's name, what it says, and where its traceback is."""
    said = " ".join(redact(str(error)).split())
    said = said if len(said) <= LONGEST else f"{said[:LONGEST]}..."
    path = write(error)
    where = (
        f"the traceback is in {path}; please report it with that file"
        if path
        else ("no traceback could be written; set XDG_STATE_HOME to a folder that can be written, and try again")
    )
    return f"{type(error).__name__}{f': {said}' if said else ''}; {where}"


def write(error: BaseException) -> str:
    """Writes the traceback and returns its path; empty if no folder can be written."""
    lines = [
        f"react_ray {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"command: {' '.join(sys.argv)}",
        time.strftime("time: %Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "",
        *(line.rstrip("\n") for line in traceback.format_exception(error)),
    ]
    text = redact("\n".join(lines) + "\n")
    name = time.strftime(f"error-%Y%m%d-%H%M%S-{os.getpid()}.log", time.gmtime())
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = folder / name
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            path.chmod(0o600)
            for old in sorted(folder.glob("error-*.log"))[:-KEPT]:
                old.unlink(missing_ok=True)
            return str(path)
        except (OSError, RuntimeError):  # RuntimeError: there is no home directory
            continue
    return ""


def _folders() -> list[Path]:
    state = os.environ.get("XDG_STATE_HOME", "")
    home = Path(state) if os.path.isabs(state) else Path(os.path.expanduser("~/.local/state"))
    return [home / "react_ray", Path(tempfile.gettempdir(), f"react_ray-{os.getuid()}")]
