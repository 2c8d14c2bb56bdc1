"""Handles URIs as strings: `/path`, `file:///path`, `s3://bucket/prefix`, and the package's own files:
`sample://pool.parquet` for the sample's data, `recipes://sample.yaml` for a recipe that is shipped.

These functions access no storage; storage/ reads and writes at the URIs.
"""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from react_ray.errors import ConfigError

PACKAGE_DIR = Path(__file__).resolve().parent
SAMPLE_DIR = Path(__file__).parent / "sample"
PACKAGED = {"sample": SAMPLE_DIR, "recipes": Path(__file__).parent / "recipes"}  # scheme: the folder that it names
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
ONE_SLASH = re.compile(r"(s3|sample|recipes):", re.IGNORECASE)  # a mistyped scheme would make a local folder `s3:`


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *[p.strip("/") for p in parts]])


def absolute(uri: str) -> str:
    """Returns the URI in a form that means the same place in every process on every node.

    Raises ConfigError for a URI that could mean another place than the one that it seems to name.
    """
    if "\0" in uri:
        raise ConfigError(f"{uri!r}: no name has a NUL; remove it")
    match = SCHEME.match(uri)
    scheme, rest = (match[1].lower(), uri[match.end() :]) if match else ("", uri)
    if scheme == "s3":
        return _object(uri, rest)
    if scheme in PACKAGED:
        if ".." in rest.split("/"):
            raise ConfigError(f"{uri}: {scheme}:// names this package's data and nothing above it; remove the ..")
        return str(PACKAGED[scheme] / rest.lstrip("/"))
    if scheme == "file" or uri.lower().startswith("file:/"):
        return _local(uri, _of_file(uri, rest))
    if scheme:
        raise ConfigError(f"{uri}: unknown scheme {scheme}://; use a local path, s3://, sample:// or recipes://")
    if mistyped := ONE_SLASH.match(uri):
        scheme = mistyped[1].lower()
        raise ConfigError(f"{uri}: {scheme}: is followed by two slashes; write {scheme}://")
    return _local(uri, os.path.expanduser(uri))


def target(uri: str, field: str) -> str:
    """As `absolute`, of a place to write to. Raises ConfigError for the files of this package, and for no place."""
    if not uri.strip():
        raise ConfigError(f"{field} is empty; name a folder")
    place = absolute(uri)
    if is_local(place) and Path(place).resolve().is_relative_to(PACKAGE_DIR):
        raise ConfigError(f"{field}: {uri} is among the files of react_ray; name a folder of your own")
    return place


def _object(uri: str, rest: str) -> str:
    """Keys of objects are texts, in which `a//b` and `a/../b` are other names than `a/b`; no folder has such a name."""
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise ConfigError(f"{uri}: no bucket; write s3://bucket/prefix")
    if "@" in bucket:
        raise ConfigError("s3://...@...: a URI holds no password; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    names = key.removesuffix("/").split("/") if key else []
    for wrong in ("", ".", ".."):
        if wrong in names:
            what = f"{wrong!r} between its slashes" if wrong else "two slashes in a row"
            raise ConfigError(f"{uri} has {what}, which S3 takes for another key; write the key without, or copy it")
    return "/".join(["s3:/", bucket, *names])


def _of_file(uri: str, rest: str) -> str:
    """The path in a file URI. Its `%20` and `%23` are a space and a `#`; a bare `#` or `?` is a part of the name."""
    host, slash, path = rest.partition("/") if SCHEME.match(uri) else ("", "/", uri[len("file:/") :])
    if host not in ("", "localhost") or not slash:
        raise ConfigError(f"{uri}: {host or 'nothing'} is where a host stands; write file:/// and an absolute path")
    return os.fsdecode(unquote_to_bytes(f"/{path}"))


def _local(uri: str, path: str) -> str:
    if "\0" in path:
        raise ConfigError(f"{uri}: no name has a NUL; remove it")
    found = os.path.abspath(path)
    if ".." in path.split("/") and os.path.realpath(path) != os.path.realpath(found):
        raise ConfigError(f"{uri}: a .. behind a symbolic link means two places; name the folder itself")
    return f"/{found.lstrip('/')}"


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
