"""Decides which URLs may be requested, by everything that is known without a request.

The target of a redirect passes through the same checks as a URL of the list. The addresses that a name resolves to are
checked later, by addresses.py.
"""

from __future__ import annotations

from react_ray.web import status
from react_ray.web.addresses import is_address, is_public
from react_ray.web.block_list import open_block_list
from react_ray.web.fetch_config import FetchConfig
from react_ray.web.local_url import LOCAL_SCHEMES
from react_ray.web.web_url import UrlRefused, WebUrl, follow, parse_url


class UrlPolicy:
    """Parses URLs and raises UrlRefused for a scheme, a domain or an address that the configuration does not allow."""

    def __init__(self, config: FetchConfig) -> None:
        self._schemes = tuple(scheme for scheme in config.allow_schemes if scheme not in LOCAL_SCHEMES)
        self._allow_private = config.allow_private_addresses
        self._blocked = open_block_list(config)

    def admit(self, text: str | None) -> WebUrl:
        return self._check(parse_url(text, self._schemes))

    def follow(self, url: WebUrl, location: str) -> WebUrl:
        return self._check(follow(url, location, self._schemes))

    def _check(self, url: WebUrl) -> WebUrl:
        if self._blocked.blocks(url):
            raise UrlRefused(status.BLOCKED_DOMAIN, "on the list of blocked domains and URLs")
        if not self._allow_private and is_address(url.host) and not is_public(url.host):
            raise UrlRefused(status.BLOCKED_ADDRESS, "an address that is not public")
        return url
