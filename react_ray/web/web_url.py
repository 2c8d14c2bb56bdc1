"""Parses URLs as people write them into URLs that can be requested.

Only characters that a request cannot carry are percent-encoded: a valid URL reaches the server byte for byte, because
any change would break signed URLs. No message repeats a URL, since it may hold a password.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from yarl import URL

from react_ray.web import status

MAX_LENGTH = 8000  # longer request lines are refused by most servers

PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\\]*)([^#]*)")
PLAIN = re.compile(
    r"https?://[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z][a-z0-9-]*/(?:[A-Za-z0-9/._~!$&'()*+,;=:@?-]|%[0-9A-Fa-f]{2})*"
)
HOST = re.compile(r"(?=.{1,253}\.?$)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
NUMBER = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)")
STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
LEGAL = "/?%:@!$&'()*+,;=-._~[]|"  # of path and query, besides letters and digits; servers accept [ ] and | unencoded
BLANK = "".join(map(chr, range(33)))  # space and control characters, which browsers strip at both ends


class UrlRefused(ValueError):
    """The URL must not be requested; `status` says why."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class WebUrl:
    url: URL
    host: str  # lower case, ASCII; an IPv6 address without brackets

    @property
    def origin(self) -> str:
        """Returns scheme, host and port, without credentials."""
        return str(self.url.origin())


def parse_url(text: str | None, schemes: Sequence[str] = ("http", "https")) -> WebUrl:
    """Returns the URL without its fragment, percent-encoded where it must be, its host in ASCII. Raises UrlRefused."""
    text = (text or "").strip(BLANK)
    if not text:
        raise UrlRefused(status.NO_URL, "no URL")
    if len(text) > MAX_LENGTH:
        raise UrlRefused(status.BAD_URL, f"longer than {MAX_LENGTH} characters")
    if PLAIN.fullmatch(text) and text.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        url = URL(text, encoded=True)
        if len(url.raw_host or "") <= 63:
            return WebUrl(url, url.raw_host or "")
    scheme = text.partition(":")[0].lower()
    if re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) and ":" in text and scheme not in schemes:
        raise UrlRefused(status.SCHEME_REFUSED, f"{scheme}: is not one of {', '.join(schemes)}")
    parts = PARTS.match(text)
    if parts is None:
        raise UrlRefused(status.BAD_URL, "not of the form http://host/path")
    authority = _authority(f"{scheme}://{parts[2]}")
    rest = STRAY_PERCENT.sub("%25", re.sub(r"[\t\r\n]", "", parts[3]))
    try:
        rest = quote(rest, safe=LEGAL, errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise UrlRefused(status.BAD_URL, "characters that are no text") from error
    url = URL(f"{authority}{rest if rest.startswith('/') else '/' + rest}", encoded=True)
    return WebUrl(url, url.raw_host or "")


def follow(url: WebUrl, location: str, schemes: Sequence[str] = ("http", "https")) -> WebUrl:
    """Returns the target of a redirect. Raises UrlRefused."""
    try:
        return parse_url(urljoin(str(url.url), location.strip(BLANK)), schemes)
    except UrlRefused:
        raise
    except ValueError as error:
        raise UrlRefused(status.BAD_URL, "redirect to something that is no URL") from error


def _authority(text: str) -> str:
    """Returns a checked `scheme://user:password@host:port`; a numeric host of any form becomes the address it stands
    for.
    """
    try:
        url = URL(text)
        host, port = url.raw_host or "", url.port
    except ValueError as error:  # includes UnicodeError, for names that IDNA cannot encode
        raise UrlRefused(status.BAD_URL, "the host or the port is not valid") from error
    if port == 0 or not (":" in host or HOST.fullmatch(host)):
        raise UrlRefused(status.BAD_URL, "the host or the port is not valid")
    return str(url.with_host(_canonical(host)) if ":" not in host else url).rstrip("/")


def _canonical(host: str) -> str:
    """Converts 2130706433, 0x7f.1 and 0177.0.0.1 to 127.0.0.1, as systems do, so that checks see the real address."""
    if not NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return host.lower()
    try:
        return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
    except OSError as error:
        raise UrlRefused(status.BAD_URL, "the host is a number but no address") from error
