"""Ray's token: whether this machine has one, and its use for a Ray that is joined by its address.

The first Ray that a program starts on a machine makes ~/.ray/auth_token (Ray 2.59 and newer), and `ray start --head`
then asks for it. A process that joins by an address shows it only if RAY_AUTH_MODE says so before Ray is imported, and
a cluster that asks for no token takes it as well. This file imports no Ray.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def token_place() -> str:
    """Where the token of this user is, as Ray looks for it: a variable's name, or a path; "" if there is none."""
    if os.environ.get(TOKEN):
        return TOKEN
    if path := os.environ.get(TOKEN_PATH):
        return path
    path = os.path.expanduser("~/.ray/auth_token")
    return path if Path(path).is_file() else ""


def use_token() -> None:
    """Call this before Ray is imported: later, Ray and the processes that it starts would not agree, so nothing is set.
    What the user has set as RAY_AUTH_MODE stays."""
    if MODE not in os.environ and "ray" not in sys.modules and token_place():
        os.environ[MODE] = "token"
