"""Fetched: images at URLs, through the guard of every download: no private addresses, no redirects to them, no more
bytes than a download takes. Only where serve.fetch_urls allows it."""

from __future__ import annotations

import asyncio
from typing import Any

from react_ray.recipe import Recipe
from react_ray.serving.refusal import Refused
from react_ray.web import status
from react_ray.web.fetch import Fetcher


class Fetched:
    def __init__(self, recipe: Recipe) -> None:
        limits: dict[str, Any] = {
            "max_in_flight": 16,
            "allow_schemes": ["http", "https"],
            "allow_private_addresses": False,
        }
        limits |= {"retries": 0, "total_timeout_s": recipe.serve.timeout_s}
        self._fetcher = Fetcher(recipe.download.model_copy(update=limits))

    async def __call__(self, url: str) -> bytes:
        [found] = await asyncio.to_thread(self._fetcher.fetch, [url])
        if found.status != status.OK or not found.data:
            said = f"the URL gives no image ({found.status}: {found.error or 'nothing'}); send the image itself"
            raise Refused(said, code="bad_query", field="query.url")
        return found.data

    def close(self) -> None:
        self._fetcher.close()
