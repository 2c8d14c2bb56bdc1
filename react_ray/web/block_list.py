"""Blocks domains and URL prefixes that the recipe, or a file that it names, lists."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from react_ray.errors import ConfigError
from react_ray.storage import read_bytes
from react_ray.web.fetch_config import FetchConfig
from react_ray.web.web_url import UrlRefused, WebUrl, parse_url


class BlockList:
    """Matches URLs against a list of domains and URL prefixes.

    `example.org` blocks the domain and its subdomains; `http://example.org/art/` blocks every URL with this prefix,
    over http and https.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._domains: set[str] = set()
        self._prefixes: dict[str, list[str]] = {}  # by host: what follows the host in a URL
        for entry in entries:
            url = _parse(entry)
            if "://" in entry:
                self._prefixes.setdefault(url.host, []).append(_after_host(url))
            else:
                self._domains.add(url.host.rstrip("."))

    def blocks(self, url: WebUrl) -> bool:
        if not self._domains and not self._prefixes:
            return False
        host = url.host.rstrip(".")
        if any(_after_host(url).startswith(prefix) for prefix in self._prefixes.get(host, ())):
            return True
        labels = host.split(".")
        return any(".".join(labels[start:]) in self._domains for start in range(len(labels)))


def open_block_list(config: FetchConfig) -> BlockList:
    """Reads `blocked` and `blocked_file`. In the file, blank lines and lines that begin with # are skipped."""
    entries = list(config.blocked)
    if config.blocked_file:
        try:
            lines = read_bytes(config.blocked_file).decode().splitlines()
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"fetch.blocked_file: {config.blocked_file} is not UTF-8 text; write one domain or URL prefix a line"
            ) from error
        entries += [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    return BlockList(entries)


def _parse(entry: str) -> WebUrl:
    domain = "://" not in entry
    try:
        if domain and any(mark in entry for mark in "/?# "):
            raise UrlRefused("", "a path without http:// before its domain")
        return parse_url(f"http://{entry.removeprefix('*.')}/" if domain else entry)
    except UrlRefused as error:
        raise ConfigError(
            f"fetch.blocked: {entry!r}: {error}; write a domain, or a URL prefix that begins with http://"
        ) from error


def _after_host(url: WebUrl) -> str:
    parts = urlsplit(str(url.url))
    port = f":{url.url.explicit_port}" if url.url.explicit_port and not url.url.is_default_port() else ""
    return f"{port}{parts.path}{'?' + parts.query if parts.query else ''}"
