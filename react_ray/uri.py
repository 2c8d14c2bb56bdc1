"""Handles URIs as strings: `/path`, `file:///path`, `s3://bucket/prefix`, and `sample://file` for this package's data.

These functions access no storage; storage/ reads and writes at the URIs.
"""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from urllib.parse import urlsplit

from react_ray.errors import ConfigError

SAMPLE_DIR = Path(__file__).parent / "sample"


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *[p.strip("/") for p in parts]])


def absolute(uri: str) -> str:
    """Returns the URI in a form that means the same place in every process on every node."""
    scheme = urlsplit(uri).scheme if "://" in uri else ""
    if scheme == "sample":
        return str(SAMPLE_DIR / uri.removeprefix("sample://"))
    if scheme == "file":
        return urlsplit(uri).path
    if scheme == "s3":
        return uri.rstrip("/")
    if scheme:
        raise ConfigError(f"{uri}: unknown scheme {scheme}://; use a local path, s3:// or sample://")
    return os.path.abspath(os.path.expanduser(uri))


def is_local(uri: str) -> bool:
    return not uri.startswith("s3://")


def split_glob(uri: str) -> tuple[str, str]:
    """Splits at the first component with `*`, `?` or `[`: the folder above it, and the pattern ("" = no glob)."""
    parts = absolute(uri).split("/")
    first = next((i for i, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
    return "/".join(parts[:first]) or "/", "/".join(parts[first:])


def matches(path: str, pattern: str) -> bool:
    """Matches as a shell does: `*` stays within one folder, `**` is any number of folders."""
    return _matches(path.split("/"), pattern.split("/"))


def _matches(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_matches(parts[skipped:], patterns[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])
