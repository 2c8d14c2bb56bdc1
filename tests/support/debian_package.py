"""Fetches a package of data from Debian's archive, for tests on real images that are not kept here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def fetch(package: str, folder: Path) -> str:
    """Downloads and unpacks a package below `folder`, as it would lie below /; returns why that was not possible, or
    ""."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return "there is no apt-get to fetch it"
    ended = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True)
    found = list(folder.glob(f"{package}_*.deb"))
    if not found:
        return f"apt-get cannot fetch {package}: {ended.stderr.strip()[-200:]}"
    subprocess.run(["dpkg-deb", "-x", found[0], folder], check=True)
    return ""
