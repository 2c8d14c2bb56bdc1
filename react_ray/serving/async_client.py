"""AsyncClient: as Client, with `await client.search(...)`."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

import aiohttp

from react_ray.errors import ShardUnavailable
from react_ray.serving.client import Call, Calls, checked, headers_of, read


class AsyncClient(Calls):
    """`async with react_ray.connect(url, asynchronous=True) as client:`, or `await client.close()` at the end."""

    def __init__(self, url: str, key: str = "", timeout_s: float = 60.0) -> None:
        self.url, self.headers, self.timeout_s = checked(url), headers_of(key), timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def _send(self, call: Call) -> Any:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self.timeout_s)
            self._session = aiohttp.ClientSession(headers=self.headers, timeout=timeout)
        headers = {"Content-Type": call.kind} if call.body is not None else {}
        try:
            sent = self._session.request(call.method, f"{self.url}{call.path}", data=call.body, headers=headers)
            async with sent as answer:
                return read(answer.status, answer.headers.get("content-type", ""), await answer.read())
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise ShardUnavailable(
                f"{self.url} does not answer ({type(error).__name__}: {error}); start it with `react-ray serve`"
            ) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
