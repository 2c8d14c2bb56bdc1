"""Reads data: and file: URLs, which need no server, where `allow_schemes` names them.

Allow file: only for your own lists: a stranger's list would read this machine's files into a dataset that may be
published.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import stat
import time
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from react_ray.row_guard import unforeseen
from react_ray.web import status
from react_ray.web.fetch_result import FetchResult
from react_ray.web.web_url import BLANK

LOCAL_SCHEMES = ("data", "file")


def local_scheme(text: str | None) -> str:
    """Returns "data" or "file" if `text` is such a URL, otherwise ""."""
    scheme = (text or "").lstrip(BLANK)[:5].lower()
    return scheme[:-1] if scheme in ("data:", "file:") else ""


def read_local(text: str, max_bytes: int) -> FetchResult:
    """Reads a data: URL (RFC 2397), or a file: URL (RFC 8089) of this machine."""
    began = time.monotonic()
    text = text.strip(BLANK)
    try:
        data = _of_data(text) if local_scheme(text) == "data" else _of_file(text, max_bytes + 1)
    except (ValueError, binascii.Error) as error:
        return FetchResult(status.BAD_URL, str(error), None, 0.0, 0, None)
    except OSError as error:
        return FetchResult(status.FILE_UNREADABLE, error.strerror, None, 0.0, 0, None)
    except Exception as error:
        return FetchResult(status.INTERNAL_ERROR, unforeseen(error), None, 0.0, 0, None)
    if len(data) > max_bytes:
        return FetchResult(status.TOO_MANY_BYTES, f"more than {max_bytes} bytes", None, 0.0, 0, None)
    if not data:
        return FetchResult(status.EMPTY, "no bytes", None, 0.0, 0, None)
    return FetchResult(status.OK, None, data, time.monotonic() - began, 0, None)


def _of_data(text: str) -> bytes:
    header, comma, body = text[len("data:") :].partition(",")
    if not comma:
        raise ValueError("a data: URL without a comma")
    data = unquote_to_bytes(body)
    return base64.b64decode(data, validate=True) if header.lower().endswith(";base64") else data


def _of_file(text: str, max_bytes: int) -> bytes:
    parts = urlsplit(text)
    if parts.hostname not in (None, "localhost") or not parts.path.startswith("/"):
        raise ValueError("not of the form file:///path")
    path = url2pathname(parts.path)
    if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe or a device may never end
        raise OSError(errno.EINVAL, "not a regular file")
    with open(path, "rb") as file:
        return file.read(max_bytes)
